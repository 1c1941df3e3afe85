# SPDX-License-Identifier: Apache-2.0
"""Receipts and read markers over the client API, and who sees them."""

from typing import Any
from urllib.parse import quote

from storage import membership, receipts
from storage.receipts import MAIN, PRIVATE, PUBLIC, UNTHREADED
from tests.harness.server import Session
from tests.userdata.case import UserDataCase, in_room


class ReceiptTests(UserDataCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")
        self.room = await self.make_room(self.alice, self.bob)

    def path(self, event_id: str, kind: str = "m.read") -> str:
        return in_room(self.room, f"/receipt/{kind}/{quote(event_id)}")

    async def read(self, session: Session, event_id: str, kind: str = "m.read", **body: Any) -> None:
        await self.call(session, "POST", self.path(event_id, kind), body)

    async def seen_by(self, session: Session, after: int = 0) -> list[tuple[str, int, int]]:
        """(user id, thread, kind) of the receipts that a user sees."""
        db = self.app.base.db
        rooms = [db.names.rooms[self.room]]
        found = await db.read(receipts.for_rooms, rooms, after, db.published, self.usr(session))
        return sorted((one.user_id, one.thread, one.kind) for one in found)

    async def test_reading_clears_the_counts(self) -> None:
        first, second = await self.say(self.bob, self.room), await self.say(self.bob, self.room)
        self.assertEqual(await self.unread(self.alice, self.room), (2, 0, {}))
        await self.read(self.alice, first)
        self.assertEqual(await self.unread(self.alice, self.room), (1, 0, {}))
        await self.call(self.alice, "POST", self.path(second), expect=200)
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))

    async def test_receipts_never_go_back(self) -> None:
        first, second = await self.say(self.bob, self.room), await self.say(self.bob, self.room)
        await self.read(self.alice, second)
        position = self.app.base.db.published
        await self.read(self.alice, first)
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))
        self.assertEqual(await self.seen_by(self.bob, position), [])

    async def test_private_receipts_are_for_their_owner(self) -> None:
        event = await self.say(self.bob, self.room)
        await self.read(self.alice, event, "m.read.private")
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))
        self.assertEqual(await self.seen_by(self.bob), [])
        self.assertEqual(await self.seen_by(self.alice), [(self.alice.user_id, UNTHREADED, PRIVATE)])

    async def test_threads_are_read_one_by_one(self) -> None:
        root = await self.say(self.bob, self.room)
        reply = await self.say(self.bob, self.room, root)
        number = next(iter((await self.unread(self.alice, self.room))[2]))
        self.assertEqual(await self.unread(self.alice, self.room), (1, 0, {number: (1, 0)}))
        await self.read(self.alice, root, thread_id="main")
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {number: (1, 0)}))
        await self.read(self.alice, reply, thread_id=root)
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))
        self.assertEqual(
            await self.seen_by(self.bob),
            [(self.alice.user_id, MAIN, PUBLIC), (self.alice.user_id, number, PUBLIC)],
        )
        await self.say(self.bob, self.room, root)
        await self.read(self.alice, await self.say(self.bob, self.room))
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))

    async def test_bad_threads_are_refused(self) -> None:
        root = await self.say(self.bob, self.room)
        reply, other = await self.say(self.bob, self.room, root), await self.say(self.bob, self.room)
        for event, thread in ((reply, "main"), (other, root), (reply, other), (reply, "$unknown")):
            await self.refused(self.alice, "POST", self.path(event), {"thread_id": thread}, 400, "M_INVALID_PARAM")
        for thread in ("", 3, None, [root]):
            await self.refused(self.alice, "POST", self.path(reply), {"thread_id": thread}, 400, "M_INVALID_PARAM")
        body = {"thread_id": "main"}
        await self.refused(self.alice, "POST", self.path(other, "m.fully_read"), body, 400, "M_INVALID_PARAM")
        self.assertEqual(await self.seen_by(self.alice), [])
        await self.read(self.alice, root, thread_id=root)

    async def test_bad_receipts_are_refused(self) -> None:
        event = await self.say(self.bob, self.room)
        stranger = await self.register("stranger")
        await self.refused(self.alice, "POST", self.path(event, "m.moon"), {}, 400, "M_INVALID_PARAM")
        await self.refused(self.alice, "POST", self.path("$nothing"), {}, 404, "M_NOT_FOUND")
        await self.refused(stranger, "POST", self.path(event), {}, 403, "M_FORBIDDEN")
        await self.refused(self.alice, "POST", in_room("!no:x", "/receipt/m.read/$x"), {}, 403, "M_FORBIDDEN")
        await self.refused(self.alice, "POST", self.path(event), [], 400, "M_BAD_JSON")
        await self.set_membership(self.room, self.alice, membership.LEAVE)
        await self.refused(self.alice, "POST", self.path(event), {}, 403, "M_FORBIDDEN")
        self.assertEqual(await self.seen_by(self.bob), [])

    async def test_read_markers(self) -> None:
        first, second = await self.say(self.bob, self.room), await self.say(self.bob, self.room)
        markers = in_room(self.room, "/read_markers")
        data = f"/user/{self.alice.user_id}/rooms/{quote(self.room)}/account_data/m.fully_read"
        await self.refused(self.alice, "POST", markers, {"m.fully_read": second, "m.read": "$no"}, 404, "M_NOT_FOUND")
        await self.refused(self.alice, "POST", markers, {"m.fully_read": 3}, 400, "M_BAD_JSON")
        await self.refused(self.alice, "GET", data, None, 404, "M_NOT_FOUND")
        await self.call(self.alice, "POST", markers, {})
        body = {"m.fully_read": second, "m.read": first, "m.read.private": second}
        await self.call(self.alice, "POST", markers, body)
        self.assertEqual(await self.call(self.alice, "GET", data), {"event_id": second})
        self.assertEqual(await self.unread(self.alice, self.room), (0, 0, {}))
        self.assertEqual(await self.seen_by(self.bob), [(self.alice.user_id, UNTHREADED, PUBLIC)])
        await self.call(self.alice, "POST", self.path(first, "m.fully_read"), {})
        self.assertEqual(await self.call(self.alice, "GET", data), {"event_id": second})
