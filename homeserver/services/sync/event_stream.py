# SPDX-License-Identifier: Apache-2.0
"""Knows how clients of old keep up: a first answer with everything, then a stream of events; and how guests peek.

https://spec.matrix.org/v1.19/client-server-api/#room-previews
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import not_found
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier
from homeserver.services.presence import Presence
from homeserver.services.rooms.initial import RoomBeginnings
from homeserver.services.rooms.pagination import Renderer
from homeserver.services.rooms.read import RoomAccess, reader_of, visible_of
from homeserver.services.sync.engine import LONGEST_WAIT
from homeserver.services.sync.joined import JoinedRooms
from homeserver.services.sync.tokens import ORD_BITS, SyncToken
from storage import account_data, events, names
from storage.events import StoredEvent
from storage.membership import BAN, INVITE, JOIN, LEAVE
from storage.sync_reads import Membership, memberships
from storage.txn import Txn

MOST = 100
PEEK_SECONDS = 5.0
Answer = dict[str, Any]


@attrs.frozen
class Views:
    """How rooms are shown to one who reads them."""

    access: RoomAccess
    renderer: Renderer
    beginnings: RoomBeginnings


class EventStream:
    """The deprecated `/initialSync` and `/events`, the latter also for peeking into one room."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        notifier: Notifier,
        joined: JoinedRooms,
        views: Views,
        presence: Presence,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._notifier = notifier
        self._joined = joined
        self._views = views
        self._presence = presence

    async def events(self, user: User, since: SyncToken | None, timeout: float, room_id: str | None) -> Answer:
        """The events after a token, of the user's rooms or of one room that the user may read; waits for the first.

        Raises M_FORBIDDEN for a room that the user may not read.
        """
        peeked = None
        if room_id is not None:
            peeked = (await self._views.access.reader(user, room_id)).room
        start = SyncToken(self._db.published) if since is None else since
        with self._presence.attending(user):
            return await self._awaited(user, start, timeout, peeked)

    async def _awaited(self, user: User, start: SyncToken, timeout: float, peeked: int | None) -> Answer:
        deadline = self._runtime.monotonic() + min(timeout, LONGEST_WAIT)
        after = start.pos
        while True:
            rooms = await self._joined.of(user.usr)
            self._notifier.listen(user.usr, rooms if peeked is None else rooms | {peeked})
            upto = self._db.published
            wanted = rooms if peeked is None else frozenset({peeked})
            changed = self._notifier.streams.rooms_since(after)
            near = wanted if changed is None else wanted & changed
            if near:
                found, upto = await self._db.read(_newer, user, near, after, upto)
                if found:
                    chunk = await self._views.renderer.client_events(found, user)
                    return {"start": str(start), "end": str(SyncToken(upto)), "chunk": chunk}
            after = upto
            remaining = deadline - self._runtime.monotonic()
            if remaining <= 0:
                return {"start": str(start), "end": str(SyncToken(after)), "chunk": []}
            if self._db.published == after:
                # A sync of the same user may take the peeked room off the list of what wakes: look now and then.
                await self._notifier.wait(user.usr, remaining if peeked is None else min(remaining, PEEK_SECONDS))

    async def event(self, user: User, event_id: str) -> Answer:
        """One event wherever it is; M_NOT_FOUND where the user may not see it."""
        room_id = await self._db.read(_room_of, event_id)
        reader = None if room_id is None else await self._db.read(reader_of, user.usr, user.user_id, room_id)
        if reader is None:
            raise not_found("Event not found")
        found = await self._views.access.event(reader, event_id)
        return (await self._views.renderer.client_events([found], user))[0]

    async def everything(self, user: User, limit: int, archived: bool) -> Answer:
        """The `/initialSync` of an account: each room with its newest events and state."""
        upto = self._db.published
        standings, ids, data = await self._db.read(_account, user.usr, upto)
        rooms = []
        for standing in standings:
            room_id = ids[standing.room]
            if standing.kind == INVITE:
                rooms.append(await self._invited(user, standing, room_id))
            elif standing.kind == JOIN or (archived and standing.kind in (LEAVE, BAN) and not standing.forgotten):
                rooms.append(await self._views.beginnings.room(user, room_id, limit))
        return {
            "end": str(SyncToken(upto)),
            "rooms": rooms,
            "account_data": data,
            "presence": await self._presence.since(user, 0, upto),
        }

    async def _invited(self, user: User, standing: Membership, room_id: str) -> Answer:
        found = (await self._db.read(events.by_nids, [standing.event])).values()
        shown = await self._views.renderer.client_events(list(found), user, up_to=0)
        answer: Answer = {"room_id": room_id, "membership": "invite"}
        if shown:
            answer["invite"] = shown[0]
        return answer


def _newer(txn: Txn, user: User, rooms: Collection[int], after: int, upto: int) -> tuple[list[StoredEvent], int]:
    """What the user may see of rooms in (after, upto], oldest first, and up to which position that is all."""
    found: list[StoredEvent] = []
    for room in rooms:
        reader = reader_of(txn, user.usr, user.user_id, names.room_id(txn, room))
        if reader is not None:
            newer = events.after(txn, room, above=after << ORD_BITS, up_to=upto << ORD_BITS, limit=MOST + 1)
            found += visible_of(txn, reader, newer)
    found.sort(key=lambda event: event.nid)
    if len(found) > MOST:
        del found[MOST:]
        upto = found[-1].nid
    return found, upto


def _room_of(txn: Txn, event_id: str) -> str | None:
    found = events.by_id(txn, event_id)
    return None if found is None else names.room_id(txn, found.room)


def _account(txn: Txn, usr: int, upto: int) -> tuple[list[Membership], dict[int, str], list[Answer]]:
    standings = memberships(txn, usr)
    ids = {one.room: names.room_id(txn, one.room) for one in standings}
    entries = account_data.since(txn, usr, 0, upto)
    data = [{"type": one.type, "content": orjson.Fragment(one.content)} for one in entries if not one.room]
    return standings, ids, data
