# SPDX-License-Identifier: Apache-2.0
"""Which events' permission two or more states do not share: auth difference and conflicted subgraph, over event
numbers.

Auth events are stored before the event that cites them, so numbers are a topological order of the auth graph and one
descending pass with a bit mask per state finds the difference. Only the part of the graph above the smallest number of
interest is read.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from storage.events import unpack_nids
from storage.txn import Txn

Edges = Mapping[int, tuple[int, ...]]


class AuthGraph:
    """The auth events of a room's events, read when first asked for: the spine at once, members in batches."""

    def __init__(self, txn: Txn, room: int, extra: Edges | None = None) -> None:
        self._txn = txn
        self._room = room
        self._known: dict[int, tuple[int, ...]] = dict(extra or {})
        self._has_spine = False

    def of(self, nid: int, others: Iterable[int] = ()) -> tuple[int, ...]:
        """The auth events of an event; `others` are events that will be asked for soon."""
        found = self._known.get(nid)
        if found is None:
            self._load([nid, *others])
            found = self._known[nid]
        return found

    def _load(self, nids: Iterable[int]) -> None:
        if not self._has_spine:
            # Power level chains are long and sequential: read level by level they would cost a query each.
            self._has_spine = True
            rows = self._txn.all("SELECT nid, auth FROM event WHERE room = ? AND flags & 8 = 8", (self._room,))
            self._known.update((nid, unpack_nids(auth)) for nid, auth in rows)
        missing = [nid for nid in dict.fromkeys(nids) if nid not in self._known]
        if missing:
            condition, params = self._txn.any("nid", missing)
            rows = self._txn.all(f"SELECT nid, auth FROM event WHERE {condition}", params)  # noqa: S608
            self._known.update((nid, unpack_nids(auth)) for nid, auth in rows)
            for nid in missing:
                self._known.setdefault(nid, ())


def auth_difference(
    graph: AuthGraph, conflicted: Sequence[Collection[int]], unconflicted: Callable[[int], Iterable[int]]
) -> set[int]:
    """The events in some, but not in every, full auth chain of the states.

    `conflicted` holds per state the events at the keys where states differ; ``unconflicted(lowest)`` gives the events
    that all states share, those below `lowest` may be left out.
    """
    full = (1 << len(conflicted)) - 1
    masks: dict[int, int] = {}
    for bit, nids in enumerate(conflicted):
        for nid in nids:
            for auth in graph.of(nid, nids):
                masks[auth] = masks.get(auth, 0) | 1 << bit
    candidates = _partial(graph, masks, full)
    if candidates:
        lowest = min(candidates)
        shared = [nid for nid in unconflicted(lowest) if nid >= lowest]
        candidates -= reachable(graph, shared, lowest)
    return candidates


def _partial(graph: AuthGraph, masks: dict[int, int], full: int) -> set[int]:
    """What is reached from some but not all states, from the newest down until nothing partial is pending."""
    pending = [-nid for nid in masks]
    heapq.heapify(pending)
    partial = sum(1 for mask in masks.values() if mask != full)
    found = set()
    while pending and partial:
        nid = -heapq.heappop(pending)
        mask = masks.pop(nid)
        if mask != full:
            partial -= 1
            found.add(nid)
        for auth in graph.of(nid, (-one for one in pending)):
            before = masks.get(auth)
            if before is None:
                masks[auth] = mask
                heapq.heappush(pending, -auth)
                partial += mask != full
            elif before | mask != before:
                masks[auth] = before | mask
                partial -= before | mask == full
    return found


def reachable(graph: AuthGraph, starts: Iterable[int], lowest: int) -> set[int]:
    """Every event with a number not below `lowest` in the auth chains of `starts`."""
    found: set[int] = set()
    level = list(starts)
    while level:
        following: set[int] = set()
        for nid in level:
            following.update(auth for auth in graph.of(nid, level) if auth >= lowest)
        level = list(following - found)
        found |= following
    return found


def conflicted_subgraph(graph: AuthGraph, conflicted: Collection[int]) -> set[int]:
    """Every event on a path of auth events from one conflicted event to another, those at its ends included."""
    if not conflicted:
        return set()
    lowest = min(conflicted)
    below = reachable(graph, conflicted, lowest)
    ends = below.intersection(conflicted)
    leading = set(ends)
    for nid in sorted(below.union(conflicted)):
        if any(auth in leading for auth in graph.of(nid)):
            leading.add(nid)
    return leading
