# SPDX-License-Identifier: Apache-2.0
"""Knows when a sync is answered: at once when there is news, else when news comes or time is up."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import attrs

from homeserver.runtime import Runtime
from homeserver.services.account_data import AccountData
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.e2e_keys import E2eKeys
from homeserver.services.notifier import Notifier
from homeserver.services.presence import Presence
from homeserver.services.sync.build import Built, build, is_wanted
from homeserver.services.sync.joined import JoinedRooms
from homeserver.services.sync.news import News, Newsroom
from homeserver.services.sync.plan import Plan, Request
from homeserver.services.sync.rooms import Parts
from homeserver.services.sync.tokens import SyncToken
from homeserver.services.to_device import ToDevice

FEW_ROOMS = 20
LONGEST_WAIT = 600.0
DEVICES_REMEMBERED = 20_000
MOST_NEIGHBORS = 200

Answer = dict[str, Any]


@attrs.frozen
class Sources:
    """The services whose data a sync carries besides rooms."""

    presence: Presence
    to_device: ToDevice
    keys: E2eKeys
    account_data: AccountData


class SyncEngine:
    """Answers `/sync` as a pure function of (user, device, from, to), and waits where there is nothing to answer."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        notifier: Notifier,
        joined: JoinedRooms,
        newsroom: Newsroom,
        sources: Sources,
        parts: Parts,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._notifier = notifier
        self._joined = joined
        self._newsroom = newsroom
        self._sources = sources
        self._parts = parts
        self._delivered: OrderedDict[int, int] = OrderedDict()

    async def sync(self, request: Request) -> Answer:
        """The answer to one request."""
        self._acknowledge(request)
        with self._sources.presence.attending(request.user, request.set_presence):
            return await self._answer(request)

    async def _answer(self, request: Request) -> Answer:
        user = request.user
        since = request.since
        if since is not None and since.pos > self._db.published:
            since = None  # a token of a database that was since put back to an older state
            if user.device:
                await self._sources.keys.distrust(user)
        deadline = self._runtime.monotonic() + min(request.timeout, LONGEST_WAIT)
        at_once = since is None or request.full_state
        while True:
            rooms = await self._joined.of(user.usr)
            self._notifier.listen(user.usr, rooms)
            upto = self._now(rooms)
            news = self._newsroom.everything(rooms) if since is None else self._news(user, since, rooms)
            if news or at_once:
                answer, built = await self._compose(request, since, upto, news)
                if at_once or not built.is_empty or self._runtime.monotonic() >= deadline:
                    return answer
                since = upto
                continue
            remaining = deadline - self._runtime.monotonic()
            if remaining <= 0:
                return await self._finish(request, {}, upto)
            await self._notifier.wait(user.usr, remaining)

    def _now(self, rooms: frozenset[int]) -> SyncToken:
        typing = bool(self._newsroom.active_typing(rooms))
        return SyncToken(self._db.published, self._notifier.streams.ephemeral, None, typing)

    def _news(self, user: User, since: SyncToken, rooms: frozenset[int]) -> News:
        return self._newsroom.since(user.usr, user.device, since, rooms)

    async def _compose(
        self, request: Request, since: SyncToken | None, upto: SyncToken, news: News
    ) -> tuple[Answer, Built]:
        user = request.user
        ignored = await self._sources.account_data.ignored(user.usr)
        joined = await self._joined.standings(user.usr)
        active = self._newsroom.active_typing(joined.rooms)
        plan = Plan(
            request=request,
            since=since,
            upto=upto,
            rooms=news.rooms,
            memberships=news.memberships,
            own=news.own,
            private_reads=news.private_reads,
            device_lists=news.device_lists,
            ignored=ignored,
            invites=await self._sources.account_data.invite_policy(user.usr),
            typing=self._newsroom.typing_in(news.typing_changed | active),
            typing_changed=news.typing_changed,
            standings=joined.standings,
            state_rooms=news.state_rooms,
            receipt_rooms=news.receipt_rooms,
        )
        if since is None or request.full_state or news.device_lists:
            built = await self._db.snapshot(build, plan, self._parts)
        elif news.rooms is None or len(news.rooms) > FEW_ROOMS:
            built = await self._db.read(build, plan, self._parts)
        else:
            built = await self._db.point(build, plan, self._parts)
        if news.presence:
            await self._presence(request, since, upto, news, built)
        if built.to_device < upto.pos:
            upto = attrs.evolve(upto, to_device=built.to_device)
        if user.device and "to_device" in built.body:
            self._remember(user.device, built.to_device)
        return await self._finish(request, built.body, upto), built

    async def _presence(
        self, request: Request, since: SyncToken | None, upto: SyncToken, news: News, built: Built
    ) -> None:
        chosen = request.filter.presence
        if chosen.passes_nothing:
            return
        after = 0 if since is None else since.pos
        events = await self._sources.presence.since(request.user, after, upto.pos, news.moved)
        events = [event for event in events if is_wanted(chosen, "m.presence", event["sender"])]
        if events:
            built.body["presence"] = {"events": events}

    async def _finish(self, request: Request, body: Answer, upto: SyncToken) -> Answer:
        """The answer with its token and the device's key counts."""
        answer: Answer = {"next_batch": str(upto), **body}
        device = request.user.device
        if device:
            counts = await self._sources.keys.counts(device)
            unused = list(counts.unused_fallback)
            answer["device_one_time_keys_count"] = {"signed_curve25519": 0, **counts.one_time}
            answer["device_unused_fallback_key_types"] = unused
            answer["org.matrix.msc2732.device_unused_fallback_key_types"] = unused
        return answer

    # Acknowledging

    def _acknowledge(self, request: Request) -> None:
        """A device that comes back with a token has everything up to it: those messages are deleted."""
        device, since = request.user.device, request.since
        if not device or since is None:
            return
        delivered = self._delivered.get(device)
        if delivered is None or since.to_device_pos >= delivered > 0:
            self._remember(device, 0)
            work = self._sources.to_device.acknowledge(device, since.to_device_pos)
            self._runtime.background("acknowledging to-device messages", work)

    def _remember(self, device: int, delivered: int) -> None:
        """Up to where the device was given messages; 0: it has acknowledged them."""
        self._delivered[device] = delivered
        self._delivered.move_to_end(device)
        if len(self._delivered) > DEVICES_REMEMBERED:
            self._delivered.popitem(last=False)
