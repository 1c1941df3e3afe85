# SPDX-License-Identifier: Apache-2.0
"""Who may append to a room right now: one holder per room, the others in the order they asked.

``async with locks.lock(room_id) as held`` gives a `Held`; everything that appends wants one. It is held until the
append's commit was published, so what follows sees what went before.
"""

from collections import deque
from types import TracebackType

from twisted.internet.defer import Deferred


class Held:
    """The right to append to one room, while the ``async with`` block lasts."""

    __slots__ = ("active", "room_id")

    def __init__(self, room_id: str) -> None:
        self.room_id = room_id
        self.active = True

    def require(self) -> str:
        """The room's id; RuntimeError once the lock has been given back."""
        if not self.active:
            raise RuntimeError(f"the lock of {self.room_id} is no longer held")
        return self.room_id


class _Turn:
    """One use of a lock."""

    __slots__ = ("_held", "_locks", "_room_id")

    def __init__(self, locks: "RoomLocks", room_id: str) -> None:
        self._locks = locks
        self._room_id = room_id
        self._held: Held | None = None

    async def __aenter__(self) -> Held:
        waiting = self._locks.waiting.get(self._room_id)
        if waiting is None:
            self._locks.waiting[self._room_id] = deque()
        else:
            turn: Deferred[None] = Deferred(lambda given_up: waiting.remove(given_up))
            waiting.append(turn)
            await turn
        self._held = Held(self._room_id)
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._held.active = False
        waiting = self._locks.waiting[self._room_id]
        if waiting:
            waiting.popleft().callback(None)
        else:
            del self._locks.waiting[self._room_id]


class RoomLocks:
    """The locks of all rooms of this process."""

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Deferred[None]]] = {}

    def lock(self, room_id: str) -> _Turn:
        """An asynchronous context manager whose value is the `Held`."""
        return _Turn(self, room_id)

    def is_held(self, room_id: str) -> bool:
        """Whether somebody holds the room."""
        return room_id in self.waiting
