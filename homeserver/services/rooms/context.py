# SPDX-License-Identifier: Apache-2.0
"""Knows what is around one event or one moment of a room: its neighbors, the state then, the members then."""

from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, forbidden, not_found
from homeserver.protocol.filters import EVERYTHING, EventFilter
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.pagination import Page, Renderer, Stretch, gather, members_at, place_of
from homeserver.services.rooms.read import Reader, RoomAccess, state_of, visible_of
from homeserver.services.sync.tokens import point_after, room_token
from storage import events, state, timeline
from storage.events import StoredEvent
from storage.timeline import LOWEST, MEMBER
from storage.txn import Txn


@attrs.frozen(slots=True)
class Around:
    """An event's neighbors, nearest first on both sides, and the state at the last of them."""

    event: StoredEvent
    before: list[StoredEvent]
    after: list[StoredEvent]
    state: list[StoredEvent]

    @property
    def start(self) -> str:
        """The token of the point before all of them."""
        return room_token((self.before[-1] if self.before else self.event).ord or 0)

    @property
    def end(self) -> str:
        """The token of the point after all of them."""
        return room_token(((self.after[-1] if self.after else self.event).ord or 0) + 1)


class Context:
    """Events, state and members of a room, for those who may see them."""

    def __init__(self, db: Database, access: RoomAccess, renderer: Renderer) -> None:
        self._db = db
        self._access = access
        self._renderer = renderer

    async def require_reader(self, user: User, room_id: str) -> None:
        """Raises M_FORBIDDEN for those who may not look inside; whatever else is wrong does not matter to them."""
        await self._access.reader(user, room_id)

    async def event(self, user: User, room_id: str, event_id: str) -> dict[str, Any]:
        """One event; M_NOT_FOUND when there is none that the caller may see."""
        try:
            reader = await self._access.reader(user, room_id)
        except MatrixError as error:
            # "The event was not found or you do not have permission to read this event" is one answer.
            raise not_found("Event not found") from error
        found = await self._access.event(reader, event_id)
        return (await self._renderer.client_events([found], user, up_to=reader.frozen_at))[0]

    async def context(
        self, user: User, room_id: str, event_id: str, limit: int, chosen: EventFilter = EVERYTHING
    ) -> dict[str, Any]:
        """The event, at most `limit` events around it, and the state at the last of those."""
        reader = await self._access.reader(user, room_id)
        found = await self._access.event(reader, event_id)
        limit = min(limit, 100 if chosen.limit is None else chosen.limit)
        latest = point_after(self._db.published)
        around = await self._db.read(around_of, reader, found, limit // 2, limit - limit // 2, chosen, latest)
        timeline_part = [around.event, *around.before, *around.after]
        shown = await self._renderer.client_events(timeline_part, user, up_to=reader.frozen_at)
        return {
            "event": shown[0],
            "events_before": shown[1 : 1 + len(around.before)],
            "events_after": shown[1 + len(around.before) :],
            "state": await self._renderer.client_events(around.state, user, bundle=False),
            "start": around.start,
            "end": around.end,
        }

    async def at_time(self, user: User, room_id: str, ts: int, forward: bool) -> dict[str, Any]:
        """The event nearest to a time that the caller may see; M_NOT_FOUND when there is none."""
        reader = await self._access.reader(user, room_id)
        found = await self._db.read(_nearest, reader, ts, forward, point_after(self._db.published))
        if found is None:
            raise not_found(f"Unable to find event from {ts} in {'forward' if forward else 'backward'} direction")
        return {"event_id": found.event_id, "origin_server_ts": found.ts}

    async def state(self, user: User, room_id: str) -> list[dict[str, Any]]:
        """The current state, or that of when the caller left."""
        reader = await self._access.reader(user, room_id)
        return await self._renderer.client_events(await self._access.state(reader), user, bundle=False)

    async def members(
        self, user: User, room_id: str, at: str | None, membership: str | None, not_membership: str | None
    ) -> dict[str, Any]:
        """The membership events of the room, now or at a point, by kind."""
        point = place_of(at, point_after(self._db.published))
        reader = await self._access.reader(user, room_id)
        found = await self._db.read(_members, reader, point)
        chosen = []
        for event in found:
            kind = orjson.loads(event.content).get("membership")
            if (membership is None or kind == membership) and (not_membership is None or kind != not_membership):
                chosen.append(event)
        return {"chunk": await self._renderer.client_events(chosen, user, bundle=False)}

    async def joined_members(self, user: User, room_id: str) -> dict[str, Any]:
        """Names and avatars of everybody joined, for those who are joined themselves."""
        reader = await self._access.reader(user, room_id)
        if not reader.joined:
            raise forbidden("You are not in this room")
        return {"joined": await self._db.read(_joined_profiles, reader.room)}


# ---- in one read transaction ----


def around_of(
    txn: Txn, reader: Reader, event: StoredEvent, before: int, after: int, chosen: EventFilter, latest: int
) -> Around:
    """At most so many events before and after one, and the state at the last of them."""
    assert event.ord is not None
    none = Page([], None, [])
    plain = attrs.evolve(chosen, lazy_load_members=False)
    earlier = gather(txn, reader, Stretch(LOWEST, event.ord - 1), True, before, plain) if before else none
    later = gather(txn, reader, Stretch(event.ord, latest - 1), False, after, plain) if after else none
    last = later.events[-1] if later.events else event
    if chosen.lazy_load_members:
        senders = {each.sender for each in (event, *earlier.events, *later.events)}
        held = [one for one in _state_at(txn, reader, last) if one.type != MEMBER]
        held += members_at(txn, reader.room, last.nid, senders)
    else:
        held = _state_at(txn, reader, last)
    return Around(event, earlier.events, later.events, held)


def _state_at(txn: Txn, reader: Reader, event: StoredEvent) -> list[StoredEvent]:
    nids = timeline.state_at(txn, reader.room, event.nid).values()
    return list(events.by_nids(txn, nids).values())


def _nearest(txn: Txn, reader: Reader, ts: int, forward: bool, latest: int) -> StoredEvent | None:
    nids = timeline.nearest(txn, reader.room, ts, forward=forward, up_to=latest - 1)
    for start in range(0, len(nids), 50):
        part = nids[start : start + 50]
        found = events.by_nids(txn, part)
        seen = visible_of(txn, reader, [found[nid] for nid in part])
        if seen:
            return seen[0]
    return None


def _members(txn: Txn, reader: Reader, point: int | None) -> list[StoredEvent]:
    if point is None:
        if reader.frozen_at is None:
            return state.current_of_type(txn, reader.room, MEMBER)
        return [event for event in state_of(txn, reader) if event.type == MEMBER]
    last = timeline.page(txn, reader.room, above=LOWEST, up_to=point - 1, backward=True, limit=1)
    if not last:
        return []
    nid = last[0].nid if reader.frozen_at is None else min(last[0].nid, reader.frozen_at)
    nids = timeline.state_at(txn, reader.room, nid).values()
    return [event for event in events.by_nids(txn, nids).values() if event.type == MEMBER]


def _joined_profiles(txn: Txn, room: int) -> dict[str, dict[str, str]]:
    joined: dict[str, dict[str, str]] = {}
    for event in state.current_of_type(txn, room, MEMBER):
        content = orjson.loads(event.content)
        if content.get("membership") == "join" and event.state_key is not None:
            shown = {"display_name": content.get("displayname"), "avatar_url": content.get("avatar_url")}
            joined[event.state_key] = {key: value for key, value in shown.items() if isinstance(value, str)}
    return joined
