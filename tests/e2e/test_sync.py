# SPDX-License-Identifier: Apache-2.0
"""What a client learns about encryption from /sync: messages, key counts, and whose devices changed, in time."""

import random
from typing import Any

from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import ALGORITHM, Json
from tests.harness.server import Session


class SyncTest(EncryptionCase):
    settings = "presence: {enabled: false}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")

    async def share_room(self, *sessions: Session) -> str:
        room = await self.create_room(sessions[0], preset="public_chat")
        for session in sessions[1:]:
            await self.join(session, room)
        return room

    async def leave(self, session: Session, room: str) -> None:
        await self.request("POST", f"{V3}/rooms/{room}/leave", {}, session, expect=200)

    async def token(self, session: Session) -> str:
        return str((await self.sync(session))["next_batch"])

    async def lists(self, session: Session, since: str) -> tuple[set[str], set[str]]:
        lists = (await self.sync(session, since)).get("device_lists", {})
        return set(lists.get("changed", ())), set(lists.get("left", ()))

    async def woken(self, session: Session, since: str, cause: Any) -> Json:
        """The answer of a long poll that waits when `cause` happens."""
        query = {"since": since, "timeout": 30_000}
        poll = self.begin("GET", f"{V3}/sync", None, session, query=query, expect=200)
        await self.settle(0.05)
        self.assertFalse(poll.called, getattr(poll, "result", None))
        await cause
        return dict((await self.eventually(poll, advance=0.01)).json)

    # ---- messages ----

    async def test_a_message_comes_until_its_answer_is_acknowledged(self) -> None:
        since = await self.token(self.bob)
        await self.send_to_device(self.alice, {self.bob.user_id: {"*": {"n": 1}}}, "1")
        expected = [{"type": "m.test", "sender": self.alice.user_id, "content": {"n": 1}}]
        for _ in range(2):
            answer = await self.sync(self.bob, since)
            self.assertEqual(answer["to_device"]["events"], expected)
        self.assertNotIn("to_device", await self.sync(self.bob, answer["next_batch"]))
        await self.settle(0.05)
        self.assertNotIn("to_device", await self.sync(self.bob, since))
        self.assertNotIn("to_device", await self.sync(self.bob))

    async def test_a_message_wakes_its_device(self) -> None:
        since = await self.token(self.bob)
        cause = self.send_to_device(self.alice, {self.bob.user_id: {self.bob.device_id: {"n": 1}}}, "1")
        answer = await self.woken(self.bob, since, cause)
        self.assertEqual([one["content"] for one in answer["to_device"]["events"]], [{"n": 1}])

    async def test_a_device_that_starts_gets_what_waits_for_it(self) -> None:
        await self.send_to_device(self.alice, {self.bob.user_id: {"*": {"n": 1}}}, "1")
        answer = await self.sync(self.bob)
        self.assertEqual([one["content"] for one in answer["to_device"]["events"]], [{"n": 1}])

    async def test_more_than_a_hundred_come_in_several_answers_in_order(self) -> None:
        since = await self.token(self.bob)
        for n in range(230):
            await self.send_to_device(self.alice, {self.bob.user_id: {"*": {"n": n}}}, str(n))
        seen: list[int] = []
        for _ in range(4):
            answer = await self.sync(self.bob, since)
            events = answer.get("to_device", {}).get("events", [])
            self.assertLessEqual(len(events), 100)
            seen += [one["content"]["n"] for one in events]
            since = answer["next_batch"]
        self.assertEqual(seen, list(range(230)))

    async def test_random_syncs_lost_answers_and_restarts_lose_nothing_and_keep_the_order(self) -> None:
        chance = random.Random(5)
        since, sent, seen = await self.token(self.bob), 0, []
        for _ in range(60):
            match chance.choice(("send", "send", "sync", "sync", "lost", "restart")):
                case "send":
                    await self.send_to_device(self.alice, {self.bob.user_id: {"*": {"n": sent}}}, f"t{sent}")
                    sent += 1
                case "restart" if chance.random() < 0.3:
                    await self.restart_server()
                case "lost":
                    await self.sync(self.bob, since)
                case _:
                    answer = await self.sync(self.bob, since)
                    seen += [one["content"]["n"] for one in answer.get("to_device", {}).get("events", [])]
                    since = answer["next_batch"]
        answer = await self.sync(self.bob, since)
        seen += [one["content"]["n"] for one in answer.get("to_device", {}).get("events", [])]
        self.assertEqual(seen, list(range(sent)))

    # ---- keys ----

    async def test_key_counts_are_exact(self) -> None:
        device = await self.publish(self.bob, 1, 2)
        await self.upload(self.bob, fallback_keys=device.one_time(9, fallback=True))
        answer = await self.sync(self.bob)
        self.assertEqual(answer["device_one_time_keys_count"][ALGORITHM], 2)
        self.assertEqual(answer["device_unused_fallback_key_types"], [ALGORITHM])
        for left, fallback in ((1, [ALGORITHM]), (0, [ALGORITHM]), (0, [])):
            await self.claim(self.alice, self.bob)
            answer = await self.sync(self.bob, answer["next_batch"])
            self.assertEqual(answer["device_one_time_keys_count"].get(ALGORITHM, 0), left)
            self.assertEqual(answer["device_unused_fallback_key_types"], fallback)
        self.assertEqual((await self.sync(self.alice))["device_unused_fallback_key_types"], [])

    # ---- device lists ----

    async def test_new_devices_wake_those_who_share_a_room(self) -> None:
        await self.share_room(self.alice, self.bob)
        since = await self.token(self.alice)
        answer = await self.woken(self.alice, since, self.publish(self.bob, 1))
        self.assertEqual(answer["device_lists"]["changed"], [self.bob.user_id])

    async def test_new_cross_signing_keys_wake_those_who_share_a_room_and_oneself(self) -> None:
        await self.share_room(self.alice, self.bob)
        for session in (self.alice, self.bob):
            since = await self.token(session)
            generation = 0 if session is self.alice else 1
            answer = await self.woken(session, since, self.cross_sign(self.bob, generation))
            self.assertEqual(answer["device_lists"]["changed"], [self.bob.user_id])

    async def test_an_initial_answer_has_no_device_lists(self) -> None:
        await self.share_room(self.alice, self.bob)
        await self.publish(self.bob)
        self.assertNotIn("device_lists", await self.sync(self.alice))

    async def test_joins_leaves_and_rejoins(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        start = await self.token(self.alice), await self.token(self.bob)
        await self.join(self.bob, room)
        self.assertEqual(await self.lists(self.alice, start[0]), ({self.bob.user_id}, set()))
        self.assertEqual(await self.lists(self.bob, start[1]), ({self.alice.user_id}, set()))
        joined = await self.token(self.alice), await self.token(self.bob)
        await self.leave(self.bob, room)
        self.assertEqual(await self.lists(self.alice, joined[0]), (set(), {self.bob.user_id}))
        self.assertEqual(await self.lists(self.bob, joined[1]), (set(), {self.alice.user_id}))
        self.assertEqual(await self.lists(self.alice, start[0]), (set(), set()))
        left = await self.token(self.alice)
        await self.join(self.bob, room)
        self.assertEqual(await self.lists(self.alice, left), ({self.bob.user_id}, set()))
        self.assertEqual(await self.lists(self.alice, joined[0]), (set(), set()))

    async def test_a_change_while_away_shows_with_the_rejoin(self) -> None:
        room = await self.share_room(self.alice, self.bob)
        since = await self.token(self.alice)
        await self.leave(self.bob, room)
        await self.publish(self.bob)
        await self.join(self.bob, room)
        self.assertEqual(await self.lists(self.alice, since), ({self.bob.user_id}, set()))

    async def test_an_invite_shares_nothing_until_it_is_accepted(self) -> None:
        room = await self.create_room(self.alice, preset="private_chat")
        since = await self.token(self.alice)
        await self.request("POST", f"{V3}/rooms/{room}/invite", {"user_id": self.bob.user_id}, self.alice, expect=200)
        await self.publish(self.bob)
        self.assertEqual(await self.lists(self.alice, since), (set(), set()))
        await self.join(self.bob, room)
        self.assertEqual(await self.lists(self.alice, since), ({self.bob.user_id}, set()))

    async def test_a_second_shared_room_is_no_change_and_leaving_one_of_two_no_loss(self) -> None:
        await self.share_room(self.alice, self.bob)
        since = await self.token(self.alice)
        second = await self.share_room(self.alice, self.bob)
        self.assertEqual(await self.lists(self.alice, since), (set(), set()))
        since = await self.token(self.alice)
        await self.leave(self.bob, second)
        self.assertEqual(await self.lists(self.alice, since), (set(), set()))

    async def test_kicks_and_bans_end_sharing(self) -> None:
        for how in ("kick", "ban"):
            room = await self.share_room(self.alice, self.bob)
            since = await self.token(self.alice), await self.token(self.bob)
            body = {"user_id": self.bob.user_id}
            await self.request("POST", f"{V3}/rooms/{room}/{how}", body, self.alice, expect=200)
            self.assertEqual(await self.lists(self.alice, since[0]), (set(), {self.bob.user_id}))
            self.assertEqual(await self.lists(self.bob, since[1]), (set(), {self.alice.user_id}))

    async def test_another_device_of_ones_own_is_a_change(self) -> None:
        since = await self.token(self.alice)
        second = await self.login("alice")
        await self.publish(second)
        self.assertEqual(await self.lists(self.alice, since), ({self.alice.user_id}, set()))
        since = await self.token(self.alice)
        await self.request("POST", f"{V3}/logout", None, second, expect=200)
        self.assertEqual(await self.lists(self.alice, since), ({self.alice.user_id}, set()))

    async def test_a_closed_account_leaves(self) -> None:
        await self.share_room(self.alice, self.bob)
        await self.publish(self.bob)
        since = await self.token(self.alice)
        identifier = {"type": "m.id.user", "user": "bob"}
        auth = {"type": "m.login.password", "identifier": identifier, "password": "correct horse battery staple"}
        await self.request("POST", f"{V3}/account/deactivate", {"auth": auth}, self.bob, expect=200)
        for _ in range(50):
            if (found := await self.lists(self.alice, since))[1]:
                break
            self.clock.advance(1.0)
            await self.settle(0.02)
        self.assertEqual(found, (set(), {self.bob.user_id}))

    async def test_keys_changes_says_the_same(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        since = await self.token(self.alice)
        await self.join(self.bob, room)
        upto = await self.token(self.alice)
        query = {"from": since, "to": upto}
        answer = await self.request("GET", f"{V3}/keys/changes", None, self.alice, query=query, expect=200)
        self.assertEqual(answer.json, {"changed": [self.bob.user_id], "left": []})
