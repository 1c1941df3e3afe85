# SPDX-License-Identifier: Apache-2.0
"""The two orders of state resolution: reverse topological power ordering and mainline ordering.

https://spec.matrix.org/v1.18/rooms/v12/#definitions
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Set

from homeserver.protocol.auth_selection import POWER_LEVELS
from homeserver.protocol.errors import MissingEvents
from homeserver.protocol.events import Event


def reverse_topological_power_order(
    event_ids: Set[str], events: Mapping[str, Event], sender_level: Callable[[Event], float]
) -> list[str]:
    """Auth events before those that cite them; among candidates the greatest power, then the oldest, then by id."""
    cited_by: dict[str, list[str]] = {}
    uncited: dict[str, int] = {}
    for event_id in event_ids:
        cited = {cited for cited in events[event_id].auth_event_ids if cited in event_ids}
        uncited[event_id] = len(cited)
        for auth_event_id in cited:
            cited_by.setdefault(auth_event_id, []).append(event_id)

    def rank(event_id: str) -> tuple[float, int, str]:
        event = events[event_id]
        return (-sender_level(event), event.origin_server_ts, event_id)

    # Kahn's algorithm, "at each step selecting, among all the candidate vertices, the smallest vertex".
    candidates = [rank(event_id) for event_id, count in uncited.items() if not count]
    heapq.heapify(candidates)
    order: list[str] = []
    while candidates:
        event_id = heapq.heappop(candidates)[2]
        order.append(event_id)
        for dependent in cited_by.get(event_id, ()):
            uncited[dependent] -= 1
            if not uncited[dependent]:
                heapq.heappush(candidates, rank(dependent))
    return order


def power_level_parent(event: Event, events: Mapping[str, Event]) -> str | None:
    """The power level event among an event's auth events; raises MissingEvents."""
    missing = [event_id for event_id in event.auth_event_ids if event_id not in events]
    if missing:
        raise MissingEvents(frozenset(missing))
    return next((event_id for event_id in event.auth_event_ids if events[event_id].key == POWER_LEVELS), None)


def require_power_levels(event_ids: Iterable[str], events: Mapping[str, Event]) -> None:
    """Raise MissingEvents for the power level events below these that are not there, so far as they can be named."""
    missing: set[str] = set()
    seen: set[str] = set()
    pending = list(event_ids)
    while pending:
        event_id = pending.pop()
        if event_id in seen:
            continue
        seen.add(event_id)
        event = events.get(event_id)
        if event is None:
            missing.add(event_id)
            continue
        try:
            parent = power_level_parent(event, events)
        except MissingEvents as error:
            missing |= error.ids
            continue
        if parent is not None:
            pending.append(parent)
    if missing:
        raise MissingEvents(frozenset(missing))


def mainline_of(power_levels: str | None, events: Mapping[str, Event]) -> list[str]:
    """A power level event, the one it cites, and so on to the first; raises MissingEvents."""
    mainline: list[str] = []
    while power_levels is not None:
        event = events.get(power_levels)
        if event is None:
            raise MissingEvents(frozenset((power_levels,)))
        mainline.append(power_levels)
        power_levels = power_level_parent(event, events)
    return mainline


def mainline_order(event_ids: Iterable[str], power_levels: str | None, events: Mapping[str, Event]) -> list[str]:
    """The mainline ordering based on a power level event: the oldest basis first, then by time, then by id."""
    positions: dict[str, float] = {event_id: i for i, event_id in enumerate(mainline_of(power_levels, events))}
    ranked = []
    missing: set[str] = set()
    for event_id in event_ids:
        event = events[event_id]
        try:
            position = _mainline_position(event, positions, events)
        except MissingEvents as error:
            missing |= error.ids
            continue
        ranked.append((-position, event.origin_server_ts, event_id))
    if missing:
        raise MissingEvents(frozenset(missing))
    return [event_id for _, _, event_id in sorted(ranked)]


def _mainline_position(event: Event, positions: dict[str, float], events: Mapping[str, Event]) -> float:
    """Index in the mainline of the first power level event below `event`; infinite where none is in it.

    `positions` learns the power level events that were passed on the way.
    """
    passed: list[str] = []
    position = math.inf
    parent = power_level_parent(event, events)
    while parent is not None:
        known = positions.get(parent)
        if known is not None:
            position = known
            break
        passed.append(parent)
        parent = power_level_parent(events[parent], events)
    for event_id in passed:
        positions[event_id] = position
    return position
