# SPDX-License-Identifier: Apache-2.0
"""Typing: who does where, until when, and who is told."""

from homeserver.services.typing import Typing
from storage import membership
from tests.harness.server import Session
from tests.userdata.case import UserDataCase, in_room


class TypingTests(UserDataCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")
        self.room = await self.make_room(self.alice, self.bob)

    @property
    def typing(self) -> Typing:
        return next(
            page._typing
            for page in self.app.pages["client"]
            if type(page).__name__ == "TypingPage"  # type: ignore
        )

    def path(self, session: Session) -> str:
        return in_room(self.room, f"/typing/{session.user_id}")

    def now(self) -> list[str]:
        number = self.app.base.db.names.rooms[self.room]
        return self.typing.in_rooms([number])[number]

    def changes(self) -> int:
        return self.app.base.notifier.streams.ephemeral

    async def test_typing_starts_and_stops(self) -> None:
        before = self.changes()
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": True, "timeout": 5000})
        await self.call(self.bob, "PUT", self.path(self.bob), {"typing": True})
        self.assertEqual(self.now(), [self.alice.user_id, self.bob.user_id])
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": False})
        self.assertEqual(self.now(), [self.bob.user_id])
        self.assertEqual(self.changes() - before, 3)
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": False})
        await self.call(self.bob, "PUT", self.path(self.bob), {"typing": True})
        self.assertEqual(self.changes() - before, 3)

    async def test_typing_ends_by_itself(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": True, "timeout": 5000})
        self.clock.advance(4)
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": True, "timeout": 5000})
        self.clock.advance(4)
        self.assertEqual(self.now(), [self.alice.user_id])
        self.clock.advance(2)
        self.assertEqual(self.now(), [])

    async def test_nobody_types_for_hours(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": True, "timeout": 10**9})
        self.clock.advance(121)
        self.assertEqual(self.now(), [])

    async def test_who_leaves_stops(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"typing": True})
        await self.set_membership(self.room, self.alice, membership.LEAVE)
        self.assertEqual(self.now(), [])

    async def test_bad_requests_are_refused(self) -> None:
        stranger = await self.register("stranger")
        good = {"typing": True}
        await self.refused(stranger, "PUT", self.path(stranger), good, 403, "M_FORBIDDEN")
        await self.refused(self.bob, "PUT", self.path(self.alice), good, 403, "M_FORBIDDEN")
        for body in ({}, {"typing": "yes"}, {"typing": True, "timeout": "1"}, []):
            await self.refused(self.alice, "PUT", self.path(self.alice), body, 400, "M_BAD_JSON")
        await self.refused(
            self.alice, "PUT", self.path(self.alice), {"typing": True, "timeout": -1}, 400, "M_INVALID_PARAM"
        )
        self.assertEqual(self.now(), [])
