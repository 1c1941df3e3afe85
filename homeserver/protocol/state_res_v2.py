# SPDX-License-Identifier: Apache-2.0
"""State resolution of room versions 2 to 11 (v2) and 12 (v2.1).

https://spec.matrix.org/v1.18/rooms/v2/#state-resolution and https://spec.matrix.org/v1.18/rooms/v12/#state-resolution
"""

from collections.abc import Container, Iterable, Mapping, Sequence, Set

from homeserver.protocol.auth_rules import authorize
from homeserver.protocol.auth_selection import CREATE, POWER_LEVELS, deciding_keys
from homeserver.protocol.conflicts import StateIds, auth_difference, conflicted_subgraph, split
from homeserver.protocol.errors import MissingEvents, Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.ordering import mainline_order, require_power_levels, reverse_topological_power_order
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion, StateResolution


def resolve(
    version: RoomVersion, state_sets: Sequence[StateIds], events: Mapping[str, Event], rejected: Container[str] = ()
) -> dict[StateKey, str]:
    """The resolution of room states. `events` needs the states' auth chains; raises MissingEvents.

    `rejected` holds ids of events that were rejected.
    """
    unconflicted, conflicted = split(state_sets)
    if not conflicted:
        return unconflicted
    conflicted_ids = frozenset().union(*conflicted.values())
    full = conflicted_ids | auth_difference(state_sets, events)
    if version.state_resolution is StateResolution.V2_1:
        full |= conflicted_subgraph(conflicted_ids, events)
    return {**unconflicted, **resolve_conflicts(version, unconflicted, full, events, rejected)}


def resolve_conflicts(
    version: RoomVersion,
    unconflicted: Mapping[StateKey, str],
    full_conflicted: Set[str],
    events: Mapping[str, Event],
    rejected: Container[str] = (),
) -> dict[StateKey, str]:
    """What the full conflicted set contributes to the resolved state: no key of the unconflicted state map is in it.

    The full conflicted set holds the ids of conflicted events, auth difference and, for v2.1, conflicted subgraph.
    `unconflicted` is asked for single keys only. Raises MissingEvents.
    """
    return _Resolution(version, unconflicted, full_conflicted, events, rejected).run()


