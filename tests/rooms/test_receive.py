# SPDX-License-Identifier: Apache-2.0
"""Events of other servers: forks are resolved as the room version says, what the rules refuse is kept out."""

import contextlib
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from homeserver.protocol.errors import MatrixError, MissingEvents
from homeserver.protocol.events import Draft, Event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.state_res import resolve
from homeserver.services.rooms.assess import Verdict
from storage import events, names, rooms, state
from tests.harness.server import fresh_database
from tests.rooms.spine_case import Elsewhere, SpineCase

FAR = "@far:far.test"


def member(user: str, membership: str, by: str | None = None) -> Draft:
    return Draft("m.room.member", {"membership": membership}, by or user, user)


class Receiving(SpineCase):
    async def prepare(self, version: str) -> None:
        self.alice = await self.user("alice")
        self.room_id = await self.room(self.alice, version)
        self.far = Elsewhere("far.test", ROOM_VERSIONS[version], self.room_id)
        self.state = await self.spine.state.all_current(self.room_id)
        self.join = self.far.event(member(FAR, "join"), await self.heads(self.room_id), self.state, 1_000)
        self.assertEqual((await self.receive(self.join)).verdict, Verdict.ACCEPTED)
        self.state = await self.spine.state.all_current(self.room_id)

    async def say(self, body: str, prevs: list[Event]) -> Event:
        return self.far.event(Draft("m.room.message", {"body": body}, FAR), prevs, self.state, 2_000)

    async def send(self, draft: Draft) -> Event:
        event_id = await self.spine.sender.send(self.alice, self.room_id, draft)
        return (await self.db.read(events.load_by_ids, [event_id]))[event_id][1]

    async def test_a_join_and_a_message_are_accepted(self) -> None:
        for version in ("1", "6", "12"):
            await self.prepare(version)
            message = await self.say("hello", [self.join])
            self.assertEqual((await self.receive(message)).verdict, Verdict.ACCEPTED)
            self.assertEqual((await self.receive(message)).verdict, Verdict.KNOWN)
            self.assertEqual([head.event_id for head in await self.heads(self.room_id)], [message.event_id])

    async def test_a_fork_makes_two_heads_and_the_next_event_joins_them(self) -> None:
        await self.prepare("11")
        ours = await self.send(Draft("m.room.message", {"body": "ours"}, self.alice.user_id))
        theirs = await self.say("theirs", [self.join])
        await self.receive(theirs)
        self.assertEqual({head.event_id for head in await self.heads(self.room_id)}, {ours.event_id, theirs.event_id})
        both = await self.send(Draft("m.room.message", {"body": "both"}, self.alice.user_id))
        self.assertEqual(set(both.prev_event_ids), {ours.event_id, theirs.event_id})

    async def test_more_heads_than_an_event_may_cite_are_merged_first(self) -> None:
        for version in ("10", "12"):
            await self.prepare(version)
            forks = [await self.say(str(number), [self.join]) for number in range(45)]
            for fork in forks:
                self.assertEqual((await self.receive(fork)).verdict, Verdict.ACCEPTED)
            self.assertEqual(len(await self.heads(self.room_id)), 45)
            last = await self.send(Draft("m.room.name", {"name": "one again"}, self.alice.user_id, ""))
            self.assertLessEqual(len(last.prev_event_ids), 20)
            self.assertEqual([head.event_id for head in await self.heads(self.room_id)], [last.event_id])
            await self.check_against_oracle([last])
            self.alice = await self.user("alice")

    async def test_missing_prevs_and_auth_events_are_named(self) -> None:
        await self.prepare("11")
        unknown = await self.say("lost", [self.join])
        message = await self.say("later", [unknown])
        with self.assertRaises(MissingEvents) as caught:
            await self.receive(message)
        self.assertEqual(caught.exception.ids, {unknown.event_id})

    async def test_an_event_by_a_stranger_is_rejected_and_stays_out(self) -> None:
        await self.prepare("11")
        nobody = Draft("m.room.message", {"body": "spam"}, "@nobody:far.test")
        event = self.far.event(nobody, [self.join], self.state, 3_000)
        self.assertEqual((await self.receive(event)).verdict, Verdict.REJECTED)
        self.assertEqual([head.event_id for head in await self.heads(self.room_id)], [self.join.event_id])
        stored = await self.db.read(events.by_id, event.event_id)
        self.assertTrue(stored is not None and stored.flags & events.REJECTED and stored.ord is None)

    async def test_an_event_from_before_a_ban_is_soft_failed(self) -> None:
        await self.prepare("11")
        await self.send(member(FAR, "ban", self.alice.user_id))
        event = await self.say("before the ban, says far.test", [self.join])
        self.assertEqual((await self.receive(event)).verdict, Verdict.SOFT_FAILED)
        self.assertEqual(len(await self.heads(self.room_id)), 1)

    async def test_a_remote_ban_on_an_old_prev_wins_by_resolution(self) -> None:
        await self.prepare("10")
        levels = dict(self.state[("m.room.power_levels", "")].content)
        levels["users"] = {**levels["users"], FAR: 50}
        promoted = await self.send(Draft("m.room.power_levels", levels, self.alice.user_id, ""))
        self.state = await self.spine.state.all_current(self.room_id)
        topic = await self.send(Draft("m.room.topic", {"topic": "ours"}, self.alice.user_id, ""))
        theirs = self.far.event(Draft("m.room.topic", {"topic": "theirs"}, FAR, ""), [promoted], self.state, 9_000)
        self.assertEqual((await self.receive(theirs)).verdict, Verdict.ACCEPTED)
        await self.check_against_oracle([topic, theirs])

    async def test_random_forks_end_in_the_resolution_of_their_heads(self) -> None:
        for seed in range(24):
            version = ("1", "2", "6", "10", "11", "12")[seed % 6]
            await self.prepare(version)
            await self.play(random.Random(seed))
            self.alice = await self.user("alice")

    async def test_a_redaction_is_applied_also_when_it_comes_first(self) -> None:
        await self.prepare("11")
        late = await self.say("oh no", [self.join])
        redaction = self.far.event(
            Draft("m.room.redaction", {}, FAR, None, late.event_id), [self.join], self.state, 3_000
        )
        await self.receive(redaction)
        self.assertTrue((await self.stored(redaction)).flags & events.HIDDEN)
        await self.receive(late)
        self.assertFalse((await self.stored(redaction)).flags & events.HIDDEN)
        self.assertEqual(((await self.stored(late)).content, (await self.stored(late)).flags & 32), (b"{}", 32))

    async def test_a_redaction_by_somebody_without_the_power_is_hidden(self) -> None:
        await self.prepare("10")
        ours = await self.send(Draft("m.room.message", {"body": "ours"}, self.alice.user_id))
        redaction = self.far.event(Draft("m.room.redaction", {}, FAR, None, ours.event_id), [ours], self.state, 3_000)
        self.assertEqual((await self.receive(redaction)).verdict, Verdict.ACCEPTED)
        self.assertTrue((await self.stored(redaction)).flags & events.HIDDEN)
        self.assertFalse((await self.stored(ours)).flags & events.REDACTED)

    async def stored(self, event: Event) -> events.StoredEvent:
        found = await self.db.read(events.by_id, event.event_id)
        assert found is not None
        return found

    async def test_a_room_of_elsewhere_is_adopted_with_its_state(self) -> None:
        for version in ("1", "10", "12"):
            await self.prepare(version)
            every = await self.every_event()
            current = await self.spine.state.all_current(self.room_id)
            here = self.room_id
            await self.shut_and_open_empty()
            self.bob = await self.user("bob")
            prevs = [self.join]
            mine = Elsewhere("parley.test", ROOM_VERSIONS[version], here)
            join = mine.event(member(self.bob.user_id, "join"), prevs, current, 50_000)
            ids = {key: event.event_id for key, event in current.items()}
            chain = list(every.values())
            random.Random(3).shuffle(chain)
            async with self.spine.locks.lock(here) as held:
                done = await self.receiver.adopt(held, ROOM_VERSIONS[version], join, ids, chain)
            self.assertEqual(done.verdict, Verdict.ACCEPTED, done.reason)
            now = await self.spine.state.all_current(here)
            self.assertEqual({k: e.event_id for k, e in now.items()}, {**ids, join.key: join.event_id})
            said = await self.spine.sender.send(
                self.bob, here, Draft("m.room.message", {"body": "hi"}, self.bob.user_id)
            )
            self.assertTrue(said.startswith("$"))
            # What was stored as an outlier gets its place when it comes through the front door.
            topic = self.far.event(Draft("m.room.message", {"body": "later"}, FAR), [join], current, 60_000)
            self.assertEqual((await self.receive(topic)).verdict, Verdict.ACCEPTED)

    async def test_coming_back_to_a_room_takes_its_state_as_it_is_now(self) -> None:
        await self.prepare("11")
        await self.send(member(self.alice.user_id, "leave"))
        meanwhile = self.far.event(Draft("m.room.message", {"body": "gone on"}, FAR), [self.join], self.state, 70_000)
        current = {**await self.spine.state.all_current(self.room_id)}
        del current[("m.room.guest_access", "")]
        mine = Elsewhere("parley.test", ROOM_VERSIONS["11"], self.room_id)
        back = mine.event(member(self.alice.user_id, "join"), [meanwhile], current, 80_000)
        ids = {key: event.event_id for key, event in current.items()}
        async with self.spine.locks.lock(self.room_id) as held:
            done = await self.receiver.adopt(held, ROOM_VERSIONS["11"], back, ids, [])
        self.assertEqual(done.verdict, Verdict.ACCEPTED, done.reason)
        self.assertEqual([head.event_id for head in await self.heads(self.room_id)], [back.event_id])
        now = await self.spine.state.all_current(self.room_id)
        self.assertEqual({k: e.event_id for k, e in now.items()}, {**ids, back.key: back.event_id})

    async def test_an_outlier_gets_its_place_later(self) -> None:
        await self.prepare("11")
        event = await self.say("first seen by itself", [self.join])
        async with self.spine.locks.lock(self.room_id) as held:
            await self.receiver.store_outliers(held, [event])
        self.assertTrue((await self.stored(event)).flags & events.OUTLIER)
        self.assertEqual((await self.receive(event)).verdict, Verdict.ACCEPTED)
        placed = await self.stored(event)
        self.assertEqual((placed.flags & events.OUTLIER, placed.ord is not None), (0, True))
        self.assertGreater((placed.ord or 0) >> 20, placed.nid)

    async def shut_and_open_empty(self) -> None:
        self.shut()
        self.folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.url = fresh_database(self.folder)
        await self.open()

    async def play(self, chance: random.Random) -> None:
        levels = dict(self.state[("m.room.power_levels", "")].content)
        levels["users"] = {**levels["users"], FAR: 100}
        start = await self.send(Draft("m.room.power_levels", levels, self.alice.user_id, ""))
        known: list[Event] = [start]
        for step in range(25):
            if chance.random() < 0.3:
                with contextlib.suppress(MatrixError):  # the rules may say no, as they may to far.test
                    known.append(await self.send(self.some(chance, self.alice.user_id)))
                continue
            prevs = chance.sample(known, min(len(known), chance.choice([1, 1, 2])))
            after = [await self.after(one) for one in prevs]
            before = after[0] if len(after) == 1 else await self.resolved(after)
            event = self.far.event(self.some(chance, FAR), prevs, before, 10_000 + 1_000 * step)
            verdict = (await self.receive(event)).verdict
            if verdict is Verdict.ACCEPTED:
                known.append(event)
        await self.check_against_oracle(await self.heads(self.room_id))

    def some(self, chance: random.Random, sender: str) -> Draft:
        kind = chance.choice(["topic", "name", "levels", "ban", "unban", "rules", "message", "other"])
        text = str(chance.random())
        if kind == "levels":
            users = {FAR: chance.choice([50, 100]), "@x:far.test": chance.choice([0, 10])}
            if not self.far.version.creators_are_privileged:
                users[self.alice.user_id] = 100
            return Draft("m.room.power_levels", {"users": users, "ban": chance.choice([50, 60])}, sender, "")
        if kind in ("ban", "unban"):
            return member("@x:far.test", "ban" if kind == "ban" else "leave", sender)
        if kind == "rules":
            return Draft("m.room.join_rules", {"join_rule": chance.choice(["public", "invite"])}, sender, "")
        if kind == "message":
            return Draft("m.room.message", {"body": text}, sender)
        return Draft("m.room.topic" if kind == "topic" else f"x.{kind}", {"v": text}, sender, "")

    # ---- the oracle: dicts and the protocol's own resolution ----

    async def after(self, event: Event) -> dict[tuple[str, str], Event]:
        found = await self.spine.state.at_event(event.event_id)
        assert found is not None
        return found

    async def resolved(self, states: list[dict[tuple[str, str], Event]]) -> dict[tuple[str, str], Event]:
        every = await self.every_event()
        ids = [{key: event.event_id for key, event in one.items()} for one in states]
        return {key: every[one] for key, one in resolve(self.far.version, ids, every).items()}

    async def every_event(self) -> dict[str, Event]:
        def load(txn: Any) -> dict[str, Event]:
            nid = names.room_nid(txn, self.room_id)
            nids = [row[0] for row in txn.all("SELECT nid FROM event WHERE room = ?", (nid,))]
            return {event.event_id: event for event in events.load(txn, nids).values()}

        return await self.db.read(load)

    async def check_against_oracle(self, heads: list[Event]) -> None:
        states = [await self.after(head) for head in heads]
        expected = states[0] if len(states) == 1 else await self.resolved(states)
        wanted = {key: event.event_id for key, event in expected.items()}
        current = await self.spine.state.all_current(self.room_id)
        self.assertEqual({key: event.event_id for key, event in current.items()}, wanted)

        def by_tree(txn: Any) -> dict[tuple[str, str], int]:
            nid = names.room_nid(txn, self.room_id)
            assert nid is not None
            row = rooms.get(txn, nid)
            assert row is not None
            self.assertEqual(state.at(txn, nid, row.state), state.current_all(txn, nid))
            return state.current_all(txn, nid)

        await self.db.read(by_tree)
