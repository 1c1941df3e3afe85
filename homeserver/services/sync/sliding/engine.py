# SPDX-License-Identifier: Apache-2.0
"""Knows when a sliding sync request is answered, and what its connection has been sent by the answer."""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier
from homeserver.services.sync.engine import LONGEST_WAIT, Sources
from homeserver.services.sync.joined import JoinedRooms
from homeserver.services.sync.news import News, Newsroom
from homeserver.services.sync.sliding.choice import Choice, choose
from homeserver.services.sync.sliding.connections import Connection, Step, read_pos, unknown_pos
from homeserver.services.sync.sliding.extensions import build_extensions, message_position
from homeserver.services.sync.sliding.job import Job, Tools
from homeserver.services.sync.sliding.lists import ListResult, Matched, match, refresh
from homeserver.services.sync.sliding.request import SlidingRequest
from homeserver.services.sync.sliding.rooms import room_results
from homeserver.services.sync.tokens import SyncToken
from storage import names, sliding
from storage.sync_reads import read_in
from storage.txn import Txn

FEW_ROOMS = 20
#: Clients of today read no `ops`, which repeat the order of all rooms in every answer; long ones are left out.
LONGEST_OPS = 100
Answer = dict[str, Any]


@attrs.frozen(slots=True)
class Built:
    """An answer without its position, whether there is anything new in it, and what it adds to the connection."""

    body: Answer
    new: bool
    step: Step


