# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody searches the rooms they are or were in: which texts match, and which of them they may see."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import msgspec
import orjson

from homeserver.protocol.errors import invalid_param
from homeserver.protocol.filters import EVERYTHING, EventFilter, parse_event_filter
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.context import Around, around_of
from homeserver.services.rooms.pagination import Renderer, members_at, passes
from homeserver.services.rooms.read import Reader, current_content, reader_of, state_of, visible_of
from homeserver.services.search_index import SearchIndex
from homeserver.services.sync.tokens import point_after
from storage import events, membership, names, search
from storage.events import StoredEvent
from storage.search import BODY, NAME, TOPIC
from storage.search_text import Term, highlights_of, terms_of
from storage.txn import Txn

KEYS = {"content.body": BODY, "content.name": NAME, "content.topic": TOPIC}
DEFAULT_LIMIT, MAX_LIMIT = 10, 100
MOST_LOOKED_AT = 2_000
MOST_COUNTED = 1_000
MOST_ROOMS = 500


class ContextWish(msgspec.Struct):
    before_limit: int = 5
    after_limit: int = 5
    include_profile: bool = False


class GroupKey(msgspec.Struct):
    key: Literal["room_id", "sender"]


class Groupings(msgspec.Struct):
    group_by: list[GroupKey] = []


class RoomEventsSearch(msgspec.Struct):
    """The criteria of the category `room_events`."""

    search_term: str
    keys: list[Literal["content.body", "content.name", "content.topic"]] | None = None
    filter: dict[str, Any] | None = None
    order_by: Literal["recent", "rank"] = "rank"
    event_context: ContextWish | None = None
    include_state: bool = False
    groupings: Groupings | None = None


@attrs.frozen
class Place:
    """Where a page of results begins: how many hits were looked at before, and in which group, if it is one's page."""

    skip: int = 0
    group: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        raw = orjson.dumps([self.skip, self.group, self.value])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@attrs.frozen(slots=True)
class Result:
    """One found event, with its reader and how well it fits."""

    reader: Reader
    event: StoredEvent
    rank: float


@attrs.frozen(slots=True)
class Results:
    """One page of results."""

    found: list[Result]
    more: bool
    looked_at: int
    count: int


class Search:
    """Full text search for one user at a time."""

    def __init__(self, db: Database, index: SearchIndex, renderer: Renderer) -> None:
        self._db = db
        self._index = index
        self._renderer = renderer

    async def room_events(self, user: User, wanted: RoomEventsSearch, token: str | None) -> dict[str, Any]:
        """One page of results. Raises M_INVALID_PARAM for a token that is none of this server's."""
        place = _place(token)
        chosen = EVERYTHING if wanted.filter is None else parse_event_filter(wanted.filter)
        terms = terms_of(wanted.search_term)
        results = Results([], False, 0, 0)
        if terms:
            await self._index.catch_up()
            results = await self._db.read(_search, user, terms, wanted, chosen, place)
        shown = await self._renderer.client_events([one.event for one in results.found], user)
        answer: dict[str, Any] = {
            "results": [{"rank": one.rank, "result": event} for one, event in zip(results.found, shown, strict=True)],
            "count": results.count,
            "highlights": highlights_of(wanted.search_term),
        }
        if wanted.event_context is not None:
            for one, result in zip(results.found, answer["results"], strict=True):
                result["context"] = await self._context(user, one, wanted.event_context)
        if wanted.include_state:
            answer["state"] = await self._states(user, results.found)
        if results.more:
            answer["next_batch"] = str(attrs.evolve(place, skip=results.looked_at))
        groups = _groups(wanted, results, place)
        if groups:
            answer["groups"] = groups
        return answer

    async def _context(self, user: User, one: Result, wish: ContextWish) -> dict[str, Any]:
        """What stands around a result, as `/context` shows it."""
        before, after = max(0, min(wish.before_limit, 50)), max(0, min(wish.after_limit, 50))
        around, profiles = await self._db.read(
            _around, one, before, after, point_after(self._db.published), wish.include_profile
        )
        shown = await self._renderer.client_events([*around.before, *around.after], user)
        answer: dict[str, Any] = {
            "events_before": shown[: len(around.before)],
            "events_after": shown[len(around.before) :],
            "start": around.start,
            "end": around.end,
        }
        if wish.include_profile:
            answer["profile_info"] = profiles
        return answer

    async def _states(self, user: User, found: Sequence[Result]) -> dict[str, Any]:
        readers = {one.reader.room_id: one.reader for one in found}
        states: dict[str, Any] = {}
        for room_id, reader in readers.items():
            held = await self._db.read(state_of, reader)
            states[room_id] = await self._renderer.client_events(held, user, bundle=False)
        return states


