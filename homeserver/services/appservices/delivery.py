# SPDX-License-Identifier: Apache-2.0
"""Telling application services what happens: in order, one transaction at a time, until it arrives.

One delivery per service, with these states:

=========  ==============  =======================================================================
state      leaves it       by
=========  ==============  =======================================================================
resting    to working      a commit that was published, or somebody who starts or stops typing
working    to resting      nothing is left to tell
working    to waiting      the service did not take a transaction
waiting    to working      time, twice as long after each failure; a ping that came through
any        stopped         the server stops
=========  ==============  =======================================================================

A transaction is stored before it goes out and goes out again unchanged, under its id, until the service says 200; that
is stored together with the next one. One that holds nothing but what passes (typing, receipts, presence) is not stored.
"""

import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from homeserver.config.appservice import AppServiceRegistration
from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from homeserver.services.appservices.calls import Said
from homeserver.services.appservices.contents import Found, News, Reader, body_of
from homeserver.services.database import Database
from homeserver.services.egress import NoAnswer
from storage import appservices
from storage.appservices import Cursor, Pending
from storage.txn import Change

T = TypeVar("T")

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 300.0
#: How far what was looked at in vain may be ahead of what is stored.
FORGETTABLE = 2_000
#: How long after a change it is looked at: what comes meanwhile goes out with it.
LAG = 0.01

_log = logging.getLogger(__name__)


class Taker(Protocol):
    """Who carries transactions to services; raises NoAnswer."""

    def transaction(
        self, service: AppServiceRegistration, txn: str, body: bytes
    ) -> Coroutine[Deferred[Any], Any, Said]: ...


class Typists(Protocol):
    """Who knows who is typing, by room."""

    def in_rooms(self, rooms: Sequence[int]) -> dict[int, list[str]]: ...


class Attendance(Protocol):
    """Who knows who is online: the content of a user's m.presence."""

    async def of(self, usr: int) -> dict[str, Any] | None: ...


class Announce(Protocol):
    """Tells a service of one of its users whom somebody else asked for."""

    def announce(self, service: AppServiceRegistration, user_id: str) -> Coroutine[Deferred[Any], Any, None]: ...


@attrs.frozen
class Parts:
    """What all deliveries share."""

    db: Database
    runtime: Runtime
    taker: Taker
    typing: Typists
    presence: Attendance
    queries: Announce


