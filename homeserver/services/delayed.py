# SPDX-License-Identifier: Apache-2.0
"""Knows which events wait for their time (MSC4140) and sends them when it comes, also after a restart."""

import hashlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

import attrs
import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from homeserver.protocol.errors import MatrixError, bad_json, forbidden, invalid_param, not_found
from homeserver.protocol.ids import parse_room_id
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from storage import delayed as rows
from storage import names, state
from storage.db import Change
from storage.delayed import CANCELLED, FAILED, SCHEDULED, SENT, Delayed
from storage.txn import Txn

ACTIONS: Final = ("cancel", "restart", "send")
OUTCOMES: Final = {SENT: "send", CANCELLED: "cancel", FAILED: "error"}
DEFAULT_MAX_DELAY_MS: Final = 30 * 24 * 3600 * 1000
MAX_SCHEDULED: Final = 100
KEPT_MS: Final = 7 * 24 * 3600 * 1000

log = logging.getLogger(__name__)


@attrs.frozen
class Scheduled:
    """What a client wants sent later."""

    room_id: str
    type: str
    state_key: str | None
    content: dict[str, Any]
    delay_ms: int


class Deliver(Protocol):
    """Sends one event as a user. `unique` makes a repeated delivery the same event; returns the event's id."""

    async def __call__(
        self, user: User, room_id: str, type: str, state_key: str | None, content: dict[str, Any], unique: str
    ) -> str: ...


class MayJoinedSend(Protocol):
    """Whether a user is joined to a room."""

    async def __call__(self, usr: int, room_id: str) -> bool: ...


class Clock(Protocol):
    """The part of the runtime that delays need."""

    def now_ms(self) -> int: ...
    def token(self, nbytes: int = 24) -> str: ...
    def call_later(self, seconds: float, fn: Callable[..., object], /, *args: object) -> IDelayedCall: ...


