# SPDX-License-Identifier: Apache-2.0
"""What memory keeps of a room so that sending to it reads nothing: heads, depth, tree addresses, and the state that
authorizes.

A snapshot is read and changed only by who holds the room's lock, and only after commits, so it always equals the
database.
"""

from collections.abc import Iterable

import attrs

from homeserver.protocol.auth_selection import CREATE, POWER_LEVELS
from homeserver.protocol.events import Event, PrevRef, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.services.database import Database
from storage import events, names, rooms, state
from storage.caches import Cache
from storage.rooms import Head
from storage.txn import Txn

ENTRY_BYTES = 3_000
LARGEST = 5_000
"""Entries kept per room; beyond it the members seen longest ago are forgotten."""


@attrs.frozen(slots=True)
class Entry:
    """A current state event with its number, and how it is cited."""

    nid: int
    event: Event
    ref: PrevRef

    @classmethod
    def of(cls, nid: int, event: Event) -> "Entry":
        return cls(nid, event, event.ref())


@attrs.define(slots=True, eq=False)
class Snapshot:
    """A room as its next event finds it. `entries` holds None for keys known to be absent."""

    room: int
    room_id: str
    version: RoomVersion
    heads: tuple[Head, ...]
    refs: dict[int, PrevRef]
    """How to cite each head."""
    depth: int
    state: int
    next_row: int
    entries: dict[StateKey, Entry | None] = attrs.field(factory=dict)
    parsed: PowerLevels | None = None

    def levels(self) -> PowerLevels:
        """The power levels in force, parsed once per change. The two entries must be loaded."""
        if self.parsed is None:
            create, levels = self.entries[CREATE], self.entries[POWER_LEVELS]
            self.parsed = PowerLevels.of(
                self.version, create.event if create else None, levels.event if levels else None
            )
        return self.parsed

    def put(self, key: StateKey, entry: Entry | None) -> None:
        """A change of the current state."""
        self.entries[key] = entry
        if key in (CREATE, POWER_LEVELS):
            self.parsed = None


def _weigh(_room_id: str, snapshot: Snapshot) -> int:
    return 2_000 + ENTRY_BYTES * len(snapshot.entries) + 300 * len(snapshot.heads)


class Snapshots:
    """The snapshots of rooms used lately."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cache: Cache[str, Snapshot] = Cache("room snapshots", db.budget, _weigh)
        db.on_reset(self._cache.clear)

    async def get(self, room_id: str, keys: Iterable[StateKey] = ()) -> Snapshot | None:
        """The room's snapshot with these keys loaded; None when the room is not known. Hold the room's lock."""
        snapshot = self._cache.get(room_id)
        if snapshot is None:
            loaded = await self._db.point(_load, room_id)
            if loaded is None:
                return None
            snapshot = loaded
            self._cache.put(room_id, snapshot)
        await self.need(snapshot, (CREATE, POWER_LEVELS, *keys))
        return snapshot

    async def need(self, snapshot: Snapshot, keys: Iterable[StateKey]) -> None:
        """Loads the current state at keys that are not in memory."""
        missing = [key for key in keys if key not in snapshot.entries]
        if not missing:
            return
        found = await self._db.point(_load_entries, snapshot.room, missing)
        if len(snapshot.entries) + len(missing) > LARGEST:
            for key in [key for key in snapshot.entries if key[0] == "m.room.member"][: LARGEST // 2]:
                del snapshot.entries[key]
        for key in missing:
            snapshot.entries[key] = found.get(key)
        self._cache.put(snapshot.room_id, snapshot)

    def add(self, snapshot: Snapshot) -> None:
        """Keeps the snapshot of a room just made."""
        self._cache.put(snapshot.room_id, snapshot)

    def drop(self, room_id: str) -> None:
        """Forgets a room whose write failed or that changed outside of an append."""
        self._cache.drop(room_id)


def _load(txn: Txn, room_id: str) -> Snapshot | None:
    nid = names.room_nid(txn, room_id)
    row = None if nid is None else rooms.get(txn, nid)
    version = None if row is None else lookup(row.version)
    if row is None or version is None or not row.heads:
        return None
    loaded = events.load(txn, [head.event for head in row.heads])
    return Snapshot(
        room=row.nid,
        room_id=room_id,
        version=version,
        heads=row.heads,
        refs={one: event.ref() for one, event in loaded.items()},
        depth=max(event.depth for event in loaded.values()),
        state=row.state,
        next_row=row.next_row,
    )


def _load_entries(txn: Txn, room: int, keys: list[StateKey]) -> dict[StateKey, Entry]:
    current = state.current(txn, room, keys)
    loaded = events.load(txn, current.values())
    return {key: Entry.of(nid, loaded[nid]) for key, nid in current.items()}
