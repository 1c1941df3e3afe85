# SPDX-License-Identifier: Apache-2.0
"""State resolution of room version 1, which is known to bring old state back and serves no other version.

https://spec.matrix.org/v1.18/rooms/v1/#state-resolution
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from homeserver.protocol.auth_rules import authorize
from homeserver.protocol.auth_selection import deciding_keys
from homeserver.protocol.conflicts import StateIds
from homeserver.protocol.errors import MissingEvents, Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion


def resolve(version: RoomVersion, state_sets: Sequence[StateIds], events: Mapping[str, Event]) -> dict[StateKey, str]:
    """The resolution of room states; raises MissingEvents."""
    found: dict[StateKey, set[str]] = {}
    for state in state_sets:
        for key, event_id in state.items():
            found.setdefault(key, set()).add(event_id)
    # "A conflict occurs between states where those states have different event_ids for the same (event_type,
    # state_key)."
    agreed = {key: next(iter(ids)) for key, ids in found.items() if len(ids) == 1}
    conflicted = {key: ids for key, ids in found.items() if len(ids) > 1}
    return {**agreed, **resolve_conflicts(version, agreed, conflicted, events)}


def resolve_conflicts(
    version: RoomVersion,
    agreed: Mapping[StateKey, str],
    conflicted: Mapping[StateKey, Collection[str]],
    events: Mapping[str, Event],
) -> dict[StateKey, str]:
    """The event chosen for each conflicted key. Keys that only some states have count as agreed here.

    `agreed` is asked for single keys only. Raises MissingEvents.
    """
    _require_events(agreed, conflicted, events)
    resolved: dict[StateKey, str] = {}
    # "First we resolve conflicts between m.room.power_levels events." "Repeat the above process for conflicts between
    # m.room.join_rules events." "Repeat the above process for conflicts between m.room.member events."
    for event_type in ("m.room.power_levels", "m.room.join_rules", "m.room.member"):
        chosen = {
            key: _choose_from_first(version, _ordered(ids, events), _View(agreed, resolved, events).of(ids))
            for key, ids in conflicted.items()
            if key[0] == event_type
        }
        resolved |= chosen
    # "No other events affect the authorisation rules"
    chosen = {
        key: _choose_last_allowed(version, _ordered(ids, events), _View(agreed, resolved, events).of(ids))
        for key, ids in conflicted.items()
        if key not in resolved
    }
    return resolved | chosen


class _View:
    """The state R of the resolution so far."""

    def __init__(
        self, agreed: Mapping[StateKey, str], resolved: Mapping[StateKey, str], events: Mapping[str, Event]
    ) -> None:
        self._agreed = agreed
        self._resolved = resolved
        self._events = events

    def of(self, event_ids: Collection[str]) -> dict[StateKey, Event]:
        """The entries of R that decide on these events."""
        state = {}
        for event_id in event_ids:
            for key in deciding_keys(self._events[event_id]):
                current = self._resolved.get(key) or self._agreed.get(key)
                if current is not None:
                    state[key] = self._events[current]
        return state


def _ordered(event_ids: Collection[str], events: Mapping[str, Event]) -> list[Event]:
    """ "Sort the list by ascending depth then descending sha1(event_id)." """
    descending = sorted(event_ids, key=lambda event_id: hashlib.sha1(event_id.encode()).digest(), reverse=True)
    return sorted((events[event_id] for event_id in descending), key=lambda event: event.depth)


def _choose_from_first(version: RoomVersion, ordered: Sequence[Event], state: dict[StateKey, Event]) -> str:
    # "Add the first event in the list to R. For each subsequent event in the list, check that the event would be
    # allowed by the authorisation rules for a room in state R. If the event would be allowed, then update R with the
    # event and continue with the next event in the list. If it would not be allowed, stop"
    chosen = ordered[0]
    for event in ordered[1:]:
        state[(chosen.type, chosen.state_key or "")] = chosen
        if not _is_allowed(version, event, state):
            break
        chosen = event
    return chosen.event_id


def _choose_last_allowed(version: RoomVersion, ordered: Sequence[Event], state: Mapping[StateKey, Event]) -> str:
    # "just pick the event with the highest depth and lowest sha1(event_id) that passes authentication in R"
    for event in reversed(ordered):
        if _is_allowed(version, event, state):
            return event.event_id
    # Where none passes, every server keeps the least deep one.
    return ordered[0].event_id


def _is_allowed(version: RoomVersion, event: Event, state: Mapping[StateKey, Event]) -> bool:
    try:
        authorize(version, event, state)
    except Rejected:
        return False
    return True


def _require_events(
    agreed: Mapping[StateKey, str], conflicted: Mapping[StateKey, Collection[str]], events: Mapping[str, Event]
) -> None:
    missing = {event_id for ids in conflicted.values() for event_id in ids if event_id not in events}
    if not missing:
        for ids in conflicted.values():
            for event_id in ids:
                cited = (agreed.get(key) for key in deciding_keys(events[event_id]))
                missing.update(found for found in cited if found is not None and found not in events)
    if missing:
        raise MissingEvents(frozenset(missing))
