# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody pages through a room's history: where a page begins and ends, and which members go with it."""

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, bad_json, invalid_param
from homeserver.protocol.filters import EVERYTHING, EventFilter, parse_event_filter
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.ports import RemoteHistory
from homeserver.services.rooms.read import Reader, not_in_room, reader_of, visible_of
from homeserver.services.sync.tokens import parse_room_token, point_after, room_token
from storage import events, gaps, names, relations, timeline
from storage.events import StoredEvent
from storage.gaps import Gap
from storage.state_tree import StateTree
from storage.timeline import HIGHEST, LOWEST, MEMBER, Wanted
from storage.txn import Txn

MAX_LIMIT = 1_000
#: How many events are looked at for one page, seen or not.
MOST_LOOKED_AT = 5_000
#: How often other servers are asked for one page, and for how many events at once.
MOST_FETCHES, FETCHED = 3, 100


class Renderer(Protocol):
    """Makes client events of stored ones, in the order given, with `unsigned` and, unless told not to, what is bundled.

    Nothing is bundled that came after event number `up_to`.
    """

    async def client_events(
        self, found: Sequence[StoredEvent], user: User, *, bundle: bool = True, up_to: int | None = None
    ) -> list[dict[str, Any]]: ...


@attrs.frozen
class PageQuery:
    """What a client wants of `/messages`."""

    backward: bool
    since: str | None = None
    until: str | None = None
    limit: int = 10
    filter: EventFilter = EVERYTHING


@attrs.frozen(slots=True)
class Stretch:
    """A part of a room's order: above < ord <= up_to."""

    above: int
    up_to: int


@attrs.frozen(slots=True)
class Page:
    """What was found: events, the order where the search stopped (None: nothing is left), members to go with them."""

    events: list[StoredEvent]
    stopped_at: int | None
    members: list[StoredEvent]


def parse_page_filter(text: str | None) -> EventFilter:
    """The RoomEventFilter of a query string; raises M_NOT_JSON or M_BAD_JSON."""
    if not text:
        return EVERYTHING
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MatrixError(400, "M_NOT_JSON", "The filter is not JSON") from None
    if not isinstance(body, dict):
        raise bad_json("The filter must be an object")
    return parse_event_filter(body)


def parse_direction(given: str | None, default: str | None = None) -> bool:
    """Whether `dir` says backward; raises M_INVALID_PARAM for anything but `b` and `f`."""
    direction = given or default
    if direction not in ("b", "f"):
        raise invalid_param("dir must be b or f")
    return direction == "b"


def place_of(token: str | None, latest: int) -> int | None:
    """The point in a room's order that a token names, `latest` at most; raises M_INVALID_PARAM."""
    return None if token is None else max(LOWEST, min(parse_room_token(token), latest))


class History:
    """The `/messages` of a room."""

    def __init__(self, db: Database, renderer: Renderer, remote: RemoteHistory | None = None) -> None:
        self._db = db
        self._renderer = renderer
        self._remote = remote

    async def messages(self, user: User, room_id: str, query: PageQuery) -> dict[str, Any]:
        """One page. Raises M_FORBIDDEN for those who may not look inside, M_INVALID_PARAM for a bad token."""
        latest = point_after(self._db.published)
        since, until = place_of(query.since, latest), place_of(query.until, latest)
        start = since if since is not None else (latest if query.backward else LOWEST)
        if query.backward:
            stretch = Stretch(LOWEST if until is None else until - 1, start - 1)
        else:
            stretch = Stretch(start - 1, (latest if until is None else until) - 1)
        limit = min(query.limit, MAX_LIMIT if query.filter.limit is None else query.filter.limit)
        if query.backward and self._remote is not None and limit:
            await self._reach_back(room_id, stretch.up_to, limit)
        looked = await self._db.read(_page, user, room_id, stretch, query.backward, limit, query.filter)
        if looked is None:
            raise not_in_room()
        reader, page = looked
        shown = await self._renderer.client_events([*page.events, *page.members], user, up_to=reader.frozen_at)
        start_token = query.since if query.since is not None else room_token(max(start, -(2**61)))
        answer: dict[str, Any] = {"start": start_token, "chunk": shown[: len(page.events)]}
        if page.stopped_at is not None:
            answer["end"] = room_token(page.stopped_at if query.backward else page.stopped_at + 1)
        if query.filter.lazy_load_members:
            answer["state"] = shown[len(page.events) :]
        return answer

    async def _reach_back(self, room_id: str, up_to: int, limit: int) -> None:
        """Have the holes filled that a page going back from a point would fall into."""
        assert self._remote is not None
        for _ in range(MOST_FETCHES):
            gap = await self._db.read(_gap_within, room_id, up_to, limit)
            if gap is None or not await self._remote.fetch_before(room_id, gap, FETCHED):
                return


