# SPDX-License-Identifier: Apache-2.0
"""What rooms see of accounts: profiles in memberships, closed accounts that leave, reports."""

from typing import Any
from urllib.parse import quote

from storage import account_removal, accounts, reports
from tests.harness.server import PASSWORD, HomeserverCase, Session


class RoomCase(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")

    async def member(self, room: str, who: Session, viewer: Session | None = None) -> Any:
        path = f"/_matrix/client/v3/rooms/{quote(room)}/state/m.room.member/{who.user_id}"
        return (await self.request("GET", path, token=viewer or self.bob, expect=200)).json

    async def until(self, room: str, who: Session, wanted: dict[str, object]) -> None:
        for _ in range(300):
            found = await self.member(room, who)
            if found == wanted:
                return
            await self.settle(0.01)
        self.assertEqual(found, wanted)

    async def set(self, field: str, value: object) -> None:
        path = f"/_matrix/client/v3/profile/{self.alice.user_id}/{field}"
        await self.request("PUT", path, {field: value}, self.alice, expect=200)


class MemberProfileTests(RoomCase):
    async def test_a_new_profile_reaches_every_room(self) -> None:
        rooms = [await self.create_room(self.bob, preset="public_chat") for _ in range(3)]
        for room in rooms:
            await self.join(self.alice, room)
        await self.set("displayname", "Alice")
        for room in rooms:
            self.assertEqual(await self.member(room, self.alice), {"membership": "join", "displayname": "Alice"})
        await self.set("avatar_url", "mxc://parley.test/a")
        shown = {"membership": "join", "displayname": "Alice", "avatar_url": "mxc://parley.test/a"}
        for room in rooms:
            await self.until(room, self.alice, shown)
        path = f"/_matrix/client/v3/profile/{self.alice.user_id}/displayname"
        await self.request("DELETE", path, None, self.alice, expect=200)
        for room in rooms:
            await self.until(room, self.alice, {"membership": "join", "avatar_url": "mxc://parley.test/a"})

    async def test_who_joins_later_brings_the_profile(self) -> None:
        await self.set("displayname", "Alice")
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        self.assertEqual(await self.member(room, self.alice), {"membership": "join", "displayname": "Alice"})
        own = await self.create_room(self.alice)
        self.assertEqual((await self.member(own, self.alice, self.alice))["displayname"], "Alice")

    async def test_rooms_that_were_left_are_left_alone(self) -> None:
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        leave = f"/_matrix/client/v3/rooms/{quote(room)}/leave"
        await self.request("POST", leave, {}, self.alice, expect=200)
        await self.set("displayname", "Alice")
        await self.settle(0.1)
        self.assertEqual(await self.member(room, self.alice), {"membership": "leave"})

    async def test_other_fields_change_no_room(self) -> None:
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        before = (await self.sync(self.bob))["next_batch"]
        await self.set("org.example.x", 1)
        await self.settle(0.1)
        self.assertNotIn("join", (await self.sync(self.bob, before)).get("rooms", {}))


class DepartureTests(RoomCase):
    async def close(self) -> None:
        auth = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
        await self.request("POST", "/_matrix/client/v3/account/deactivate", {"auth": auth}, self.alice, expect=200)

    async def test_a_closed_account_leaves_rooms_and_invites(self) -> None:
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        other = await self.create_room(self.bob, invite=[self.alice.user_id])
        await self.close()
        for left in (room, other):
            await self.until(left, self.alice, {"membership": "leave"})

    async def test_what_a_stop_interrupted_goes_on_at_the_start(self) -> None:
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        db = self.app.base.db
        usr = (await db.read(accounts.find, self.alice.user_id)).usr
        await db.write(accounts.set_deactivated, usr, False)  # announces nothing, as if the server had died here
        await self.restart_server()
        await self.until(room, self.alice, {"membership": "leave"})
        for _ in range(200):
            if not await self.app.base.db.read(accounts.leaving):
                return
            await self.settle(0.01)
        self.fail("the account is still leaving")


class ReportTests(RoomCase):
    async def stored(self) -> list[Any]:
        return [report for _, report in await self.app.base.db.read(reports.newest, reports.OPEN, 1 << 60, 10)]

    async def test_reports_are_kept(self) -> None:
        room = await self.create_room(self.bob, preset="public_chat")
        await self.join(self.alice, room)
        event = await self.send(self.bob, room)
        v3 = "/_matrix/client/v3"
        for path, body in (
            (f"{v3}/rooms/{quote(room)}/report/{quote(event)}", {"reason": "spam", "score": -50}),
            (f"{v3}/rooms/{quote(room)}/report/{quote(event)}", {}),
            (f"{v3}/rooms/{quote(room)}/report", {"reason": ""}),
            (f"{v3}/users/{self.bob.user_id}/report", {"reason": "rude"}),
        ):
            reply = await self.request("POST", path, body, self.alice)
            self.assertEqual((reply.status, reply.json), (200, {}), path)
        user, room_, bare, first = await self.stored()
        self.assertEqual((first.room, first.event, first.reason, first.score), (room, event, "spam", -50))
        self.assertEqual((bare.event, bare.reason, bare.score), (event, "", None))
        self.assertEqual((room_.room, room_.event), (room, None))
        self.assertEqual((user.target, user.reason), (self.bob.user_id, "rude"))

    async def test_what_cannot_be_reported(self) -> None:
        room = await self.create_room(self.bob)
        other = await self.create_room(self.alice)
        event = await self.send(self.bob, room)
        v3 = "/_matrix/client/v3"
        for path, body, errcode in (
            (f"{v3}/rooms/{quote(room)}/report/{quote(event)}", {}, "M_NOT_FOUND"),
            (f"{v3}/rooms/{quote(other)}/report/{quote(event)}", {}, "M_NOT_FOUND"),
            (f"{v3}/rooms/nonsense/report/{quote(event)}", {}, "M_NOT_FOUND"),
            (f"{v3}/rooms/!x:y/report", {"reason": "x"}, "M_NOT_FOUND"),
            (f"{v3}/rooms/{quote(room)}/report", {}, "M_BAD_JSON"),
            (f"{v3}/rooms/{quote(room)}/report", {"reason": 5}, "M_BAD_JSON"),
            (f"{v3}/rooms/{quote(room)}/report", {"reason": "x" * 1001}, "M_BAD_JSON"),
            (f"{v3}/rooms/{quote(other)}/report/{quote(event)}", {"score": 5}, "M_BAD_JSON"),
            (f"{v3}/users/@nobody:parley.test/report", {"reason": "x"}, "M_NOT_FOUND"),
            (f"{v3}/users/nobody/report", {"reason": "x"}, "M_NOT_FOUND"),
        ):
            reply = await self.request("POST", path, body, self.alice)
            self.assertEqual(reply.json["errcode"], errcode, path)
        self.assertEqual(await self.stored(), [])


class ClosedDataTests(HomeserverCase):
    async def test_closing_and_forgetting_leave_nothing_of_the_account(self) -> None:
        alice = await self.register("alice")
        path = f"/_matrix/client/v3/user/{alice.user_id}/account_data/m.x"
        await self.request("PUT", path, {"a": 1}, alice, expect=200)
        db = self.app.base.db
        usr = (await db.read(accounts.find, alice.user_id)).usr
        await db.write(account_removal.close, usr, True)
        await db.write(account_removal.forget_data, usr)
        for table in ("account_data", "device", "access_token", "profile_field", "threepid"):
            sql = f"SELECT * FROM {table} WHERE usr = ?"  # noqa: S608
            rows = await db.read(lambda txn, sql=sql: txn.all(sql, (usr,)))
            self.assertEqual(rows, [], table)
