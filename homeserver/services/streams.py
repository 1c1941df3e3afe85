# SPDX-License-Identifier: Apache-2.0
"""Knows, from memory alone, which rooms, users and devices changed after a position."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)

RING_SIZE = 100_000
RING_SLACK = 10_000
LAST_SIZE = 100_000

#: Streams that only their owner sees; a room they name is not changed for anybody else.
PERSONAL = frozenset(
    {"account_data", "to_device", "keys", "push_rules", "private_receipt", "unread", "ignored", "filter"}
)
#: Of these, the ones that change what counts as unread.
UNREADS = frozenset({"private_receipt", "unread", "push_rules"})
#: Streams of a user that everybody who shares a room with that user sees.
SHARED = frozenset({"device_list", "presence", "profile"})


class Change(Protocol):
    """One announced change of a commit: the position it took and what it touches (numbers, not names)."""

    @property
    def pos(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def room(self) -> int | None: ...
    @property
    def user(self) -> int | None: ...
    @property
    def device(self) -> int | None: ...


def concerns_room(change: Change) -> bool:
    """Whether everybody in the change's room may see it."""
    return change.room is not None and change.stream not in PERSONAL and change.stream not in SHARED


class Ring:
    """The recent (position, value) pairs of one kind, oldest dropped first; complete above `floor`."""

    __slots__ = ("_positions", "_size", "_values", "floor")

    def __init__(self, floor: int = 0, size: int = RING_SIZE) -> None:
        self.floor = floor
        self._size = size
        self._positions = array("q")
        self._values = array("q")

    def add(self, position: int, value: int) -> None:
        self._positions.append(position)
        self._values.append(value)
        if len(self._positions) > self._size + RING_SLACK:
            cut = len(self._positions) - self._size
            self.floor = self._positions[cut - 1]
            del self._positions[:cut]
            del self._values[:cut]

    def clear(self, floor: int) -> None:
        self.floor = floor
        self._positions = array("q")
        self._values = array("q")

    def since(self, position: int) -> frozenset[int] | None:
        """The values changed after `position`; None when that is further back than memory reaches."""
        if position < self.floor:
            return None
        if not self._positions or self._positions[-1] <= position:
            return frozenset()
        return frozenset(self._values[bisect_right(self._positions, position) :])


class LastPositions(Generic[K]):
    """The last position of each key, the keys that changed longest ago forgotten first."""

    __slots__ = ("_last", "_size", "floor")

    def __init__(self, floor: int = 0, size: int = LAST_SIZE) -> None:
        self.floor = floor
        self._size = size
        self._last: dict[K, int] = {}

    def set(self, key: K, position: int) -> None:
        self._last.pop(key, None)
        self._last[key] = position
        if len(self._last) > self._size:
            oldest = next(iter(self._last))
            self.floor = self._last.pop(oldest)

    def clear(self, floor: int) -> None:
        self.floor = floor
        self._last.clear()

    def changed(self, key: K, since: int) -> bool:
        """Whether `key` changed after `since`; true also when that is no longer known."""
        return since < self.floor or self._last.get(key, 0) > since


class Streams:
    """What changed lately, by room, by user and by device.

    Positions are those of the one clock. The ephemeral counter numbers what is only in memory (typing); it starts at
    a number that grows over restarts, so that a token of an earlier run is always older.
    """

    def __init__(self, ephemeral: int = 0, ring_size: int = RING_SIZE) -> None:
        self.published = 0
        self.ephemeral = ephemeral
        self._rooms = Ring(size=ring_size)
        self._shared = {stream: Ring(size=ring_size) for stream in SHARED}
        self._users: LastPositions[int] = LastPositions()
        self._memberships: LastPositions[int] = LastPositions()
        self._private: LastPositions[int] = LastPositions()
        self._movements = Ring(size=ring_size)
        self._kinds = {kind: Ring(size=ring_size) for kind in ("state", "receipt")}
        self._devices: LastPositions[tuple[int, int]] = LastPositions()
        self._typing = Ring(floor=ephemeral, size=10_000)

    def begin(self, position: int) -> None:
        """Memory starts at `position`: nothing is known of what lies below it."""
        self.published = position
        self._rooms.clear(position)
        for ring in (*self._shared.values(), *self._kinds.values()):
            ring.clear(position)
        self._users.clear(position)
        self._memberships.clear(position)
        self._private.clear(position)
        self._movements.clear(position)
        self._devices.clear(position)

    def record(self, position: int, changes: Sequence[Change]) -> None:
        """Take in the changes of one commit, whose last position is `position`."""
        if not self.published:
            self.begin(changes[0].pos - 1 if changes else position)
        for change in changes:
            stream, user, room = change.stream, change.user, change.room
            if stream in self._shared and user is not None:
                self._shared[stream].add(change.pos, user)
            elif room is not None and concerns_room(change):
                self._rooms.add(change.pos, room)
                if stream in self._kinds:
                    self._kinds[stream].add(change.pos, room)
            if user is not None:
                if stream == "membership":
                    self._memberships.set(user, change.pos)
                    if room is not None:
                        self._movements.add(change.pos, room)
                elif stream in UNREADS:
                    self._private.set(user, change.pos)
                if change.device:
                    self._devices.set((user, change.device), change.pos)
                else:
                    self._users.set(user, change.pos)
        self.published = max(self.published, position)

    def rooms_since(self, since: int) -> frozenset[int] | None:
        """The rooms with a change after `since`; None: further back than memory reaches, ask the database."""
        return self._rooms.since(since)

    def rooms_with(self, kind: str, since: int) -> frozenset[int] | None:
        """The rooms with a change of "state", or with a "receipt", after `since`; None as above."""
        return self._kinds[kind].since(since)

    def users_since(self, stream: str, since: int) -> frozenset[int] | None:
        """The users with a change in a shared stream ("device_list", "presence", "profile"); None as above."""
        return self._shared[stream].since(since)

    def own_changed(self, user: int, device: int, since: int) -> bool:
        """Whether the user's or the device's own streams (or memberships) may have changed after `since`."""
        return self._users.changed(user, since) or (bool(device) and self._devices.changed((user, device), since))

    def membership_changed(self, user: int, since: int) -> bool:
        """Whether the user's membership of any room may have changed after `since`."""
        return self._memberships.changed(user, since)

    def unread_changed(self, user: int, since: int) -> bool:
        """Whether the user's unread counts may have changed after `since` by something that no room tells of."""
        return self._private.changed(user, since)

    def movements_since(self, since: int) -> frozenset[int] | None:
        """The rooms in which anybody's membership changed after `since`; None as above."""
        return self._movements.since(since)

    def touch_typing(self, room: int) -> int:
        """Count a change of who is typing in `room`; returns its number."""
        self.ephemeral += 1
        self._typing.add(self.ephemeral, room)
        return self.ephemeral

    def typing_since(self, ephemeral: int) -> frozenset[int] | None:
        """The rooms where typing changed after `ephemeral`; None: older than this run remembers."""
        return self._typing.since(ephemeral)
