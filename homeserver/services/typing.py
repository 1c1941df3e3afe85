# SPDX-License-Identifier: Apache-2.0
"""Who is typing where, right now; nothing of it outlives the process."""

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IDelayedCall

from homeserver.protocol.errors import forbidden
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier
from storage import standing
from storage.txn import Change

USUAL_MS = 30_000
LONGEST_MS = 120_000

#: Told of each start and stop by a local user: (room number, room id, user id, typing).
Observer = Callable[[int, str, str, bool], None]


class Typing:
    """People who type, by room. Every start and every stop (not a renewal) moves the notifier's ephemeral counter."""

    def __init__(self, database: Database, runtime: Runtime, notifier: Notifier) -> None:
        self._database = database
        self._runtime = runtime
        self._notifier = notifier
        self._rooms: dict[int, dict[str, IDelayedCall]] = {}
        self._observers: list[Observer] = []
        self._watchers: list[Callable[[int], None]] = []
        database.subscribe(self._published)

    def observe(self, observer: Observer) -> None:
        """Have local starts and stops told to `observer`, for other servers."""
        self._observers.append(observer)

    def watch(self, watcher: Callable[[int], None]) -> None:
        """Have the number of each room told to `watcher` in which anybody starts or stops."""
        self._watchers.append(watcher)

    async def set(self, user: User, room_id: str, typing: bool, timeout_ms: int | None = None) -> None:
        """A local user starts, goes on or stops. Raises M_FORBIDDEN when they are not in the room."""
        room = await self._database.point(standing.joined_room, user.usr, room_id)
        if room is None:
            raise forbidden("You are not in this room")
        length = USUAL_MS if timeout_ms is None else min(timeout_ms, LONGEST_MS)
        if self._note(room, user.user_id, typing, length, room_id):
            self._tell(room, room_id, user.user_id, typing)

    def received(self, room: int, user_id: str, typing: bool) -> None:
        """A user of another server starts or stops; who calls has checked that the user is in the room."""
        self._note(room, user_id, typing, USUAL_MS, None)

    def stopped(self, room: int, room_id: str, user_id: str) -> None:
        """A user sent their message or left: they do not type any more."""
        if room in self._rooms and self._note(room, user_id, False, 0, room_id):
            self._tell(room, room_id, user_id, False)

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        """Who leaves a room does not type in it any more."""
        for change in changes:
            if change.stream == "membership" and change.room in self._rooms and change.user is not None:
                names = self._database.names
                user_id = names.user_ids.get(change.user)
                room_id, _ = names.room_ids.get(change.room, ("", ""))
                if user_id is not None and user_id in self._rooms[change.room]:
                    self.stopped(change.room, room_id, user_id)

    def in_rooms(self, rooms: Iterable[int]) -> dict[int, list[str]]:
        """The users typing in each of these rooms, in the order they started; the list is empty where nobody does.

        Which rooms changed after a token's counter is asked of `Streams.typing_since`; a room's content is then
        `{"user_ids": [...]}`, an empty list included.
        """
        return {room: list(self._rooms.get(room, ())) for room in rooms}

    def active_rooms(self) -> frozenset[int]:
        """The rooms in which somebody types, for a client that asks for the first time."""
        return frozenset(self._rooms)

    def _note(self, room: int, user_id: str, typing: bool, length_ms: int, room_id: str | None) -> bool:
        """Whether this is a start or a stop. `room_id` is given for local users, whose time-outs are told."""
        people = self._rooms.setdefault(room, {}) if typing else self._rooms.get(room, {})
        timer = people.get(user_id)
        if typing:
            if timer is not None:
                timer.reset(length_ms / 1000)
                return False
            people[user_id] = self._runtime.call_later(length_ms / 1000, self._expire, room, user_id, room_id)
        else:
            if timer is None:
                return False
            if timer.active():
                timer.cancel()
            del people[user_id]
            if not people:
                del self._rooms[room]
        self._notifier.typing_changed(room)
        for watcher in self._watchers:
            watcher(room)
        return True

    def _expire(self, room: int, user_id: str, room_id: str | None) -> None:
        if self._note(room, user_id, False, 0, room_id) and room_id is not None:
            self._tell(room, room_id, user_id, False)

    def _tell(self, room: int, room_id: str, user_id: str, typing: bool) -> None:
        for observer in self._observers:
            observer(room, room_id, user_id, typing)

    def stop(self) -> None:
        """Cancel every timer; the server stops."""
        rooms, self._rooms = self._rooms, {}
        for people in rooms.values():
            for timer in people.values():
                if timer.active():
                    timer.cancel()