# ---- in one read transaction ----


def _gap_within(txn: Txn, room_id: str, up_to: int, limit: int) -> Gap | None:
    """The first hole below a point with fewer than `limit` events above it."""
    room = names.room_nid(txn, room_id)
    gap = None if room is None else gaps.newest(txn, room, up_to)
    if room is None or gap is None:
        return None
    here = gaps.between(txn, room, gap.next_ord, up_to)
    return gap if here < limit else None


def _page(
    txn: Txn, user: User, room_id: str, stretch: Stretch, backward: bool, limit: int, chosen: EventFilter
) -> tuple[Reader, Page] | None:
    """The caller as a reader and the page; None when they may not look inside."""
    reader = reader_of(txn, user.usr, user.user_id, room_id)
    if reader is None:
        return None
    if limit == 0 or not chosen.allows_room(room_id):
        return reader, Page([], None, [])
    return reader, gather(txn, reader, stretch, backward, limit, chosen)


def gather(txn: Txn, reader: Reader, stretch: Stretch, backward: bool, limit: int, chosen: EventFilter) -> Page:
    """The first `limit` events of a stretch that the reader may see and the filter lets through."""
    wanted = conditions_of(chosen, reader)
    above, up_to = stretch.above, min(stretch.up_to, reader.last_ord)
    found: list[StoredEvent] = []
    looked_at, exhausted, stopped_at = 0, False, None
    while len(found) < limit and looked_at < MOST_LOOKED_AT and not exhausted:
        asked = min(max(2 * (limit - len(found)), 20), 500)
        batch = timeline.page(txn, reader.room, above=above, up_to=up_to, backward=backward, limit=asked, wanted=wanted)
        exhausted = len(batch) < asked
        seen = {event.nid: event for event in visible_of(txn, reader, batch)}
        for event in batch:
            looked_at += 1
            stopped_at = event.ord
            if event.nid in seen and passes(chosen, event):
                found.append(seen[event.nid])
                if len(found) == limit:
                    exhausted = exhausted and event is batch[-1]
                    break
        if stopped_at is not None:
            above, up_to = (above, stopped_at - 1) if backward else (stopped_at, up_to)
    members = _members(txn, reader, found) if chosen.lazy_load_members else []
    return Page(found, None if exhausted or stopped_at is None else stopped_at, members)


def conditions_of(chosen: EventFilter, reader: Reader) -> Wanted:
    """The part of a filter that the database can apply; patterns with a wildcard are left to `passes`."""
    types = tuple(chosen.types.exact) if chosen.types is not None and not chosen.types.wild else None
    return Wanted(
        types=types,
        senders=None if chosen.senders is None else tuple(chosen.senders),
        not_senders=tuple(chosen.not_senders),
        related_kinds=_kinds(chosen.related_by_rel_types),
        related_senders=None if chosen.related_by_senders is None else tuple(chosen.related_by_senders),
    )


def _kinds(rel_types: frozenset[str] | None) -> tuple[int, ...] | None:
    return None if rel_types is None else tuple({relations.kind_of(rel_type) for rel_type in rel_types})


def passes(chosen: EventFilter, event: StoredEvent) -> bool:
    """Whether the filter lets the event through; its content is read only when the filter asks for it."""
    if not chosen.allows_type(event.type) or not chosen.allows_sender(event.sender):
        return False
    if chosen.contains_url is None and chosen.rel_types is None:
        return True
    return chosen.allows_content(orjson.loads(event.content))


def _members(txn: Txn, reader: Reader, found: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The membership of each sender as it stood at the newest of the events."""
    if not found:
        return []
    newest = max(found, key=lambda event: event.nid)
    return members_at(txn, reader.room, newest.nid, {event.sender for event in found})


def members_at(txn: Txn, room: int, event: int, users: set[str]) -> list[StoredEvent]:
    """The membership events of some users in the state just after an event."""
    keys = {names.skey_nid(txn, MEMBER, user) for user in users}
    keys.discard(None)
    place = events.places(txn, [event]).get(event)
    if place is None or place.state is None:
        return []
    held = StateTree(txn, room).get_many(place.state, [key for key in keys if key is not None])
    if place.skey in keys and place.skey is not None:
        held[place.skey] = event
    return list(events.by_nids(txn, held.values()).values())


__all__ = ["HIGHEST", "History", "Page", "PageQuery", "Renderer", "gather", "parse_direction", "parse_page_filter"]