@attrs.define(eq=False)
class Delivery:
    """To one service. `position` is how far it has been told, or looked at in vain; `stored` what the database says.

    `pending` is the transaction under way, `arrived` the one before it while that is not stored.
    """

    service: AppServiceRegistration
    parts: Parts
    reader: Reader
    news: News = attrs.field(factory=News)
    position: int = 0
    stored: int = 0
    pending: Pending | None = None
    arrived: Pending | None = None
    failures: int = 0
    working: bool = False
    again: bool = False
    timer: IDelayedCall | None = None
    calling: Deferred[Any] | None = None
    stopped: bool = False
    stale: bool = True
    unsure: set[int] = attrs.field(factory=set)
    """Rooms with events that came during a look: it tells whether they matter."""

    def begin(self, cursor: Cursor) -> None:
        """Take up the work where it was."""
        self.position = self.stored = cursor.position
        self.pending = cursor.pending
        self.wake()

    def wake(self) -> None:
        """There may be something to tell."""
        if self.working:
            self.again = True
        elif self.timer is None:
            self._plan(LAG)

    def notice(self, position: int, changes: Sequence[Change]) -> None:
        """Take in one commit. What surely is none of the service's business costs nothing more."""
        if any([self._matters(change) for change in changes]) or position - self.position > FORGETTABLE:
            self.wake()

    def _matters(self, change: Change) -> bool:
        stream, usr, room, news = change.stream, change.user, change.room, self.news
        service = self.service
        if stream == "event" and room is not None:
            if self.working:
                self.unsure.add(room)
            elif self.reader.passes_over(room):
                return False
            news.rooms[room] = change.pos
            return not self.working
        if stream in ("receipt", "private_receipt") and room is not None:
            news.receipts[room] = change.pos
            return service.receive_ephemeral
        if stream == "to_device" and usr is not None and change.device is not None:
            news.mailboxes[usr, change.device] = change.pos
            return service.receive_ephemeral or service.receive_devices
        if stream == "keys" and usr is not None and change.device is not None:
            news.keys[usr, change.device] = change.pos
            return service.receive_devices
        if stream in ("presence", "device_list"):
            return service.receive_ephemeral if stream == "presence" else service.receive_devices
        return stream in ("membership", "directory")

    def hurry(self) -> None:
        """The service is there: do not wait for the next try."""
        if self.failures and self.timer is not None:
            self.timer.cancel()
            self._plan(0.0)

    def _plan(self, seconds: float) -> None:
        if not self.stopped:
            self.timer = self.parts.runtime.call_later(seconds, self._start)

    def _start(self) -> None:
        self.timer = None
        self.working = True
        self.parts.runtime.background(f"application service {self.service.id}", self._work())

    def stop(self) -> None:
        self.stopped = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.calling is not None:
            self.calling.cancel()

    async def _work(self) -> None:
        self.again = False
        try:
            while not self.stopped and await self._tell():
                pass
            self.working = False
            came, self.unsure = self.unsure, set()
            if self.again or not all(self.reader.passes_over(room) for room in came):
                self.wake()
        except (NoAnswer, MatrixError) as error:
            self._fail(str(error) or type(error).__name__)
        except BaseException as error:
            self._fail(f"{type(error).__name__}: {error}")
            raise

    def _fail(self, why: str) -> None:
        """Plan the next try."""
        self.working = False
        if self.stopped:
            return
        if not self.failures:
            _log.warning("application service %s does not take what it is sent: %s", self.service.id, why)
        seconds = min(FIRST_RETRY_SECONDS * 2**self.failures, LONGEST_RETRY_SECONDS)
        self.failures = min(self.failures + 1, 30)
        self._plan(seconds)

    async def _tell(self) -> bool:
        """Send one transaction; whether there may be another."""
        if self.stale:
            await self._learn()
        if self.pending is not None:
            await self._send(self.pending.txn, self.pending.body)
            self.arrived, self.pending = self.pending, None
            self.position = self.arrived.upto
            self.news.settle(self.position)
        upto = self.parts.db.published
        typing, self.news.typing = self.news.typing, set()
        if upto <= self.position and not typing:
            await self.save()
            return False
        looked = attrs.evolve(self.news, typing=typing)
        try:
            found = await self.parts.db.snapshot(self.reader.read, looked, self.position, upto)
            body = body_of(found, await self._ephemeral(found))
            if body is None:
                await self._pass(found.end)
                return found.end < upto
            for user_id in found.unknown:
                await self._out(self.parts.queries.announce(self.service, user_id))
            pending = Pending(f"{found.end}.{self.parts.runtime.token(6)}", found.end, body, found.delivered)
            if found.is_lasting:
                await self.parts.db.write(appservices.hold, self.service.id, self.position, pending, self.arrived)
                self.stored, self.pending, self.arrived = self.position, pending, None
            else:
                await self._send(pending.txn, body)
                await self._pass(found.end)
        except Exception:
            self.news.typing |= typing
            raise
        return True

    async def _learn(self) -> None:
        """Find in the database what no announcement told of."""
        db, service = self.parts.db, self.service
        self.reader.forget()
        self.news.blind = upto = db.published
        for usr, device, pos in await db.read(appservices.waiting_devices, self.position):
            self.news.mailboxes[usr, device] = max(pos, self.news.mailboxes.get((usr, device), 0))
        if service.receive_devices:
            for own in await db.read(appservices.devices_of_service, service.id):
                self.news.keys[own] = max(upto, self.news.keys.get(own, 0))
        self.stale = False

    async def _pass(self, position: int) -> None:
        """Nothing up to there needs to be remembered."""
        self.position = max(self.position, position)
        self.news.settle(position)
        if self.arrived is not None or self.position - self.stored > FORGETTABLE:
            await self.save()

    async def save(self) -> None:
        """Store how far the service has been told."""
        if self.arrived is not None:
            await self.parts.db.write(appservices.acknowledge, self.service.id, self.position, self.arrived)
        elif self.pending is None and self.position > self.stored:
            await self.parts.db.write(appservices.advance, self.service.id, self.position)
        else:
            return
        self.stored, self.arrived = self.position, None

    async def _ephemeral(self, found: Found) -> list[dict[str, Any]]:
        events = [*found.ephemeral]
        people = self.parts.typing.in_rooms(list(found.typing))
        for room, room_id in found.typing.items():
            events.append({"type": "m.typing", "room_id": room_id, "content": {"user_ids": people[room]}})
        for usr, user_id in found.presence.items():
            content = await self.parts.presence.of(usr)
            if content is not None:
                events.append({"type": "m.presence", "sender": user_id, "content": content})
        return events

    async def _send(self, txn: str, body: bytes) -> None:
        """Raises NoAnswer unless the service took it."""
        said = await self._out(self.parts.taker.transaction(self.service, txn, body))
        if not said.ok:
            raise NoAnswer(f"it answered with status {said.status}")
        if self.failures:
            _log.info("application service %s takes what it is sent again", self.service.id)
        self.failures = 0

    async def _out(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """Call the service; a stop ends it. Raises NoAnswer."""
        if self.stopped:
            work.close()
            raise NoAnswer("the server stops")
        self.calling = Deferred.fromCoroutine(work)
        try:
            found: T = await self.calling
            return found
        finally:
            self.calling = None


class Deliveries:
    """Deliveries to all services that have an address."""

    def __init__(self, parts: Parts, readers: Sequence[tuple[AppServiceRegistration, Reader]]) -> None:
        self._parts = parts
        self._all = {service.id: Delivery(service, parts, reader) for service, reader in readers}

    async def start(self) -> None:
        """Take up every service where it was, and follow the stream."""
        db = self._parts.db
        if not self._all and not await db.point(appservices.has_any):
            return
        cursors = await db.write(appservices.begin, list(self._all), db.published)
        db.subscribe(self._published)
        db.on_reset(self._distrust)
        for one in self._all.values():
            one.begin(cursors[one.service.id])

    async def stop(self) -> None:
        """Tell nobody any more, and store how far each has been told."""
        for one in self._all.values():
            one.stop()
        for one in self._all.values():
            await one.save()

    @property
    def failing(self) -> int:
        """How many services do not take what they are sent."""
        return sum(1 for one in self._all.values() if one.failures)

    @property
    def behind(self) -> int:
        """How many changes the service that is furthest behind has not been told of."""
        return max((self._parts.db.published - one.position for one in self._all.values()), default=0)

    def hurry(self, service_id: str) -> None:
        """A service has shown that it can be reached."""
        if service_id in self._all:
            self._all[service_id].hurry()

    def typing(self, room: int) -> None:
        """Somebody started or stopped typing."""
        for one in self._all.values():
            if one.service.receive_ephemeral:
                one.news.typing.add(room)
                one.wake()

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        for one in self._all.values():
            one.notice(position, changes)

    def _distrust(self) -> None:
        """The database was lost and came back: look everything up again."""
        for one in self._all.values():
            one.stale = True
