# SPDX-License-Identifier: Apache-2.0
"""How states of one room that differ are made into one: the trees' difference is the conflict, the room version settles
it.

Works on numbers within a read transaction; only the events that the algorithm looks at are loaded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from homeserver.protocol import state_res_v1, state_res_v2
from homeserver.protocol.errors import MissingEvents
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution
from storage import events, names
from storage.auth_chain import AuthGraph, auth_difference, conflicted_subgraph
from storage.state_tree import StateTree
from storage.txn import Txn

_Resolve = Callable[[Mapping[str, Event]], dict[StateKey, str]]

NEW = -1
"""The number that stands for an event that is not stored yet."""
ABOVE_ALL = 2**60


@attrs.frozen(slots=True)
class View:
    """A state: that of a tree address with some keys laid over (by name, as new keys have no number yet)."""

    root: int
    over: Mapping[StateKey, int | None] = attrs.field(factory=dict)


@attrs.frozen(slots=True)
class NewState:
    """An event about to be stored, for resolutions that it takes part in."""

    event: Event
    auth: tuple[int, ...]


class States:
    """The states of one room, within a read transaction; `new` is known under the number NEW."""

    def __init__(self, txn: Txn, room: int, version: RoomVersion, new: NewState | None = None) -> None:
        self._txn = txn
        self._room = room
        self._version = version
        self._tree = StateTree(txn, room)
        self._new = new
        self._events: dict[int, Event] = {} if new is None else {NEW: new.event}
        self._nids: dict[str, int] = {} if new is None else {new.event.event_id: NEW}

    # ---- single states ----

    def get(self, view: View, key: StateKey) -> int | None:
        """The event at a key."""
        if key in view.over:
            return view.over[key]
        skey = names.skey_nid(self._txn, *key)
        return None if skey is None else self._tree.get(view.root, skey)

    def events_at(self, view: View, keys: Sequence[StateKey]) -> dict[StateKey, Event]:
        """The events at some keys; absent ones are left out."""
        nids = {key: nid for key in keys if (nid := self.get(view, key)) is not None}
        self._load(nids.values())
        return {key: self._events[nid] for key, nid in nids.items()}

    def event(self, nid: int) -> Event:
        """An event by number."""
        self._load((nid,))
        return self._events[nid]

    def difference(self, one: View, other: View) -> dict[StateKey, tuple[int | None, int | None]]:
        """Key -> (event in the one, event in the other), where they differ."""
        found = self._tree.diff(one.root, other.root)
        named = names.skeys(self._txn, found)
        keys = {named[skey] for skey in found} | set(one.over) | set(other.over)
        pairs = {key: (self.get(one, key), self.get(other, key)) for key in keys}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}

    # ---- several ----

    def settle(self, views: Sequence[View]) -> View:
        """The resolution of the states, laid over the one that differs least from it."""
        differing = {key for other in views[1:] for key in self.difference(views[0], other)}
        if not differing:
            return views[0]
        conflicted = {key: [self.get(view, key) for view in views] for key in differing}
        resolved = self._resolve(views[0], conflicted, len(views))
        result = {key: resolved.get(key) for key in conflicted.keys() | resolved.keys()}
        changes = [{key: nid for key, nid in result.items() if self.get(view, key) != nid} for view in views]
        best = min(range(len(views)), key=lambda number: len(changes[number]) + len(views[number].over))
        return View(views[best].root, {**views[best].over, **changes[best]})

    def _resolve(
        self, base: View, conflicted: Mapping[StateKey, Sequence[int | None]], count: int
    ) -> dict[StateKey, int]:
        nids = {nid for many in conflicted.values() for nid in many if nid is not None}
        self._load(nids)
        unconflicted = _Shared(self, base, conflicted.keys())
        if self._version.state_resolution is StateResolution.V1:
            return self._resolve_v1(unconflicted, conflicted)
        full = nids | self._beyond(base, conflicted, nids, count)
        self._load(full)
        ids = frozenset(self._events[nid].event_id for nid in full)
        resolved = self._asking(
            lambda known: state_res_v2.resolve_conflicts(self._version, unconflicted, ids, known, self._rejected(full))
        )
        return {key: self._nids[event_id] for key, event_id in resolved.items()}

    def _resolve_v1(
        self, unconflicted: "_Shared", conflicted: Mapping[StateKey, Sequence[int | None]]
    ) -> dict[StateKey, int]:
        several = {key: {nid for nid in many if nid is not None} for key, many in conflicted.items()}
        # "Keys that only some states have count as agreed" in version 1.
        agreed = {key: next(iter(many)) for key, many in several.items() if len(many) == 1}
        unconflicted.agree({key: self._events[nid].event_id for key, nid in agreed.items()})
        disputed = {key: [self._events[nid].event_id for nid in many] for key, many in several.items() if len(many) > 1}
        resolved = self._asking(
            lambda known: state_res_v1.resolve_conflicts(self._version, unconflicted, disputed, known)
        )
        return {**agreed, **{key: self._nids[event_id] for key, event_id in resolved.items()}}

    def _beyond(
        self, base: View, conflicted: Mapping[StateKey, Sequence[int | None]], nids: set[int], count: int
    ) -> set[int]:
        """What belongs to the full conflicted set beside the conflicted events."""
        # A number above all others keeps the order: the new event cites, and nothing cites it.
        top = ABOVE_ALL
        graph = AuthGraph(self._txn, self._room, {} if self._new is None else {top: self._new.auth})
        numbered = [{top if many[i] == NEW else many[i] for many in conflicted.values()} for i in range(count)]
        sets = [{nid for nid in many if nid is not None} for many in numbered]
        skeys = {names.skey_nid(self._txn, *key) for key in conflicted}

        def shared(lowest: int) -> list[int]:
            entries = self._tree.items(base.root)
            kept = [nid for skey, nid in entries.items() if skey not in skeys and nid >= lowest]
            return kept + [nid for key, nid in base.over.items() if key not in conflicted and nid is not None]

        found = auth_difference(graph, sets, shared)
        if self._version.state_resolution is StateResolution.V2_1:
            found |= conflicted_subgraph(graph, set().union(*sets))
        return {NEW if nid == top else nid for nid in found}

    def _asking(self, resolve: _Resolve) -> dict[StateKey, str]:
        """Runs an algorithm, loading what it misses, until it has all it needs."""
        while True:
            known = {event.event_id: event for event in self._events.values()}
            try:
                return resolve(known)
            except MissingEvents as missing:
                loaded = events.load_by_ids(self._txn, missing.ids)
                if not loaded.keys() & missing.ids:
                    raise
                for event_id, (nid, event) in loaded.items():
                    self._events[nid] = event
                    self._nids[event_id] = nid

    def _rejected(self, nids: set[int]) -> frozenset[str]:
        found = events.places(self._txn, [nid for nid in nids if nid != NEW])
        return frozenset(self._events[nid].event_id for nid, place in found.items() if place.flags & events.REJECTED)

    def _load(self, nids: Iterable[int]) -> None:
        missing = [nid for nid in nids if nid not in self._events]
        for nid, event in events.load(self._txn, missing).items():
            self._events[nid] = event
            self._nids[event.event_id] = nid


class _Shared(Mapping[StateKey, str]):
    """The unconflicted state map, asked for single keys only."""

    def __init__(self, states: States, base: View, conflicted: Iterable[StateKey]) -> None:
        self._states = states
        self._base = base
        self._conflicted = frozenset(conflicted)
        self._agreed: Mapping[StateKey, str] = {}

    def agree(self, agreed: Mapping[StateKey, str]) -> None:
        """Keys that count as unconflicted after all."""
        self._agreed = agreed

    def __getitem__(self, key: StateKey) -> str:
        if key in self._agreed:
            return self._agreed[key]
        nid = None if key in self._conflicted else self._states.get(self._base, key)
        if nid is None:
            raise KeyError(key)
        return self._states.event(nid).event_id

    def __iter__(self) -> Iterator[StateKey]:
        raise TypeError("the unconflicted state is asked for single keys")

    def __len__(self) -> int:
        raise TypeError("the unconflicted state is asked for single keys")