class SlidingSync:
    """Sliding sync in both forms, over the data and the wake-ups of the classic one."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        notifier: Notifier,
        joined: JoinedRooms,
        newsroom: Newsroom,
        sources: Sources,
        tools: Tools,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._notifier = notifier
        self._joined = joined
        self._newsroom = newsroom
        self._sources = sources
        self._tools = tools
        notifier.subscribe(tools.facts.published)

    async def sync(self, user: User, request: SlidingRequest) -> Answer:
        """The answer to one request. Raises M_UNKNOWN_POS for a position that the connection does not have."""
        connection = await self._connection(user, request)
        await self._acknowledge(user, request)
        with self._sources.presence.attending(user, request.set_presence):
            return await self._answer(user, request, connection)

    async def save(self) -> None:
        """Keep all connections over a restart."""
        await self._db.write(sliding.save_all, self._tools.connections.saved(), self._runtime.now_ms())

    async def _connection(self, user: User, request: SlidingRequest) -> Connection:
        connections = self._tools.connections
        if request.pos is not None and not connections.knows(user.usr, user.device, request.connection):
            read_pos(request.pos)
            saved = await self._db.point(sliding.saved, user.usr, user.device, request.connection)
            if saved is None:
                raise unknown_pos()
            connections.adopt(user.usr, user.device, request.connection, saved)
        connection = connections.open(user.usr, user.device, request, self._runtime.token(9))
        if connection.token is not None and connection.token.pos > self._db.published:
            raise unknown_pos()
        return connection

    async def _acknowledge(self, user: User, request: SlidingRequest) -> None:
        """What the device has of the messages to it is deleted: the token of the extension says so."""
        extension = request.extensions.get("to_device")
        if extension is not None and user.device:
            since = message_position(extension)
            if since:
                self._runtime.background(
                    "acknowledging to-device messages", self._sources.to_device.acknowledge(user.device, since)
                )

    async def _answer(self, user: User, request: SlidingRequest, connection: Connection) -> Answer:
        connection.turn += 1
        turn = connection.turn
        deadline = self._runtime.monotonic() + min(request.timeout, LONGEST_WAIT)
        looked = connection.token
        asked = (request.lists, request.subscriptions)
        changed_wishes = connection.asked != asked or _is_behind(request, connection)
        while True:
            rooms = await self._joined.of(user.usr)
            self._notifier.listen(user.usr, rooms)
            upto = self._now(rooms)
            late = self._runtime.monotonic() >= deadline
            if looked is None or changed_wishes or late or self._newsroom.since(user.usr, user.device, looked, rooms):
                built = await self._build(user, request, connection, upto, rooms, asked)
                late = self._runtime.monotonic() >= deadline
                if built.new or connection.token is None or late:
                    return await self._finish(user, request, connection, built, turn)
                looked, changed_wishes = upto, False
                continue
            await self._notifier.wait(user.usr, max(deadline - self._runtime.monotonic(), 0))

    def _now(self, rooms: frozenset[int]) -> SyncToken:
        typing = bool(self._newsroom.active_typing(rooms))
        return SyncToken(self._db.published, self._notifier.streams.ephemeral, None, typing)

    async def _build(
        self,
        user: User,
        request: SlidingRequest,
        connection: Connection,
        upto: SyncToken,
        rooms: frozenset[int],
        asked: object,
    ) -> Built:
        since = connection.token
        news = self._news(user, since, rooms)
        typing_rooms = news.typing_changed | self._newsroom.active_typing(rooms)
        job = Job(
            user=user,
            request=request,
            connection=connection,
            upto=upto,
            news=news,
            ignored=await self._sources.account_data.ignored(user.usr),
            invites=await self._sources.account_data.invite_policy(user.usr),
            typing=self._newsroom.typing_in(typing_rooms),
            tools=self._tools,
        )
        few = news.rooms is not None and len(news.rooms) <= FEW_ROOMS and connection.standings is not None
        wanted = sum(last - first for one in request.lists.values() for first, last in one.windows or ())
        if since is None or news.device_lists or not few or (connection.asked != asked and wanted > FEW_ROOMS):
            return await self._db.snapshot(build, job)
        return await self._db.point(build, job)

    def _news(self, user: User, since: SyncToken | None, rooms: frozenset[int]) -> News:
        if since is None:
            return self._newsroom.everything(rooms)
        return self._newsroom.since(user.usr, user.device, since, rooms)

    async def _finish(
        self, user: User, request: SlidingRequest, connection: Connection, built: Built, turn: int
    ) -> Answer:
        if connection.turn == turn:  # else a later request of the same connection has replaced this one
            connection.step = built.step
        answer = {"pos": connection.pos(built.step), **built.body}
        if "e2ee" in request.extensions and user.device:
            counts = await self._sources.keys.counts(user.device)
            encryption = answer["extensions"].setdefault("e2ee", {})
            encryption["device_one_time_keys_count"] = {"signed_curve25519": 0, **counts.one_time}
            encryption["device_unused_fallback_key_types"] = list(counts.unused_fallback)
        if request.txn_id is not None:
            answer["txn_id"] = request.txn_id
        return answer


def _is_behind(request: SlidingRequest, connection: Connection) -> bool:
    """Whether messages to the device may be waiting that did not fit the answer before."""
    extension = request.extensions.get("to_device")
    return extension is not None and connection.token is not None and message_position(extension) < connection.token.pos


def build(txn: Txn, job: Job) -> Built:
    """Everything that the database has for the job."""
    connection, request, tools = job.connection, job.request, job.tools
    refresh(txn, connection, job.user.usr, job.upto.pos, None if job.since is None else job.news.rooms)
    matched = match(txn, job.user.usr, connection, request, tools.facts, job.news)
    choice = choose(txn, job, matched)
    results, timelines = room_results(txn, job, choice)
    extensions, new = build_extensions(txn, job, matched, choice, timelines)
    step = Step(
        seq=connection.next_seq(),
        token=job.upto,
        sent=choice.sent,
        stale=choice.stale,
        fresh=choice.fresh,
        asked=job.wishes,
        direct=choice.direct,
    )
    read = just_read(txn, job, choice)
    shown = {room: result for room, result in results.items() if room in read or is_telling(result)}
    rooms: object = orjson.Fragment(orjson.dumps(shown)) if len(shown) > FEW_ROOMS else shown
    body: Answer = {"lists": list_results(txn, job, matched), "rooms": rooms, "extensions": extensions}
    return Built(body, bool(shown) or new, step)


def just_read(txn: Txn, job: Job, choice: Choice) -> set[str]:
    """The rooms whose counts are news because the user read there; the merged form has no counts."""
    news = job.news
    if job.since is None or job.request.merged:
        return set()
    maybe = {
        ask.room: ask.room_id
        for ask in choice.asks
        if news.private_reads or news.receipt_rooms is None or ask.room in news.receipt_rooms
    }
    return {maybe[room] for room in read_in(txn, job.user.usr, list(maybe), job.after)}


def is_telling(result: Answer) -> bool:
    """Whether a room's result says anything besides what every result says."""
    return bool(result.keys() - {"membership", "lists", "num_live", "notification_count", "highlight_count"})


def list_results(txn: Txn, job: Job, matched: Matched) -> Answer:
    """The lists: how many rooms each has; in today's form also which rooms are in its windows."""
    return {name: _list_result(txn, job, result) for name, result in matched.lists.items()}


def _list_result(txn: Txn, job: Job, result: ListResult) -> Answer:
    if job.request.merged:
        return {"count": result.count}
    return {
        "count": result.count,
        "ops": [
            {"op": "SYNC", "range": list(window), "room_ids": [names.room_id(txn, room) for room in rooms]}
            for window, rooms in result.windows
            if len(rooms) <= LONGEST_OPS
        ],
    }
