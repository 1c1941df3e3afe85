# SPDX-License-Identifier: Apache-2.0
"""How events and EDUs get to the servers that are to have them: a queue for each, a cursor over the stream for all.

A destination is in one of these states:

==============  ================================================  =================================================
state           means                                             leaves it by
==============  ================================================  =================================================
idle            nothing waits                                     something waits -> sending
sending         a transaction is on its way                       answered, nothing waits -> idle;
                                                                  not answered -> backing off
backing off     the last transaction failed, a timer runs         the timer, or a signed request from there ->
                                                                  sending
==============  ================================================  =================================================

Beside that a destination may be *behind*: what it has to get is not in its queue but read from the stream again, from
the position it is known to have. That is so after a restart, and when a queue grew too long.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs
import orjson
from twisted.internet.interfaces import IDelayedCall

from federation.outbound.client import Client, segment
from federation.outbound.delivered import Delivered
from federation.outbound.destination import Destinations, Health
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure
from storage import destinations, edu_outbox, federation_rooms
from storage.destinations import Behind, Item
from storage.txn import Change

_log = logging.getLogger(__name__)

MOST_PDUS, MOST_EDUS = 50, 100
LONGEST_QUEUE = 500
CATCH_UP, CATCH_UP_EACH = 2_000, 100
SECONDS = 60.0
LARGEST_ANSWER = 1 << 20
KEEP_SECONDS = 20.0
AT_ONCE = 100


class State(Enum):
    """See the table of this module."""

    IDLE = "idle"
    SENDING = "sending"
    BACKING_OFF = "backing off"


@attrs.define(slots=True, eq=False)
class Destination:
    """One server's queue. `behind` is the position it has everything up to; None when the queue holds all it lacks."""

    server: str
    state: State = State.IDLE
    queue: deque[Item] = attrs.field(factory=deque)
    behind: int | None = None
    skipped: int = 0
    """The position of the last item that was not put into the queue, as it was behind."""
    outbox: bool = False
    passing: dict[tuple[str, ...], dict[str, Any]] = attrs.field(factory=dict)
    """EDUs that may get lost, by what makes a newer one replace an older one."""
    timer: IDelayedCall | None = None
    kept: bool = False
    """Whether its row says that it is behind."""
    transactions: int = 0


@attrs.frozen(slots=True)
class Batch:
    """One transaction, and what it settles."""

    body: bytes
    pdus: int
    outbox_up_to: int
    passing: tuple[tuple[str, ...], ...]