def _groups(wanted: RoomEventsSearch, results: Results, place: Place) -> dict[str, Any]:
    """The page's results by what they are to be grouped by; a group's token continues that group alone."""
    groups: dict[str, Any] = {}
    for key in dict.fromkeys(one.key for one in wanted.groupings.group_by) if wanted.groupings else ():
        grouped: dict[str, dict[str, Any]] = {}
        for number, one in enumerate(results.found):
            value = one.reader.room_id if key == "room_id" else one.event.sender
            group = grouped.setdefault(value, {"results": [], "order": number})
            group["results"].append(one.event.event_id)
        if results.more:
            for value, group in grouped.items():
                if place.group in (None, key):
                    skip = results.looked_at if place.group == key else len(group["results"])
                    group["next_batch"] = str(Place(skip, key, value))
        groups[key] = grouped
    return groups


def _place(token: str | None) -> Place:
    if token is None:
        return Place()
    try:
        given = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise invalid_param("next_batch is not a token of this server") from None
    if not isinstance(given, list) or len(given) != 3 or type(given[0]) is not int or given[0] < 0:
        raise invalid_param("next_batch is not a token of this server")
    if given[1] not in (None, "room_id", "sender") or not isinstance(given[2], str | None):
        raise invalid_param("next_batch is not a token of this server")
    return Place(given[0], given[1], given[2])


# ---- in one read transaction ----


def _search(
    txn: Txn, user: User, terms: list[Term], wanted: RoomEventsSearch, chosen: EventFilter, place: Place
) -> Results:
    """The next events that match, that the user may see, and that the filter lets through."""
    if place.group == "sender" and place.value is not None:
        chosen = attrs.evolve(chosen, senders=frozenset((place.value,)))
    rooms = _rooms(txn, user, chosen, place)
    kinds = [KEYS[key] for key in wanted.keys] if wanted.keys else list(KEYS.values())
    limit = DEFAULT_LIMIT if chosen.limit is None else min(chosen.limit, MAX_LIMIT)
    readers: dict[int, Reader | None] = {}
    found: list[Result] = []
    looked_at = place.skip
    by_rank = wanted.order_by == "rank"
    while rooms and len(found) < limit and looked_at - place.skip < MOST_LOOKED_AT:
        hits = search.find(txn, terms, rooms, kinds, by_rank=by_rank, limit=3 * limit + 20, skip=looked_at)
        loaded = events.by_nids(txn, [hit.event for hit in hits])
        for hit in hits:
            looked_at += 1
            event = loaded.get(hit.event)
            if hit.room not in readers:
                readers[hit.room] = reader_of(txn, user.usr, user.user_id, names.room_id(txn, hit.room))
            reader = readers[hit.room]
            if event is None or reader is None or not passes(chosen, event):
                continue
            seen = visible_of(txn, reader, [event])
            # What an erased sender said is not found by those who see only that something was said.
            if not seen or seen[0].content != event.content:
                continue
            found.append(Result(reader, event, hit.rank))
            if len(found) >= limit:
                break
        if len(hits) < 3 * limit + 20:
            break
    # A full page has a token, though it may turn out to lead to an empty one.
    more = bool(found) and len(found) >= limit
    return Results(found, more, looked_at, search.count(txn, terms, rooms, kinds, MOST_COUNTED) if rooms else 0)


def _rooms(txn: Txn, user: User, chosen: EventFilter, place: Place) -> list[int]:
    """The rooms that the user is or was in and has not forgotten, as far as the filter and the group want them."""
    rows = membership.of_user(txn, user.usr, (membership.JOIN, membership.LEAVE, membership.BAN))
    wanted = []
    if chosen.rooms is not None:
        chosen = attrs.evolve(chosen, rooms=_with_predecessors(txn, chosen.rooms))
    for row in rows:
        room_id = names.room_id(txn, row.room)
        if chosen.allows_room(room_id) and (place.group != "room_id" or place.value == room_id):
            wanted.append(row.room)
    return wanted


def _with_predecessors(txn: Txn, room_ids: frozenset[str]) -> frozenset[str]:
    """The rooms and those that they replaced: people look for what was said, whichever of them it was said in."""
    found, waiting = set(room_ids), list(room_ids)[:MOST_ROOMS]
    while waiting and len(found) < 2 * MOST_ROOMS:
        room = names.room_nid(txn, waiting.pop())
        create = None if room is None else current_content(txn, room, ("m.room.create", ""))
        predecessor = None if create is None else create.get("predecessor")
        old = predecessor.get("room_id") if isinstance(predecessor, dict) else None
        if isinstance(old, str) and old not in found:
            found.add(old)
            waiting.append(old)
    return frozenset(found)


def _around(
    txn: Txn, one: Result, before: int, after: int, latest: int, with_profiles: bool
) -> tuple[Around, dict[str, Any]]:
    around = around_of(
        txn, one.reader, one.event, before, after, attrs.evolve(EVERYTHING, lazy_load_members=True), latest
    )
    profiles: dict[str, Any] = {}
    if with_profiles:
        senders = {event.sender for event in (one.event, *around.before, *around.after)}
        for event in members_at(txn, one.event.room, one.event.nid, senders):
            content = orjson.loads(event.content)
            shown = {key: content.get(key) for key in ("displayname", "avatar_url")}
            if event.state_key is not None:
                profiles[event.state_key] = {key: value for key, value in shown.items() if isinstance(value, str)}
    return around, profiles
