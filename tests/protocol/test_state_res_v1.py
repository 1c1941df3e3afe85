# SPDX-License-Identifier: Apache-2.0
"""State resolution of room version 1, with its known faults."""

import hashlib
from itertools import permutations

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import state_res
from homeserver.protocol.errors import MissingEvents
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import V1
from tests.protocol.dag import ALICE, BOB, CAROL, Room, State, ids

LEVELS = ("m.room.power_levels", "")
RULES = ("m.room.join_rules", "")
TOPIC = ("m.room.topic", "")


class Disputes(SynchronousTestCase):
    def open(self) -> tuple[Room, State]:
        room = Room(V1)
        return room, room.open({"users": {ALICE: 100, BOB: 50}}, members=(BOB, CAROL))

    def settle(self, room: Room, *sides: State) -> dict[tuple[str, str], Event]:
        answers = [state_res.resolve(V1, [ids(side) for side in order], room.events) for order in permutations(sides)]
        for answer in answers[1:]:
            self.assertEqual(answer, answers[0])
        return {key: room.events[event_id] for key, event_id in answers[0].items()}

    def test_the_deepest_allowed_topic_wins(self) -> None:
        room, state = self.open()
        sides = [dict(state), dict(state), dict(state)]
        for side, depth in zip(sides, (20, 40, 30), strict=True):
            room.put(side, "m.room.topic", {"topic": str(depth)}, depth=depth)
        self.assertEqual(self.settle(room, *sides)[TOPIC].depth, 40)

    def test_of_equally_deep_topics_the_smallest_sha1_wins(self) -> None:
        room, state = self.open()
        sides = [dict(state), dict(state), dict(state)]
        for side in sides:
            room.put(side, "m.room.topic", {"topic": "x"}, depth=20)
        winner = min((side[TOPIC] for side in sides), key=lambda event: hashlib.sha1(event.event_id.encode()).digest())
        self.assertEqual(self.settle(room, *sides)[TOPIC], winner)

    def test_a_topic_that_is_not_allowed_does_not_win(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        allowed = room.put(here, "m.room.topic", {"topic": "x"}, depth=20)
        room.put(there, "m.room.topic", {"topic": "y"}, sender=CAROL, depth=40)
        self.assertEqual(self.settle(room, here, there)[TOPIC], allowed)

    def test_where_no_topic_is_allowed_the_least_deep_stays(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        first = room.put(here, "m.room.topic", {"topic": "x"}, sender=CAROL, depth=20)
        room.put(there, "m.room.topic", {"topic": "y"}, sender=CAROL, depth=40)
        self.assertEqual(self.settle(room, here, there)[TOPIC], first)

    def test_power_levels_are_tried_from_the_least_deep_on_until_one_fails(self) -> None:
        room, state = self.open()
        sides = [dict(state), dict(state), dict(state)]
        # Bob is demoted at depth 20, so his levels of depth 30 fail, and Alice's of depth 40 are not reached.
        demoted = room.put(sides[0], "m.room.power_levels", {"users": {ALICE: 100, BOB: 0}}, depth=20)
        room.put(sides[1], "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}, "invite": 1}, sender=BOB, depth=30)
        room.put(sides[2], "m.room.power_levels", {"users": {ALICE: 100}, "invite": 2}, depth=40)
        self.assertEqual(self.settle(room, *sides)[LEVELS], demoted)

    def test_power_levels_that_allow_each_other_end_with_the_deepest(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        room.put(here, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}, "invite": 1}, depth=20)
        deepest = room.put(there, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}, "invite": 2}, depth=30)
        self.assertEqual(self.settle(room, here, there)[LEVELS], deepest)

    def test_members_are_judged_by_the_settled_levels_and_join_rules(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        demoted = room.put(here, "m.room.power_levels", {"users": {ALICE: 100, BOB: 0}}, depth=40)
        room.put(there, "m.room.power_levels", {"users": {ALICE: 100, BOB: 50}, "invite": 1}, depth=20)
        profile = room.put(
            here, "m.room.member", {"membership": "join", "displayname": "C"}, CAROL, sender=CAROL, depth=30
        )
        room.put(there, "m.room.member", {"membership": "ban"}, CAROL, sender=BOB, depth=50)
        settled = self.settle(room, here, there)
        self.assertEqual(settled[LEVELS], demoted)
        self.assertEqual(settled[("m.room.member", CAROL)], profile)

    def test_join_rules_are_settled_before_members(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        room.put(here, "m.room.join_rules", {"join_rule": "public", "x": 1}, depth=20)
        closed = room.put(there, "m.room.join_rules", {"join_rule": "invite"}, depth=30)
        self.assertEqual(self.settle(room, here, there)[RULES], closed)

    def test_what_only_one_side_has_is_no_conflict(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        topic = room.put(here, "m.room.topic", {"topic": "x"}, sender=CAROL)
        self.assertEqual(self.settle(room, here, there)[TOPIC], topic)

    def test_missing_events_are_named(self) -> None:
        room, state = self.open()
        here, there = dict(state), dict(state)
        topics = {room.put(side, "m.room.topic", {"topic": "x"}).event_id for side in (here, there)}
        error = self.assertRaises(MissingEvents, state_res.resolve, V1, [ids(here), ids(there)], {})
        self.assertEqual(error.ids, topics)
        events = {event_id: room.events[event_id] for event_id in topics}
        error = self.assertRaises(MissingEvents, state_res.resolve, V1, [ids(here), ids(there)], events)
        needed = (("m.room.create", ""), LEVELS, ("m.room.member", ALICE))
        self.assertEqual(error.ids, {state[key].event_id for key in needed})
