# SPDX-License-Identifier: Apache-2.0
"""State resolution v2 and v2.1: one fixture for each dispute it settles."""

from itertools import permutations

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import state_res
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import V10, V11, V12, RoomVersion
from homeserver.protocol.state_res_v2 import is_power_event, resolve_conflicts
from tests.protocol.dag import ALICE, BOB, CAROL, DAVE, Room, State, ids, versions

LEVELS = ("m.room.power_levels", "")
RULES = ("m.room.join_rules", "")
TOPIC = ("m.room.topic", "")
V2_VERSIONS = [version for version in versions(references_carry_hashes=False)] + versions(id="2")


def member(user: str) -> tuple[str, str]:
    return ("m.room.member", user)


class Dispute(SynchronousTestCase):
    """Two or more sides that start from one state."""

    def open(self, version: RoomVersion, *members: str, bob: int = 50, **levels: int) -> tuple[Room, State]:
        room = Room(version)
        users = {BOB: bob, **({} if version.creators_are_privileged else {ALICE: 100})}
        return room, room.open({"users": users, **levels}, members=members or (BOB, CAROL))

    def levels(self, room: Room, side: State, sender: str, **users: int) -> Event:
        """Power levels with the levels of some users changed, sent by `sender`."""
        named = {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE}
        content = side[LEVELS].content
        changed = {**content["users"], **{named[name]: level for name, level in users.items()}}
        return room.put(side, "m.room.power_levels", {**content, "users": changed}, sender=sender)

    def settle(self, room: Room, *sides: State) -> dict[tuple[str, str], Event]:
        """The resolution, which must not depend on any order."""
        answers = []
        for order in permutations(sides):
            events = dict(reversed(room.events.items())) if len(answers) % 2 else room.events
            answers.append(state_res.resolve(room.version, [ids(side) for side in order], events))
        for answer in answers[1:]:
            self.assertEqual(answer, answers[0])
        return {key: room.events[event_id] for key, event_id in answers[0].items()}