class Sender:
    """Sends to every destination what it is to have."""

    def __init__(
        self,
        server_name: str,
        runtime: Runtime,
        db: Database,
        client: Client,
        health: Destinations,
        delivered: Delivered,
    ) -> None:
        self._delivered = delivered
        self._server_name = server_name
        self._runtime = runtime
        self._db = db
        self._client = client
        self._health = health
        self.known: dict[str, Destination] = {}
        self._handed = 0
        self._kept_at = 0
        self._rooms: dict[int, frozenset[str]] = {}
        self._generation = 0
        self._reading = False
        self._again = False
        self._stopped = False
        self._outbox = True
        self._running = 0
        self._turns: deque[Destination] = deque()
        health.on_return(self.wake)

    # ---- start and stop ----

    async def start(self) -> None:
        """Take up what was not sent when the server stopped."""
        stored = await self._db.read(destinations.cursor)
        if stored is None:  # from the first start on, so that a crash loses nothing
            await self._db.write(destinations.move, self._db.published, [])
        self._handed = self._db.published if stored is None else min(stored, self._db.published)
        self._kept_at = self._handed
        for behind in await self._db.read(destinations.all_behind):
            destination = self._of(behind.server)
            destination.behind, destination.kept = behind.position, True
            if behind.failing_since:
                health = Health(behind.failing_since, behind.retry_at, behind.interval_ms)
                self._health.remember(behind.server, health)
            self._go(destination)
        for server in await self._db.read(edu_outbox.servers_after, 0):
            self._of(server).outbox = True
            self._go(self._of(server))
        self._db.subscribe(self.published)
        self._db.on_reset(self._rooms.clear)
        self._runtime.background("federation", self._keep_going())
        self._read_soon()

    async def stop(self) -> None:
        """Send no more, and keep where everybody is."""
        self._stopped = True
        for destination in self.known.values():
            if destination.timer is not None and destination.timer.active():
                destination.timer.cancel()
        await self._keep()

    async def _keep_going(self) -> None:
        """Every few seconds keeps how far everything is, so that a crash repeats little."""
        while not self._stopped:
            await self._runtime.sleep(KEEP_SECONDS)
            if not self._stopped:
                await self._keep()

    async def _keep(self) -> None:
        late = [self._row(one) for one in self.known.values() if one.queue or one.behind is not None]
        if self._handed > self._kept_at or any(not self.known[row.server].kept for row in late):
            self._kept_at = self._handed
            await self._db.write(destinations.move, self._handed, late)
            for row in late:
                self.known[row.server].kept = True

    def _row(self, destination: Destination) -> Behind:
        has = destination.behind
        if has is None:
            has = destination.queue[0].pos - 1 if destination.queue else self._handed
        health = self._health.health(destination.server)
        return Behind(destination.server, has, health.failing_since, health.retry_at, health.interval_ms)

    # ---- what happens ----

    def published(self, position: int, changes: Sequence[Change]) -> None:
        """Called with every commit."""
        concerns = False
        for change in changes:
            if change.stream == "membership" and change.room is not None:
                self._rooms.pop(change.room, None)
                self._generation += 1
                concerns = True
            elif change.stream == "event" and change.room is not None:
                concerns = concerns or self._rooms.get(change.room) != frozenset()
            elif change.stream in ("relay", "edu_outbox"):
                concerns = True
                self._outbox = self._outbox or change.stream == "edu_outbox"
        if concerns:
            self._read_soon()
        elif not self._reading and self._handed < position:
            self._handed = position

    def pass_on(self, servers: Iterable[str], key: tuple[str, ...], edu: Mapping[str, Any]) -> None:
        """Sends an EDU that may get lost; one of the same key that still waits is replaced."""
        for server in servers:
            if self._health.permitted(server) and self._health.allows(server):
                destination = self._of(server)
                destination.passing.pop(key, None)
                destination.passing[key] = dict(edu)
                while len(destination.passing) > MOST_EDUS:
                    del destination.passing[next(iter(destination.passing))]
                self._go(destination)

    async def servers_of_room(self, room: int) -> frozenset[str]:
        """The other servers in a room."""
        return (await self._servers([room]))[room]

    def wake(self, server: str) -> None:
        """The server is there again: try at once."""
        destination = self.known.get(server)
        if destination is not None and destination.state is State.BACKING_OFF:
            if destination.timer is not None and destination.timer.active():
                destination.timer.cancel()
            destination.state = State.IDLE
            self._go(destination)

    # ---- from the stream to the queues ----

    def _read_soon(self) -> None:
        """Have what was committed handed out, in a moment or when what is being read now is done."""
        self._again = True
        if not self._reading and not self._stopped:
            self._reading = True
            self._runtime.background("handing out events", self._hand_out())

    async def _hand_out(self) -> None:
        try:
            while self._again and not self._stopped:
                self._again = False
                up_to = self._db.published
                while self._handed < up_to:
                    self._handed = await self._hand_out_between(self._handed, up_to)
        finally:
            self._reading = False

    async def _hand_out_between(self, after: int, up_to: int) -> int:
        found = await self._db.read(destinations.items, after, up_to)
        wanted = await self._not_delivered(found)
        present = await self._servers({item.room for item in wanted})
        for item in wanted:
            servers = present[item.room]
            target = item.target.partition(":")[2] if item.target is not None else self._server_name
            if target != self._server_name:
                # Whoever is removed learns of it, too.
                servers = servers | {target}
            for server in servers:
                if self._health.permitted(server):
                    self._offer(self._of(server), item)
        if self._outbox:
            self._outbox = False
            for server in await self._db.read(edu_outbox.servers_after, after):
                self._of(server).outbox = True
                self._go(self._of(server))
        return found[-1].pos if len(found) >= 5_000 else up_to

    async def _not_delivered(self, found: Sequence[Item]) -> Sequence[Item]:
        """What others have not passed on for us."""
        if not found or not self._delivered:
            return found
        ids = await self._db.read(federation_rooms.ids_of, [item.nid for item in found])
        return [item for item, event_id in zip(found, ids, strict=True) if event_id not in self._delivered]

    async def _servers(self, rooms: Iterable[int]) -> dict[int, frozenset[str]]:
        """Room → the other servers in it; remembered until somebody comes or goes."""
        wanted = list(rooms)
        found = {room: self._rooms[room] for room in wanted if room in self._rooms}
        unknown = [room for room in wanted if room not in found]
        if unknown:
            generation = self._generation
            read = await self._db.read(destinations.servers_of, unknown, self._server_name)
            if generation == self._generation:
                self._rooms.update(read)
            found.update(read)
        return found

    def _offer(self, destination: Destination, item: Item) -> None:
        if destination.behind is not None:
            destination.skipped = item.pos
        else:
            destination.queue.append(item)
            if len(destination.queue) > LONGEST_QUEUE:
                destination.behind, destination.skipped = destination.queue[0].pos - 1, item.pos
                destination.queue.clear()
        self._go(destination)

    def _of(self, server: str) -> Destination:
        found = self.known.get(server)
        if found is None:
            found = self.known[server] = Destination(server)
        return found

    # ---- sending ----

    def _go(self, destination: Destination) -> None:
        if destination.state is State.IDLE and not self._stopped:
            destination.state = State.SENDING
            if self._running >= AT_ONCE:
                self._turns.append(destination)
                return
            self._running += 1
            self._runtime.background(f"sending to {destination.server}", self._send_all(destination))

    async def _send_all(self, destination: Destination) -> None:
        """Transaction after transaction until nothing waits, or one fails."""
        try:
            while not self._stopped:
                if not self._health.allows(destination.server):
                    self._back_off(destination)
                    return
                if destination.behind is not None and not destination.queue:
                    await self._catch_up(destination)
                batch = await self._batch(destination)
                if batch is None:
                    await self._settled(destination)
                    if destination.queue or destination.passing or destination.behind is not None:
                        continue
                    destination.state = State.IDLE
                    return
                if not await self._sent(destination, batch):
                    self._back_off(destination)
                    return
        except Exception:
            destination.state = State.IDLE
            raise
        finally:
            self._running -= 1
            if self._turns and not self._stopped:
                self._running += 1
                waiting = self._turns.popleft()
                self._runtime.background(f"sending to {waiting.server}", self._send_all(waiting))

    async def _settled(self, destination: Destination) -> None:
        """It has everything."""
        if destination.kept and destination.behind is None:
            destination.kept = False
            await self._db.write(destinations.caught_up, destination.server)

    async def _catch_up(self, destination: Destination) -> None:
        """Reads again what it lacks, the last events of each room when that is much."""
        assert destination.behind is not None
        after, up_to = destination.behind, max(self._handed, destination.skipped)
        found = await self._db.read(
            destinations.missed, destination.server, self._server_name, after, up_to, CATCH_UP, CATCH_UP_EACH
        )
        destination.queue.extend(found)
        destination.behind = up_to if destination.skipped > up_to else None

    async def _batch(self, destination: Destination) -> Batch | None:
        chosen = [destination.queue[n] for n in range(min(MOST_PDUS, len(destination.queue)))]
        kept: list[edu_outbox.Waiting] = []
        if destination.outbox:
            kept = await self._db.read(edu_outbox.waiting, destination.server, MOST_EDUS)
            destination.outbox = len(kept) == MOST_EDUS
        passing = tuple(destination.passing)[: MOST_EDUS - len(kept)]
        if not chosen and not kept and not passing:
            return None
        pdus = await self._db.read(federation_rooms.pdus_of, [item.nid for item in chosen])
        edus: list[Any] = [{"edu_type": one.kind, "content": orjson.Fragment(one.content)} for one in kept]
        edus += [destination.passing[key] for key in passing]
        body = {
            "origin": self._server_name,
            "origin_server_ts": self._runtime.now_ms(),
            "pdus": [orjson.Fragment(pdu) for pdu in pdus],
            "edus": edus,
        }
        return Batch(orjson.dumps(body), len(chosen), kept[-1].pos if kept else 0, passing)

    async def _sent(self, destination: Destination, batch: Batch) -> bool:
        """Whether the server has taken the transaction; it is told again and again until it does."""
        name = self._runtime.token(15)
        sent = {key: destination.passing[key] for key in batch.passing}
        try:
            answer = await self._client.call(
                destination.server,
                "PUT",
                f"/_matrix/federation/v1/send/{segment(name)}",
                encoded=batch.body,
                seconds=SECONDS,
                largest=LARGEST_ANSWER,
            )
        except RemoteFailure as failure:
            self._health.failed(destination.server, failure.reason)
            if batch.outbox_up_to:
                destination.outbox = True
            # What may get lost is not worth a second try.
            for key, edu in sent.items():
                if destination.passing.get(key) is edu:
                    del destination.passing[key]
            return False
        self._note_errors(destination.server, answer)
        for _ in range(batch.pdus):
            destination.queue.popleft()
        for key, edu in sent.items():
            if destination.passing.get(key) is edu:
                del destination.passing[key]
        if batch.outbox_up_to:
            await self._db.write(edu_outbox.sent, destination.server, batch.outbox_up_to)
        destination.transactions += 1
        return True

    def _note_errors(self, server: str, answer: object) -> None:
        results = answer.get("pdus") if isinstance(answer, dict) else None
        for event_id, result in (results if isinstance(results, dict) else {}).items():
            if isinstance(result, dict) and result.get("error"):
                _log.info("%s does not take %s: %s", server, str(event_id)[:255], str(result["error"])[:300])

    def _back_off(self, destination: Destination) -> None:
        destination.state = State.BACKING_OFF
        if self._stopped:
            return
        left = self._health.health(destination.server).retry_at - self._runtime.now_ms()
        destination.timer = self._runtime.call_later(max(left, 1) / 1000, self._retry, destination)
        if not destination.kept and (destination.queue or destination.behind is not None):
            destination.kept = True
            self._runtime.background("federation", self._db.write(destinations.keep, self._row(destination)))

    def _retry(self, destination: Destination) -> None:
        if destination.state is State.BACKING_OFF:
            destination.state = State.IDLE
            self._go(destination)
