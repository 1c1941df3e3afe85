# SPDX-License-Identifier: Apache-2.0
"""Properties of state resolution on random rooms, and its parts against their definitions."""

from collections.abc import Mapping, Set
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import state_res
from homeserver.protocol.auth_rules import authorize
from homeserver.protocol.conflicts import auth_chain, auth_difference, conflicted_subgraph, split
from homeserver.protocol.errors import MissingEvents, Rejected
from homeserver.protocol.events import Event
from homeserver.protocol.ordering import (
    mainline_of,
    mainline_order,
    require_power_levels,
    reverse_topological_power_order,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS, V11, V12, RoomVersion
from homeserver.protocol.state_res_v2 import resolve_conflicts
from tests.protocol.dag import ALICE, BOB, CAROL, DAVE, Room, State, ids

USERS = (ALICE, BOB, CAROL, DAVE)
LEVELS = ("m.room.power_levels", "")
CHOSEN_VERSIONS = [ROOM_VERSIONS[name] for name in ("1", "2", "6", "10", "11", "12")]


class RandomRoom:
    """A room in which servers act on their own sides and merge now and then."""

    def __init__(self, version: RoomVersion, chance: Random) -> None:
        self.version = version
        self.chance = chance
        self.room = Room(version)
        start = self.room.open(
            {"users": {BOB: 50}} if version is V12 else {"users": {ALICE: 100, BOB: 50}}, members=USERS[1:3]
        )
        self.sides: list[State] = [dict(start) for _ in range(chance.randint(2, 4))]
        for _ in range(chance.randint(1, 25)):
            self.step()

    def step(self) -> None:
        side = self.chance.choice(self.sides)
        if self.chance.random() < 0.15:
            other = self.chance.choice(self.sides)
            merged = state_res.resolve(self.version, [ids(side), ids(other)], self.room.events)
            side.update({key: self.room.events[event_id] for key, event_id in merged.items()})
            for key in side.keys() - merged.keys():
                del side[key]
            return
        event = self.action(side, self.chance.choice(USERS))
        try:
            authorize(self.version, event, side)
        except Rejected:
            return
        if event.key is not None:
            side[event.key] = event

    def action(self, side: State, sender: str) -> Event:
        chance, target = self.chance, self.chance.choice(USERS)
        time = chance.randint(1, 30)
        kind = chance.choice(("member", "member", "self", "levels", "rules", "topic"))
        if kind == "levels":
            # Before version 12 a merge can lose the levels altogether, when their sender has left since.
            content = dict(side[LEVELS].content) if LEVELS in side else {}
            content["users"] = {**content.get("users", {}), target: chance.choice((0, 10, 50, 100))}
            if self.version is V12:
                content["users"].pop(ALICE, None)
            return self.room.event("m.room.power_levels", content, sender, "", side, ts=time)
        if kind == "rules":
            rule = chance.choice(("public", "invite"))
            return self.room.event("m.room.join_rules", {"join_rule": rule}, sender, "", side, ts=time)
        if kind == "topic":
            return self.room.event("m.room.topic", {"topic": str(time)}, sender, "", side, ts=time)
        if kind == "self":
            return self.room.member(sender, chance.choice(("join", "leave")), side, ts=time)
        return self.room.member(target, chance.choice(("invite", "leave", "ban")), side, sender, ts=time)


ROOMS = st.builds(RandomRoom, st.sampled_from(CHOSEN_VERSIONS), st.randoms(use_true_random=False))


class Resolution(SynchronousTestCase):
    @settings(deadline=None, max_examples=80)
    @given(ROOMS, st.randoms(use_true_random=False))
    def test_the_answer_depends_on_no_order_and_on_no_repetition(self, random_room: RandomRoom, chance: Random) -> None:
        sides = [ids(side) for side in random_room.sides]
        events = random_room.room.events
        expected = state_res.resolve(random_room.version, sides, events)
        for _ in range(3):
            shuffled = [dict(chance.sample(list(side.items()), len(side))) for side in sides]
            chance.shuffle(shuffled)
            shuffled_events = dict(chance.sample(list(events.items()), len(events)))
            repeated = [*shuffled, chance.choice(shuffled)]
            self.assertEqual(state_res.resolve(random_room.version, repeated, shuffled_events), expected)

    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_what_all_agree_on_stays_and_every_entry_has_its_key(self, random_room: RandomRoom) -> None:
        sides = [ids(side) for side in random_room.sides]
        events = random_room.room.events
        answer = state_res.resolve(random_room.version, sides, events)
        unconflicted, _ = split(sides)
        self.assertEqual({key: answer[key] for key in unconflicted}, unconflicted)
        self.assertTrue(all(events[event_id].key == key for key, event_id in answer.items()))
        for side in sides:
            self.assertEqual(state_res.resolve(random_room.version, [side], events), side)

    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_missing_events_are_asked_for_until_the_answer_is_there(self, random_room: RandomRoom) -> None:
        sides = [ids(side) for side in random_room.sides]
        events = random_room.room.events
        loaded: dict[str, Event] = {}
        for _ in range(len(events) + 1):
            try:
                answer = state_res.resolve(random_room.version, sides, loaded)
                break
            except MissingEvents as error:
                self.assertTrue(error.ids)
                self.assertFalse(error.ids & loaded.keys())
                loaded |= {event_id: events[event_id] for event_id in error.ids}
        self.assertEqual(answer, state_res.resolve(random_room.version, sides, events))

    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_the_conflicts_alone_need_few_events(self, random_room: RandomRoom) -> None:
        if random_room.version.references_carry_hashes:
            return
        version, events = random_room.version, random_room.room.events
        sides = [ids(side) for side in random_room.sides]
        unconflicted, conflicted = split(sides)
        full: set[str] = {event_id for found in conflicted.values() for event_id in found}
        full |= auth_difference(sides, events)
        if version is V12:
            full |= conflicted_subgraph({i for found in conflicted.values() for i in found}, events)
        loaded: dict[str, Event] = {}
        for _ in range(len(events) + 1):
            try:
                changes = resolve_conflicts(version, unconflicted, full, loaded)
                break
            except MissingEvents as error:
                loaded |= {event_id: events[event_id] for event_id in error.ids}
        self.assertEqual({**unconflicted, **changes}, state_res.resolve(version, sides, events))


class Definitions(SynchronousTestCase):
    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_the_auth_difference_is_the_union_of_chains_without_their_intersection(
        self, random_room: RandomRoom
    ) -> None:
        events = random_room.room.events
        sides = [ids(side) for side in random_room.sides]
        chains = [set().union(*(naive_chain(event_id, events) for event_id in side.values())) for side in sides]
        self.assertEqual(auth_difference(sides, events), set().union(*chains) - set.intersection(*chains))

    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_the_subgraph_holds_what_lies_between_two_conflicted_events(self, random_room: RandomRoom) -> None:
        events = random_room.room.events
        _, conflicted = split([ids(side) for side in random_room.sides])
        found = {event_id for several in conflicted.values() for event_id in several}
        expected = {
            event_id
            for event_id in events
            if (event_id in found or any(event_id in naive_chain(other, events) for other in found))
            and (event_id in found or naive_chain(event_id, events) & found)
        }
        # Conflicted events that reach no other one belong to the full conflicted set anyway.
        self.assertEqual(conflicted_subgraph(found, events) | found, expected)

    @settings(deadline=None, max_examples=60)
    @given(ROOMS, st.randoms(use_true_random=False))
    def test_the_power_order_is_the_smallest_topological_one(self, random_room: RandomRoom, chance: Random) -> None:
        events = random_room.room.events
        chosen = set(chance.sample(sorted(events), chance.randint(1, len(events))))
        levels = {user: level for user, level in zip(USERS, (100, 50, 50, 0), strict=True)}

        def level(event: Event) -> float:
            return levels[event.sender]

        order = reverse_topological_power_order(chosen, events, level)
        self.assertEqual(order, naive_order(chosen, events, levels))

    @settings(deadline=None, max_examples=60)
    @given(ROOMS)
    def test_the_mainline_order_follows_its_definition(self, random_room: RandomRoom) -> None:
        events = random_room.room.events
        levels = random_room.sides[0].get(LEVELS)
        for basis in (None, None if levels is None else levels.event_id):
            mainline = mainline_of(basis, events)
            order = mainline_order(events, basis, events)
            positions = [naive_position(events[event_id], mainline, events) for event_id in order]
            self.assertEqual(positions, sorted(positions, reverse=True))
            ranks = [(-p, events[i].origin_server_ts, i) for p, i in zip(positions, order, strict=True)]
            self.assertEqual(ranks, sorted(ranks))
            self.assertEqual(set(order), set(events))


class Conflicts(SynchronousTestCase):
    def test_an_entry_that_one_side_lacks_is_conflicted(self) -> None:
        self.assertEqual(split([{("a", ""): "$1"}, {}]), ({}, {("a", ""): frozenset({"$1"})}))
        self.assertEqual(split([{}, {("a", ""): "$1"}]), ({}, {("a", ""): frozenset({"$1"})}))
        self.assertEqual(split([{("a", ""): "$1"}] * 2), ({("a", ""): "$1"}, {}))
        self.assertEqual(split([]), ({}, {}))
        self.assertEqual(auth_difference([], {}), frozenset())

    def test_all_missing_events_of_a_level_are_named_at_once(self) -> None:
        room = Room(V11)
        state = room.open(members=[BOB])
        error = self.assertRaises(MissingEvents, auth_chain, [event.event_id for event in state.values()], {})
        self.assertEqual(error.ids, {event.event_id for event in state.values()})
        error = self.assertRaises(MissingEvents, mainline_of, "$x", {})
        self.assertEqual(error.ids, {"$x"})

    def test_the_ancestry_of_power_levels_is_asked_for_event_by_event(self) -> None:
        room = Room(V11)
        state = room.open(members=[BOB])
        levels = state[LEVELS]
        topic = room.event("m.room.topic", {}, ALICE, "", state)
        known = {topic.event_id: topic}
        for ask in (require_power_levels, mainline_order_of):
            error = self.assertRaises(MissingEvents, ask, [topic.event_id], known)
            self.assertEqual(error.ids, set(topic.auth_event_ids))
        known |= {event_id: room.events[event_id] for event_id in topic.auth_event_ids}
        error = self.assertRaises(MissingEvents, require_power_levels, [topic.event_id, "$x"], {**known, "$y": topic})
        self.assertEqual(error.ids, {"$x"})
        require_power_levels([levels.event_id], known)
        self.assertEqual(mainline_order_of([topic.event_id], known), [topic.event_id])

    def test_the_levels_of_a_sender_that_cannot_be_read_count_as_none(self) -> None:
        version = ROOM_VERSIONS["9"]
        room = Room(version)
        state = room.open()
        room.put(state, "m.room.power_levels", {"users": {ALICE: "x"}})
        sides = [dict(state), dict(state)]
        for side, rule in zip(sides, ("public", "invite"), strict=True):
            room.put(side, "m.room.join_rules", {"join_rule": rule})
        settled = state_res.resolve(version, [ids(side) for side in sides], room.events)
        self.assertNotIn(("m.room.join_rules", ""), settled)

    def test_an_event_that_is_no_state_is_never_part_of_the_result(self) -> None:
        room = Room(V11)
        state = room.open()
        message = room.event("m.room.message", {}, state=state)
        self.assertEqual(resolve_conflicts(V11, ids(state), {message.event_id}, room.events), {})


def mainline_order_of(event_ids: list[str], events: Mapping[str, Event]) -> list[str]:
    return mainline_order(event_ids, None, events)


def naive_chain(event_id: str, events: Mapping[str, Event]) -> set[str]:
    chain: set[str] = set()
    for auth in events[event_id].auth_event_ids:
        chain |= {auth} | naive_chain(auth, events)
    return chain


def naive_order(chosen: Set[str], events: Mapping[str, Event], levels: Mapping[str, int]) -> list[str]:
    order: list[str] = []
    while len(order) < len(chosen):
        candidates = [i for i in chosen if i not in order and not (set(events[i].auth_event_ids) & chosen) - set(order)]
        order.append(min(candidates, key=lambda i: (-levels[events[i].sender], events[i].origin_server_ts, i)))
    return order


def naive_position(event: Event, mainline: list[str], events: Mapping[str, Event]) -> float:
    parents = [i for i in event.auth_event_ids if events[i].key == LEVELS]
    if not parents:
        return float("inf")
    if parents[0] in mainline:
        return mainline.index(parents[0])
    return naive_position(events[parents[0]], mainline, events)