class _Resolution:
    """One run of the algorithm: its input, and the power levels parsed so far."""

    def __init__(
        self,
        version: RoomVersion,
        unconflicted: Mapping[StateKey, str],
        full_conflicted: Set[str],
        events: Mapping[str, Event],
        rejected: Container[str],
    ) -> None:
        self._version = version
        self._unconflicted = unconflicted
        self._full = full_conflicted
        self._events = events
        self._rejected = rejected
        self._empty_start = version.state_resolution is StateResolution.V2_1
        self._levels: dict[tuple[str | None, str | None], PowerLevels] = {}

    def run(self) -> dict[StateKey, str]:
        """The algorithm's five steps."""
        self._require_events()
        # "1. Select the set X of all power events that appear in the full conflicted set. For each such power event P,
        # enlarge X by adding the events in the auth chain of P which also belong to the full conflicted set. Sort X
        # into a list using the reverse topological power ordering."
        first = self._power_events_and_auth()
        rest = self._full - first
        if rest:
            self._require_mainline()
        first_order = reverse_topological_power_order(first, self._events, self._sender_level)
        # "2. Apply the iterative auth checks algorithm, starting from the unconflicted state map [v12: from an empty
        # state map], to the list of events from the previous step to get a partially resolved state."
        resolved: dict[StateKey, str] = {}
        self._apply(first_order, resolved)
        # "3. Take all remaining events that weren't picked in step 1 and order them by the mainline ordering based on
        # the power level in the partially resolved state obtained in step 2."
        if rest:
            power_levels = self._current(POWER_LEVELS, resolved)
            rest_order = mainline_order(rest, power_levels, self._events)
            # "4. Apply the iterative auth checks algorithm on the partial resolved state and the list of events from
            # the previous step."
            self._apply(rest_order, resolved)
        # "5. Update the result by replacing any event with the event with the same key from the unconflicted state map,
        # if such an event exists, to get the final resolved state."
        return {key: event_id for key, event_id in resolved.items() if self._unconflicted.get(key) is None}

    def _require_events(self) -> None:
        """Ask at once for all events that the checks can look at, the power levels' ancestry excepted."""
        missing = {event_id for event_id in self._full if event_id not in self._events}
        if missing:
            raise MissingEvents(frozenset(missing))
        for event_id in self._full:
            event = self._events[event_id]
            missing.update(auth for auth in event.auth_event_ids if auth not in self._events)
            if self._version.room_id_is_create_hash:
                missing.update({_create_id(event)} - self._events.keys())
            if not self._empty_start:
                cited = (self._unconflicted.get(key) for key in deciding_keys(event))
                missing.update(found for found in cited if found is not None and found not in self._events)
        power_levels = None if self._empty_start else self._unconflicted.get(POWER_LEVELS)
        if power_levels is not None and power_levels not in self._events:
            missing.add(power_levels)
        if missing:
            raise MissingEvents(frozenset(missing))

    def _require_mainline(self) -> None:
        """Ask for the ancestry of the power levels before any check is made, so that asking again costs little."""
        current = None if self._empty_start else self._unconflicted.get(POWER_LEVELS)
        require_power_levels(self._full if current is None else self._full | {current}, self._events)

    def _power_events_and_auth(self) -> set[str]:
        found = {event_id for event_id in self._full if is_power_event(self._events[event_id])}
        pending = list(found)
        while pending:
            for auth_event_id in self._events[pending.pop()].auth_event_ids:
                if auth_event_id in self._full and auth_event_id not in found:
                    found.add(auth_event_id)
                    pending.append(auth_event_id)
        return found

    def _sender_level(self, event: Event) -> float:
        """The sender's power "when looking at their respective auth_events"."""
        cited = [self._events[event_id] for event_id in event.auth_event_ids]
        power_levels = next((other for other in cited if other.key == POWER_LEVELS), None)
        if self._version.room_id_is_create_hash:
            create = self._events.get(_create_id(event))
        else:
            create = next((other for other in cited if other.key == CREATE), None)
        try:
            return self._levels_of(create, power_levels).user(event.sender)
        except Rejected:
            return 0

    def _apply(self, order: Iterable[str], resolved: dict[StateKey, str]) -> None:
        """The iterative auth checks: put every event that the state so far allows into `resolved`."""
        for event_id in order:
            event = self._events[event_id]
            key = event.key
            if key is None:
                continue
            state = self._state_for(event, resolved)
            levels = self._levels_of(state.get(CREATE), state.get(POWER_LEVELS))
            try:
                authorize(self._version, event, state, levels)
            except Rejected:
                continue
            resolved[key] = event_id

    def _state_for(self, event: Event, resolved: Mapping[StateKey, str]) -> dict[StateKey, Event]:
        # "If a (event_type, state_key) key that is required for checking the authorisation rules is not present in the
        # state, then the appropriate state event from the event's auth_events is used if the auth event is not
        # rejected."
        state: dict[StateKey, Event] = {}
        for event_id in event.auth_event_ids:
            auth_event = self._events[event_id]
            if auth_event.key is not None and event_id not in self._rejected:
                state[auth_event.key] = auth_event
        if self._version.room_id_is_create_hash:
            create_id = _create_id(event)
            if create_id not in self._rejected:
                state[CREATE] = self._events[create_id]
        for key in deciding_keys(event):
            current = self._current(key, resolved)
            if current is not None:
                state[key] = self._events[current]
        return state

    def _current(self, key: StateKey, resolved: Mapping[StateKey, str]) -> str | None:
        event_id = resolved.get(key)
        if event_id is None and not self._empty_start:
            event_id = self._unconflicted.get(key)
        return event_id

    def _levels_of(self, create: Event | None, power_levels: Event | None) -> PowerLevels:
        key = (create.event_id if create else None, power_levels.event_id if power_levels else None)
        levels = self._levels.get(key)
        if levels is None:
            levels = self._levels[key] = PowerLevels.of(self._version, create, power_levels)
        return levels


def is_power_event(event: Event) -> bool:
    """Whether an event might remove somebody's ability to do something."""
    # "A power event is a state event with type m.room.power_levels or m.room.join_rules, or a state event with type
    # m.room.member where the membership is leave or ban and the sender does not match the state_key."
    # Entries with a state key of their own bear on nothing, and no server counts them.
    if event.type in ("m.room.power_levels", "m.room.join_rules"):
        return event.state_key == ""
    return (
        event.type == "m.room.member"
        and event.state_key is not None
        and event.content.get("membership") in ("leave", "ban")
        and event.sender != event.state_key
    )


def _create_id(event: Event) -> str:
    return "$" + event.room_id[1:]