class DelayedEvents:
    """Schedules, restarts, sends and cancels. One timer per waiting event; the rows survive the process."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        deliver: Deliver,
        is_joined: MayJoinedSend,
        user_of: Callable[[int, int], Coroutine[Any, Any, User | None]],
        *,
        max_delay_ms: int = DEFAULT_MAX_DELAY_MS,
        max_scheduled: int = MAX_SCHEDULED,
    ) -> None:
        self._db = db
        self._clock = clock
        self._deliver = deliver
        self._is_joined = is_joined
        self._user_of = user_of
        self.max_delay_ms = max_delay_ms
        self.max_scheduled = max_scheduled
        self._timers: dict[str, IDelayedCall] = {}
        # State events that wait, with the position from which somebody else's state at their key replaces them.
        self._states: dict[str, tuple[Delayed, int]] = {}
        db.subscribe(self._published)
        self._sending: set[str] = set()

    async def start(self) -> None:
        """Take up everything that waited when the server stopped; what is overdue is sent at once."""
        await self._db.write(rows.prune, self._clock.now_ms() - KEPT_MS)
        for delayed in await self._db.read(rows.scheduled):
            self._plan(delayed)

    def stop(self) -> None:
        """Let the timers go; the rows wait for the next start."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        self._states.clear()

    async def schedule(self, user: User, wanted: Scheduled, scope: tuple[str, str] | None) -> str:
        """Have an event sent later; returns its delay id. The same scope (path, transaction id) gives the same id.

        Raises M_INVALID_PARAM for a delay that is not positive, M_UNKNOWN with the unstable error codes for one that
        is too long or one too many, M_FORBIDDEN for a room the user is not in.
        """
        require_not_suspended(user)
        self._check(wanted)
        if not await self._is_joined(user.usr, wanted.room_id):
            raise forbidden("You are not in this room")
        now = self._clock.now_ms()
        key = "\0".join(scope) if scope is not None else self._clock.token()
        delayed = Delayed(
            id=self._clock.token(),
            usr=user.usr,
            device=user.device,
            scope=hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(),
            room_id=wanted.room_id,
            type=wanted.type,
            state_key=wanted.state_key,
            content=orjson.dumps(wanted.content),
            delay=wanted.delay_ms,
            since=now,
        )
        stored = await self._db.write(rows.add, delayed, self.max_scheduled)
        if stored is None:
            raise MatrixError(
                400,
                "M_UNKNOWN",
                f"At most {self.max_scheduled} events may wait",
                **{"org.matrix.msc4140.errcode": "M_MAX_DELAYED_EVENTS_EXCEEDED"},
            )
        if stored.id == delayed.id:
            self._plan(stored)
        return stored.id

    def _check(self, wanted: Scheduled) -> None:
        parse_room_id(wanted.room_id)
        if wanted.delay_ms <= 0:
            raise invalid_param("The delay must be more than 0 milliseconds")
        if wanted.delay_ms > self.max_delay_ms:
            raise MatrixError(
                400,
                "M_UNKNOWN",
                "The delay is longer than this server allows",
                **{
                    "org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED",
                    "org.matrix.msc4140.max_delay": self.max_delay_ms,
                },
            )
        try:
            size = len(orjson.dumps(wanted.content))
        except (TypeError, ValueError):
            raise bad_json("The content cannot be an event's") from None
        if size > 65_536 or len(wanted.type.encode("utf-8", "replace")) > 255:
            raise MatrixError(413, "M_TOO_LARGE", "The event is too large")

    async def act(self, delay_id: str, action: str) -> None:
        """Cancel, restart or send. Repeating what became of the event succeeds; all else then is a 409."""
        delayed = await self._db.point(rows.find, delay_id)
        if delayed is None:
            raise not_found("There is no such delayed event")
        now = self._clock.now_ms()
        if delayed.outcome == SCHEDULED and action == "restart":
            if await self._db.write(rows.restart, delay_id, now):
                self._plan(attrs.evolve(delayed, since=now))
                return
        elif delayed.outcome == SCHEDULED and action == "cancel" and delay_id not in self._sending:
            if await self._db.write(rows.end, delay_id, CANCELLED, None, now):
                self._forget(delay_id)
                return
        elif delayed.outcome == SCHEDULED and action == "send" and delay_id not in self._sending:
            self._forget(delay_id)
            error = await self._send(delayed)
            if error is not None:
                raise error
            return
        settled = await self._db.point(rows.find, delay_id) or delayed
        if OUTCOMES.get(settled.outcome) != action:
            raise MatrixError(409, "M_UNKNOWN", "What became of this delayed event is settled already")

    async def all_of(self, user: User) -> dict[str, object]:
        """Everything of the caller that waits, and what became of the rest."""
        found = await self._db.read(rows.of_user, user.usr)
        waiting = [_shown(one) for one in found if one.outcome == SCHEDULED]
        ended = [_shown(one) for one in found if one.outcome != SCHEDULED]
        return {"delayed_events": waiting, "scheduled": waiting, "finalised": ended}

    async def one_of(self, user: User, delay_id: str) -> dict[str, object]:
        """One delayed event of the caller; M_NOT_FOUND for other people's."""
        found = await self._db.point(rows.find, delay_id)
        if found is None or found.usr != user.usr:
            raise not_found("There is no such delayed event")
        return _shown(found)

    # Timers

    def _plan(self, delayed: Delayed) -> None:
        _, since = self._states.get(delayed.id, (delayed, self._db.published))
        self._forget(delayed.id)
        if delayed.state_key is not None:
            self._states[delayed.id] = (delayed, since)
        seconds = max(0.0, (delayed.fires - self._clock.now_ms()) / 1000)
        self._timers[delayed.id] = self._clock.call_later(seconds, self._fire, delayed)

    def _forget(self, delay_id: str) -> None:
        self._states.pop(delay_id, None)
        timer = self._timers.pop(delay_id, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        """What somebody sets at the key of another's waiting state event takes its place; one's own does not."""
        if not self._states:
            return
        rooms = {change.room for change in changes if change.stream == "state"}
        if rooms:
            waiting = list(self._states.values())
            checked = Deferred.fromCoroutine(self._cancel_replaced(waiting, rooms))
            checked.addErrback(lambda failure: log.error("delayed events: %s", failure.getTraceback()))

    async def _cancel_replaced(self, waiting: list[tuple[Delayed, int]], rooms: set[int | None]) -> None:
        for delayed, since in waiting:
            if await self._db.point(_is_replaced, delayed, since, rooms):
                if await self._db.write(rows.end, delayed.id, CANCELLED, None, self._clock.now_ms()):
                    self._forget(delayed.id)

    def _fire(self, delayed: Delayed) -> None:
        self._timers.pop(delayed.id, None)
        self._states.pop(delayed.id, None)
        sent = Deferred.fromCoroutine(self._send(delayed))
        sent.addErrback(lambda failure: log.error("delayed event %s: %s", delayed.id, failure.getTraceback()))

    async def _send(self, delayed: Delayed) -> MatrixError | None:
        """Send it and record what came of it; the error when it was refused."""
        self._sending.add(delayed.id)
        try:
            user = await self._user_of(delayed.usr, delayed.device)
            if user is None:
                raise forbidden("The account is deactivated")
            content = orjson.loads(delayed.content)
            event_id = await self._deliver(
                user, delayed.room_id, delayed.type, delayed.state_key, content, f"delayed/{delayed.id}"
            )
        except MatrixError as error:
            await self._db.write(rows.end, delayed.id, FAILED, error.message, self._clock.now_ms())
            return error
        finally:
            self._sending.discard(delayed.id)
        await self._db.write(rows.end, delayed.id, SENT, event_id, self._clock.now_ms())
        return None


def _is_replaced(txn: Txn, delayed: Delayed, since: int, rooms: set[int | None]) -> bool:
    """Whether somebody else set the state that a delayed event would set, after a position."""
    room = names.room_nid(txn, delayed.room_id)
    if room is None or room not in rooms:
        return False
    found = state.current_events(txn, room, [(delayed.type, delayed.state_key or "")])
    return bool(found) and found[0].nid > since and found[0].sender != names.user_id(txn, delayed.usr)


def _shown(delayed: Delayed) -> dict[str, object]:
    """A delayed event under the names of all three generations."""
    shown: dict[str, object] = {
        "delay_id": delayed.id,
        "room_id": delayed.room_id,
        "type": delayed.type,
        "delay": delayed.delay,
        "delay_ms": delayed.delay,
        "running_since": delayed.since,
        "delayed_since_ts": delayed.since,
        "content": orjson.Fragment(delayed.content),
    }
    if delayed.state_key is not None:
        shown["state_key"] = delayed.state_key
    if delayed.outcome != SCHEDULED:
        ended: dict[str, object] = {"outcome": OUTCOMES[delayed.outcome], "finalised_ts": delayed.ended}
        if delayed.outcome == SENT:
            ended |= {"event_id": delayed.detail, "origin_server_ts": delayed.ended}
        elif delayed.outcome == FAILED:
            ended["error"] = {"errcode": "M_UNKNOWN", "error": delayed.detail or ""}
        shown["finalised"] = ended
    return shown
