# SPDX-License-Identifier: Apache-2.0
"""Presence: said, noticed, forgotten, and shown to those who share a room."""

from typing import Any

from homeserver.services.callers import User
from homeserver.services.presence import Presence
from tests.harness.server import Session
from tests.userdata.case import UserDataCase


class PresenceTests(UserDataCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")

    @property
    def presence(self) -> Presence:
        return next(
            page._presence
            for page in self.app.pages["client"]
            if type(page).__name__ == "PresencePage"  # type: ignore
        )

    def path(self, session: Session) -> str:
        return f"/presence/{session.user_id}/status"

    def user(self, session: Session) -> User:
        return User(session.user_id, self.usr(session), session.device_id, 1)

    async def since(self, session: Session, after: int) -> list[Any]:
        return await self.presence.since(self.user(session), after, self.app.base.db.published)

    async def test_what_is_set_is_seen_by_those_in_a_room_together(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"presence": "unavailable", "status_msg": "tea"})
        shown = {"presence": "unavailable", "status_msg": "tea", "last_active_ago": 0}
        self.assertEqual(await self.call(self.alice, "GET", self.path(self.alice)), shown)
        await self.refused(self.bob, "GET", self.path(self.alice), None, 403, "M_FORBIDDEN")
        self.assertEqual(await self.since(self.bob, 0), [])
        await self.make_room(self.alice, self.bob)
        self.clock.advance(3)
        shown["last_active_ago"] = 3000
        self.assertEqual(await self.call(self.bob, "GET", self.path(self.alice)), shown)
        event = {"type": "m.presence", "sender": self.alice.user_id, "content": shown}
        self.assertEqual(await self.since(self.bob, 0), [event])

    async def test_bad_requests_are_refused(self) -> None:
        path = self.path(self.alice)
        await self.refused(self.bob, "PUT", path, {"presence": "online"}, 403, "M_FORBIDDEN")
        await self.refused(self.alice, "PUT", path, {"presence": "moon"}, 400, "M_INVALID_PARAM")
        await self.refused(self.alice, "PUT", path, {}, 400, "M_BAD_JSON")
        await self.refused(self.alice, "PUT", path, {"presence": "online", "status_msg": 3}, 400, "M_BAD_JSON")
        long = {"presence": "online", "status_msg": "x" * 2000}
        await self.refused(self.alice, "PUT", path, long, 400, "M_INVALID_PARAM")
        await self.refused(self.alice, "GET", "/presence/@nobody:parley.test/status", None, 404, "M_NOT_FOUND")
        self.assertEqual(await self.call(self.alice, "GET", path), {"presence": "offline"})

    async def test_syncing_is_online_then_idle_then_gone(self) -> None:
        await self.make_room(self.alice, self.bob)
        user = self.user(self.alice)
        start = self.app.base.db.published
        with self.presence.attending(user):
            await self.settle(0.05)
            self.assertEqual((await self.since(self.bob, start))[0]["content"]["presence"], "online")
        middle = self.app.base.db.published
        with self.presence.attending(user):
            self.clock.pump([10.0] * 31)
            await self.settle(0.05)
            self.assertEqual((await self.since(self.bob, middle))[0]["content"]["presence"], "unavailable")
            self.presence.active(user.usr)
            await self.settle(0.05)
            self.assertEqual(
                (await self.since(self.bob, middle))[0]["content"],
                {"presence": "online", "last_active_ago": 0, "currently_active": True},
            )
        self.clock.pump([10.0] * 5)
        await self.settle(0.05)
        self.assertEqual((await self.since(self.bob, middle))[0]["content"]["presence"], "offline")

    async def test_those_one_meets_in_a_room_are_shown(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"presence": "unavailable"})
        await self.call(self.bob, "PUT", self.path(self.bob), {"presence": "unavailable"})
        before = [(await self.sync(one))["next_batch"] for one in (self.alice, self.bob)]
        await self.make_room(self.alice, self.bob)
        for one, other, since in zip((self.alice, self.bob), (self.bob, self.alice), before, strict=True):
            answer = await self.sync(one, since)
            self.assertIn(other.user_id, [event["sender"] for event in answer["presence"]["events"]])
            self.assertNotIn("presence", await self.sync(one, answer["next_batch"]))

    async def test_deeds_within_a_minute_tell_nobody(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"presence": "online"})
        before = self.app.base.db.published
        self.clock.advance(20)
        self.presence.active(self.usr(self.alice))
        await self.call(self.alice, "PUT", self.path(self.alice), {"presence": "online"})
        await self.settle(0.05)
        self.assertEqual(self.app.base.db.published, before)
        self.assertEqual((await self.call(self.alice, "GET", self.path(self.alice)))["last_active_ago"], 0)

    async def test_offline_syncs_say_nothing(self) -> None:
        with self.presence.attending(self.user(self.alice), "offline"):
            await self.settle(0.05)
            self.assertEqual(await self.call(self.alice, "GET", self.path(self.alice)), {"presence": "offline"})

    async def test_the_status_outlives_a_restart(self) -> None:
        await self.call(self.alice, "PUT", self.path(self.alice), {"presence": "online", "status_msg": "tea"})
        await self.restart_server()
        self.assertEqual((await self.call(self.alice, "GET", self.path(self.alice)))["status_msg"], "tea")


class NoPresenceTests(UserDataCase):
    settings = "presence: {enabled: false}"

    async def test_everybody_is_offline_where_it_is_off(self) -> None:
        alice = await self.register("alice")
        path = f"/presence/{alice.user_id}/status"
        await self.call(alice, "PUT", path, {"presence": "online"})
        self.assertEqual(await self.call(alice, "GET", path), {"presence": "offline"})
