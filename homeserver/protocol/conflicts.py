# SPDX-License-Identifier: Apache-2.0
"""What room states disagree on: conflicted entries, the auth difference and the conflicted subgraph.

https://spec.matrix.org/v1.18/rooms/v12/#definitions
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from homeserver.protocol.errors import MissingEvents
from homeserver.protocol.events import Event, StateKey

StateIds = Mapping[StateKey, str]


def split(state_sets: Sequence[StateIds]) -> tuple[dict[StateKey, str], dict[StateKey, frozenset[str]]]:
    """The unconflicted state map, and the event ids of every other key."""
    if not state_sets:
        return {}, {}
    first = state_sets[0]
    unconflicted: dict[StateKey, str] = {}
    conflicted: dict[StateKey, set[str]] = {}
    # "If a given key K is present in every S_i with the same value V in each state map, then the pair (K, V) belongs to
    # the unconflicted state map. Otherwise, V belongs to the conflicted state set."
    for key, event_id in first.items():
        if all(other.get(key) == event_id for other in state_sets[1:]):
            unconflicted[key] = event_id
        else:
            conflicted.setdefault(key, set()).add(event_id)
    for state in state_sets[1:]:
        for key, event_id in state.items():
            if key not in unconflicted:
                conflicted.setdefault(key, set()).add(event_id)
    return unconflicted, {key: frozenset(ids) for key, ids in conflicted.items()}


def auth_chain(event_ids: Iterable[str], events: Mapping[str, Event]) -> set[str]:
    """All auth events of these events, theirs, and so on; raises MissingEvents."""
    chain: set[str] = set()
    pending = set(event_ids)
    missing: set[str] = set()
    while pending:
        reached: set[str] = set()
        for event_id in pending:
            event = events.get(event_id)
            if event is None:
                missing.add(event_id)
            else:
                reached.update(event.auth_event_ids)
        pending = reached - chain
        chain |= pending
    if missing:
        raise MissingEvents(frozenset(missing))
    return chain


def auth_difference(state_sets: Sequence[StateIds], events: Mapping[str, Event]) -> frozenset[str]:
    """The events that are in some, but not in every, full auth chain of the states; raises MissingEvents."""
    chains = [auth_chain(state.values(), events) for state in state_sets]
    if not chains:
        return frozenset()
    return frozenset(chains[0].union(*chains[1:]) - chains[0].intersection(*chains[1:]))


def conflicted_subgraph(conflicted: Set[str], events: Mapping[str, Event]) -> frozenset[str]:
    """Every event on a path of auth events from one conflicted event to another; raises MissingEvents."""
    below = auth_chain(conflicted, events)
    # Of what the conflicted events reach, that which reaches a conflicted event: walk back from those reached.
    cited_by: dict[str, list[str]] = {}
    for event_id in below | conflicted:
        for cited in events[event_id].auth_event_ids:
            cited_by.setdefault(cited, []).append(event_id)
    found = set(conflicted & below)
    pending = list(found)
    while pending:
        for event_id in cited_by.get(pending.pop(), ()):
            if event_id not in found:
                found.add(event_id)
                pending.append(event_id)
    return frozenset(found)
