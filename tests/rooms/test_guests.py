# SPDX-License-Identifier: Apache-2.0
"""What guests may do in rooms, and what they are shown that ask in the old way."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase

GUEST_ACCESS = "m.room.guest_access"


class Guests(RoomCase):
    settings = "registration: {enabled: true, guests: true}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        made = (await self.request("POST", f"{V3}/register?kind=guest", {}, expect=200)).json
        self.guest = Session(made["user_id"], made["access_token"], made.get("device_id", ""))

    async def open_room(self, access: str = "can_join") -> str:
        content = {"type": GUEST_ACCESS, "state_key": "", "content": {"guest_access": access}}
        return await self.create_room(self.alice, preset="public_chat", initial_state=[content])

    async def test_guests_join_where_they_are_wanted_only(self) -> None:
        await self.act(self.guest, await self.open_room(), "join")
        await self.join(self.guest, await self.open_room())
        reply = await self.act(self.guest, await self.open_room("forbidden"), "join", expect=403)
        self.assertEqual(reply.json["errcode"], "M_GUEST_ACCESS_FORBIDDEN")
        room = await self.create_room(self.alice, preset="public_chat")
        await self.put_state(self.alice, room, GUEST_ACCESS, {})
        await self.act(self.guest, room, "join", expect=403)

    async def test_guests_leave_when_they_are_wanted_no_more(self) -> None:
        room = await self.open_room()
        await self.act(self.guest, room, "join")
        await self.act(self.bob, room, "join")
        await self.put_state(self.alice, room, GUEST_ACCESS, {"guest_access": "forbidden"})
        await self.settle(0.1)
        self.assertEqual((await self.member(self.alice, room, self.guest))["membership"], "leave")
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "join")

    async def test_guests_invite_nobody_and_make_no_aliases(self) -> None:
        room = await self.open_room()
        await self.act(self.guest, room, "join")
        for what, body in (("invite", {"user_id": self.bob.user_id}), ("kick", {"user_id": self.bob.user_id})):
            reply = await self.act(self.guest, room, what, body, expect=403)
            self.assertEqual(reply.json["errcode"], "M_GUEST_ACCESS_FORBIDDEN")
        await self.act(self.guest, room, "leave")

    async def test_guests_look_into_world_readable_rooms(self) -> None:
        content = {"history_visibility": "world_readable"}
        initial = [{"type": "m.room.history_visibility", "state_key": "", "content": content}]
        room = await self.create_room(self.alice, initial_state=initial)
        await self.send(self.alice, room, "hello")
        path = f"{V3}/rooms/{quote(room)}"
        page = (await self.request("GET", f"{path}/messages?dir=b", None, self.guest, expect=200)).json
        self.assertEqual(page["chunk"][0]["content"]["body"], "hello")
        await self.request("GET", f"{path}/state", None, self.guest, expect=200)
        await self.request("GET", f"{path}/initialSync", None, self.guest, expect=200)


class InTheOldWay(RoomCase):
    async def everything(self, user: Session, room: str, expect: int = 200) -> Any:
        return (await self.request("GET", f"{V3}/rooms/{quote(room)}/initialSync", None, user, expect=expect)).json

    async def test_everything_of_a_room_at_once(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        sent = await self.send(self.alice, room, "hello")
        tag = f"{V3}/user/{quote(self.alice.user_id)}/rooms/{quote(room)}/tags/u.work"
        await self.request("PUT", tag, {}, self.alice, expect=200)
        found = await self.everything(self.alice, room)
        self.assertEqual((found["membership"], found["visibility"]), ("join", "private"))
        self.assertEqual(found["messages"]["chunk"][-1]["event_id"], sent)
        self.assertIn("m.room.create", [event["type"] for event in found["state"]])
        for path in (f"{V3}/rooms/{quote(room)}/initialSync", f"{V3}/initialSync"):
            for limit in (0, 1):
                some = (await self.request("GET", path, None, self.alice, query={"limit": limit}, expect=200)).json
                for one in some.get("rooms", [some]):
                    self.assertEqual(len(one["messages"]["chunk"]), limit)
            await self.request("GET", path, None, self.alice, query={"limit": "few"}, expect=400)
        self.assertEqual(found["account_data"], [{"type": "m.tag", "content": {"tags": {"u.work": {}}}}])
        await self.everything(self.bob, room, 403)
        await self.join(self.bob, room)
        await self.act(self.bob, room, "leave")
        await self.send(self.alice, room, "later")
        left = await self.everything(self.bob, room)
        self.assertEqual(left["membership"], "leave")
        self.assertEqual(left["messages"]["chunk"][-1]["content"]["membership"], "leave")
