# SPDX-License-Identifier: Apache-2.0
"""Knows who is waiting for news, and wakes them when a commit or something in memory touches what they can see."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from homeserver.services.streams import Change, Streams, concerns_room

T = TypeVar("T")

#: How many (user, room) pairs stay registered for wake-ups after their user stopped asking.
LISTENED_ROOMS = 500_000
LISTENERS = 50_000


class Timer(Protocol):
    """The part of the runtime that a wait needs."""

    def call_later(self, seconds: float, fn: Callable[..., object], /, *args: object) -> IDelayedCall: ...

    def soon(self, fn: Callable[..., object], /, *args: object) -> None: ...


class Listener:
    """One user who asks for news: the rooms that wake the user, and the requests that wait right now."""

    __slots__ = ("rooms", "user", "waiting")

    def __init__(self, user: int) -> None:
        self.user = user
        self.rooms: frozenset[int] = frozenset()
        self.waiting: list[Deferred[bool]] = []


class Notifier:
    """The one place where a commit turns into wake-ups.

    `publish` is called on the reactor right after a commit is durable and before any writer resumes. Waiters resume in
    a later turn of the reactor, so that the writer's own answer goes out first and one batch wakes a waiter once.
    """

    def __init__(self, timer: Timer, streams: Streams) -> None:
        self._timer = timer
        self.streams = streams
        self._listeners: OrderedDict[int, Listener] = OrderedDict()
        self._by_room: dict[int, set[Listener]] = {}
        self._pairs = 0
        self._woken: set[Listener] = set()
        self._turn_planned = False
        self._subscribers: list[Callable[[int, Sequence[Change]], None]] = []

    # What writers and in-memory services call

    def begin(self, position: int) -> None:
        """Called once, when the database is open: `position` is what it has published so far."""
        self.streams.begin(position)

    def subscribe(self, on_publish: Callable[[int, Sequence[Change]], None]) -> None:
        """Have `on_publish(position, changes)` called after every commit, before anybody wakes; it must be quick."""
        self._subscribers.append(on_publish)

    def publish(self, position: int, changes: Sequence[Change]) -> None:
        """Take in one commit and plan the wake-ups it causes."""
        self.streams.record(position, changes)
        for subscriber in self._subscribers:
            subscriber(position, changes)
        for change in changes:
            if change.room is not None and concerns_room(change):
                self._wake_room(change.room)
            if change.user is not None:
                self._wake_user(change.user)

    def typing_changed(self, room: int) -> int:
        """Somebody started or stopped typing in `room`; returns the number of this change."""
        number = self.streams.touch_typing(room)
        self._wake_room(room)
        return number

    def wake_rooms(self, rooms: Iterable[int]) -> None:
        """Wake everybody who listens to one of `rooms`."""
        for room in rooms:
            self._wake_room(room)

    # What waiting requests call

    def listen(self, user: int, rooms: frozenset[int]) -> None:
        """From now on a change in one of `rooms` wakes `user`. Cheap when the rooms are the same as before."""
        listener = self._listeners.get(user)
        if listener is None:
            listener = self._listeners[user] = Listener(user)
        else:
            self._listeners.move_to_end(user)
        if listener.rooms is not rooms and listener.rooms != rooms:
            self._register(listener, rooms)
        while self._pairs > LISTENED_ROOMS or len(self._listeners) > LISTENERS:
            if not self._forget_oldest(user):
                break

    def wait(self, user: int, timeout: float) -> Deferred[bool]:
        """True when something woke the user within `timeout` seconds, else False. The user must be listening.

        The caller checks, in the same turn of the reactor, that nothing happened since the position it last looked at.
        """
        listener = self._listeners.get(user)
        if listener is None:
            listener = self._listeners[user] = Listener(user)

        def leave(_deferred: Deferred[bool]) -> None:
            if waiter in listener.waiting:
                listener.waiting.remove(waiter)

        waiter: Deferred[bool] = Deferred(leave)
        listener.waiting.append(waiter)
        timer = self._timer.call_later(timeout, self._time_out, listener, waiter)

        def stop_timer(result: T) -> T:
            if timer.active():
                timer.cancel()
            return result

        return waiter.addBoth(stop_timer)

    def waiting(self) -> int:
        """How many requests wait right now."""
        return sum(len(listener.waiting) for listener in self._listeners.values())

    def wake_everybody(self) -> None:
        """Answer all waiting requests soon (the server drains)."""
        for listener in self._listeners.values():
            self._plan(listener)

    # Inside

    def _register(self, listener: Listener, rooms: frozenset[int]) -> None:
        for room in listener.rooms - rooms:
            listeners = self._by_room[room]
            listeners.discard(listener)
            if not listeners:
                del self._by_room[room]
        for room in rooms - listener.rooms:
            self._by_room.setdefault(room, set()).add(listener)
        self._pairs += len(rooms) - len(listener.rooms)
        listener.rooms = rooms

    def _forget_oldest(self, keep: int) -> bool:
        for user, listener in self._listeners.items():
            if user != keep and not listener.waiting:
                self._register(listener, frozenset())
                del self._listeners[user]
                return True
        return False

    def _wake_room(self, room: int) -> None:
        for listener in self._by_room.get(room, ()):
            if listener.waiting:
                self._plan(listener)

    def _wake_user(self, user: int) -> None:
        listener = self._listeners.get(user)
        if listener is not None and listener.waiting:
            self._plan(listener)

    def _plan(self, listener: Listener) -> None:
        self._woken.add(listener)
        if not self._turn_planned:
            self._turn_planned = True
            self._timer.soon(self._wake_planned)

    def _wake_planned(self) -> None:
        self._turn_planned = False
        woken, self._woken = self._woken, set()
        for listener in woken:
            waiting, listener.waiting = listener.waiting, []
            for waiter in waiting:
                waiter.callback(True)

    def _time_out(self, listener: Listener, waiter: Deferred[bool]) -> None:
        if waiter in listener.waiting:
            listener.waiting.remove(waiter)
            waiter.callback(False)
