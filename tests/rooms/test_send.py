# SPDX-License-Identifier: Apache-2.0
"""Sending: once per transaction id, in the order of acceptance, refused where the rules refuse."""

from typing import Any

from twisted.internet.defer import gatherResults

from tests.harness.server import HomeserverCase, Session


class Sending(HomeserverCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def room(self, **wishes: Any) -> str:
        reply = await self.request("POST", "/_matrix/client/v3/createRoom", wishes, token=self.alice.token)
        self.assertEqual(reply.status, 200, reply.json)
        return str(reply.json["room_id"])

    async def send(self, who: Session, room: str, body: str, txn: str) -> Any:
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}"
        return await self.request("PUT", path, {"msgtype": "m.text", "body": body}, token=who.token)

    async def test_a_message_gets_an_id(self) -> None:
        room = await self.room()
        reply = await self.send(self.alice, room, "hello", "1")
        self.assertEqual(reply.status, 200)
        self.assertRegex(reply.json["event_id"], r"^\$[A-Za-z0-9_-]{43}$")

    async def test_resending_returns_the_same_event_also_after_a_restart(self) -> None:
        room = await self.room()
        first = (await self.send(self.alice, room, "hello", "1")).json["event_id"]
        self.assertEqual((await self.send(self.alice, room, "hello", "1")).json["event_id"], first)
        await self.restart_server()
        self.assertEqual((await self.send(self.alice, room, "hello", "1")).json["event_id"], first)
        self.assertNotEqual((await self.send(self.alice, room, "hello", "2")).json["event_id"], first)

    async def test_the_same_request_twice_at_once_is_one_event(self) -> None:
        from twisted.internet.defer import ensureDeferred

        room = await self.room()
        replies = await gatherResults([ensureDeferred(self.send(self.alice, room, "x", "1")) for _ in range(5)])
        self.assertEqual(len({reply.json["event_id"] for reply in replies}), 1)

    async def test_many_at_once_become_a_chain(self) -> None:
        from twisted.internet.defer import ensureDeferred

        room = await self.room()
        replies = await gatherResults([ensureDeferred(self.send(self.alice, room, "x", str(n))) for n in range(30)])
        self.assertEqual(len({reply.json["event_id"] for reply in replies}), 30)

    async def test_a_stranger_may_not_send(self) -> None:
        room = await self.room()
        reply = await self.send(self.bob, room, "let me in", "1")
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_an_unknown_room_is_forbidden(self) -> None:
        reply = await self.send(self.alice, "!nowhere:parley.test", "hello?", "1")
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