class Disputes(Dispute):
    def test_nothing_is_in_dispute(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            self.assertEqual(self.settle(room, state), state)
            self.assertEqual(self.settle(room, state, dict(state)), state)

    def test_new_topics_on_both_sides_the_later_one_stays(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            room.put(here, "m.room.topic", {"topic": "here"}, ts=10_000)
            late = room.put(there, "m.room.topic", {"topic": "there"}, ts=20_000)
            self.assertEqual(self.settle(room, here, there)[TOPIC], late)

    def test_topics_of_the_same_time_the_greater_event_id_stays(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            sides = [dict(state), dict(state), dict(state)]
            for number, side in enumerate(sides):
                room.put(side, "m.room.topic", {"topic": f"{number}"}, ts=10_000)
            greatest = max(side[TOPIC].event_id for side in sides)
            self.assertEqual(self.settle(room, *sides)[TOPIC].event_id, greatest)

    def test_a_topic_under_newer_power_levels_beats_a_later_one_under_old_ones(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            self.levels(room, here, ALICE, carol=10)
            newer = room.put(here, "m.room.topic", {"topic": "here"}, ts=10_000)
            room.put(there, "m.room.topic", {"topic": "there"}, ts=20_000)
            self.assertEqual(self.settle(room, here, there)[TOPIC], newer)

    def test_a_ban_beats_what_the_banned_did_meanwhile(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            before = room.put(state, "m.room.topic", {"topic": "before"})
            here, there = dict(state), dict(state)
            room.put(there, "m.room.topic", {"topic": "evasion"}, sender=BOB, ts=1)
            ban = room.put(here, "m.room.member", {"membership": "ban"}, BOB, ts=90_000)
            settled = self.settle(room, here, there)
            self.assertEqual((settled[member(BOB)], settled[TOPIC]), (ban, before))

    def test_a_ban_beats_a_new_profile_of_the_banned(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            ban = room.put(here, "m.room.member", {"membership": "ban"}, CAROL, ts=50)
            room.put(there, "m.room.member", {"membership": "join", "displayname": "x"}, CAROL, sender=CAROL, ts=90_000)
            self.assertEqual(self.settle(room, here, there)[member(CAROL)], ban)

    def test_a_demotion_beats_what_the_demoted_did_meanwhile(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            demotion = self.levels(room, here, ALICE, bob=0)
            room.put(there, "m.room.topic", {"topic": "x"}, sender=BOB)
            settled = self.settle(room, here, there)
            self.assertEqual(settled[LEVELS], demotion)
            self.assertNotIn(TOPIC, settled)

    def test_of_two_admins_who_demote_each_other_the_stronger_wins(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version, bob=99, ban=0)
            here, there = dict(state), dict(state)
            demotion = self.levels(room, here, ALICE, bob=0)
            self.levels(room, there, BOB, carol=99)
            self.assertEqual(self.settle(room, here, there)[LEVELS], demotion)

    def test_of_two_equals_who_ban_a_third_one_both_bans_hold(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version, BOB, CAROL, DAVE)
            here, there = dict(state), dict(state)
            first = room.put(here, "m.room.member", {"membership": "ban"}, CAROL, sender=ALICE)
            second = room.put(there, "m.room.member", {"membership": "ban"}, DAVE, sender=BOB)
            settled = self.settle(room, here, there)
            self.assertEqual((settled[member(CAROL)], settled[member(DAVE)]), (first, second))

    def test_closing_the_room_beats_a_join_meanwhile(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            closed = room.put(here, "m.room.join_rules", {"join_rule": "invite"})
            room.put(there, "m.room.member", {"membership": "join"}, DAVE, sender=DAVE)
            settled = self.settle(room, here, there)
            self.assertEqual(settled[RULES], closed)
            self.assertNotIn(member(DAVE), settled)

    def test_an_invite_before_the_closing_keeps_its_join(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            room.put(state, "m.room.member", {"membership": "invite"}, DAVE, sender=BOB)
            here, there = dict(state), dict(state)
            room.put(here, "m.room.join_rules", {"join_rule": "invite"})
            join = room.put(there, "m.room.member", {"membership": "join"}, DAVE, sender=DAVE)
            self.assertEqual(self.settle(room, here, there)[member(DAVE)], join)

    def test_a_kick_beats_the_invite_of_the_kicked(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version, BOB, CAROL)
            here, there = dict(state), dict(state)
            kick = room.put(here, "m.room.member", {"membership": "leave"}, BOB)
            room.put(there, "m.room.member", {"membership": "invite"}, DAVE, sender=BOB)
            settled = self.settle(room, here, there)
            self.assertEqual(settled[member(BOB)], kick)
            self.assertNotIn(member(DAVE), settled)

    def test_what_only_one_side_knows_is_checked_and_stays(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            here, there = dict(state), dict(state)
            topic = room.put(here, "m.room.topic", {"topic": "x"})
            self.assertEqual(self.settle(room, here, there)[TOPIC], topic)

    def test_three_sides_are_settled_at_once(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            sides = [dict(state), dict(state), dict(state)]
            ban = room.put(sides[0], "m.room.member", {"membership": "ban"}, BOB)
            room.put(sides[1], "m.room.name", {"name": "x"}, sender=BOB)
            topic = room.put(sides[2], "m.room.topic", {"topic": "x"})
            settled = self.settle(room, *sides)
            self.assertEqual((settled[member(BOB)], settled[TOPIC]), (ban, topic))
            self.assertNotIn(("m.room.name", ""), settled)

    def test_what_the_state_lacks_is_taken_from_the_auth_events_unless_rejected(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            grant = self.levels(room, state, ALICE, carol=50)
            topic = room.put(state, "m.room.topic", {"topic": "x"}, sender=CAROL)
            unconflicted = ids(room.state(state[member(ALICE)]))
            for rejected, expected in (set(), {TOPIC: topic.event_id}), ({grant.event_id}, {}):
                settled = resolve_conflicts(version, unconflicted, {topic.event_id}, room.events, rejected)
                self.assertEqual(settled, expected)

    def test_an_unconflicted_entry_is_not_touched(self) -> None:
        for version in V2_VERSIONS:
            room, state = self.open(version)
            topic = room.put(dict(state), "m.room.topic", {"topic": "x"})
            unconflicted = {**ids(state), TOPIC: "$other"}
            self.assertEqual(resolve_conflicts(version, unconflicted, {topic.event_id}, room.events), {})


class StateResets(Dispute):
    """What v2 gets wrong and v2.1 puts right (room version 12)."""

    def test_a_join_from_before_the_room_was_closed_is_not_lost_to_an_older_leave(self) -> None:
        for version, expected in ((V11, "leave"), (V12, "join")):
            room, state = self.open(version, BOB, CAROL)
            here, there = dict(state), dict(state)
            room.put(here, "m.room.member", {"membership": "leave"}, CAROL, sender=CAROL)
            there[member(CAROL)] = here[member(CAROL)]
            room.put(there, "m.room.member", {"membership": "join"}, CAROL, sender=CAROL)
            here[RULES] = there[RULES] = room.put(dict(state), "m.room.join_rules", {"join_rule": "invite"})
            settled = self.settle(room, here, there)
            self.assertEqual(settled[member(CAROL)].content["membership"], expected)
            self.assertEqual(settled[RULES].content["join_rule"], "invite")

    def test_power_levels_are_not_lost_because_their_sender_has_left(self) -> None:
        for version, keeps_them in ((V11, False), (V12, True)):
            room, state = self.open(version)
            newer = self.levels(room, dict(state), ALICE, carol=1)
            left = room.put(dict(state), "m.room.member", {"membership": "leave"}, ALICE)
            here = {**state, member(ALICE): left}
            there = {**here, LEVELS: newer}
            settled = self.settle(room, here, there).get(LEVELS)
            self.assertEqual(settled, newer if keeps_them else None)

    def test_power_levels_between_two_disputed_ones_are_considered(self) -> None:
        for version, keeps_the_newest in ((V11, False), (V12, True)):
            room, state = self.open(version, BOB, CAROL)
            old = state[LEVELS]
            self.levels(room, state, ALICE, carol=60)
            # Everybody's state cites the middle levels, so these are in no auth difference.
            room.put(state, "m.room.topic", {"topic": "x"})
            here, there = {**state, LEVELS: old}, dict(state)
            newest = self.levels(room, there, CAROL, dave=1)
            self.assertEqual(self.settle(room, here, there)[LEVELS], newest if keeps_the_newest else old)


class PowerEvents(SynchronousTestCase):
    def test_which_events_are_power_events(self) -> None:
        room = Room(V10)
        state = room.open(members=[BOB])
        cases = [
            (room.event("m.room.power_levels", {}, ALICE, ""), True),
            (room.event("m.room.join_rules", {}, ALICE, ""), True),
            (room.event("m.room.power_levels", {}, ALICE, "x"), False),
            (room.event("m.room.power_levels", {}, ALICE), False),
            (room.member(BOB, "leave", state, ALICE), True),
            (room.member(BOB, "ban", state, ALICE), True),
            (room.member(BOB, "leave", state), False),
            (room.member(BOB, "invite", state, ALICE), False),
            (room.member(BOB, "join", state), False),
            (room.event("m.room.member", {"membership": "ban"}, ALICE), False),
            (room.event("m.room.topic", {}, ALICE, ""), False),
            (room.create, False),
        ]
        for event, expected in cases:
            self.assertEqual(is_power_event(event), expected, event.pdu)
