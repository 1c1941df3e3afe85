# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody pages through what relates to an event, and through a room's threads."""

from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import invalid_param
from homeserver.protocol.relations import relation_of
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.pagination import Renderer, parse_direction, place_of
from homeserver.services.rooms.read import Reader, RoomAccess, visible_of
from homeserver.services.sync.tokens import point_after, room_token
from storage import events, names, related
from storage.events import StoredEvent
from storage.timeline import HIGHEST, LOWEST
from storage.txn import Txn

MOST_LEVELS = 3
MOST_DESCENDANTS = 20_000


@attrs.frozen
class RelationQuery:
    """What a client wants of an event's relations."""

    event_id: str
    rel_type: str | None
    event_type: str | None
    direction: str
    since: str | None
    until: str | None
    limit: int
    recurse: bool
    depth_asked: bool


@attrs.frozen(slots=True)
class Found:
    """One page: its events, whether more follow, and how deep relations were followed."""

    events: list[StoredEvent]
    more: bool
    depth: int


class RelationPages:
    """The relations of an event and the threads of a room, for those who may see them."""

    def __init__(self, db: Database, access: RoomAccess, renderer: Renderer) -> None:
        self._db = db
        self._access = access
        self._renderer = renderer

    async def relating(self, user: User, room_id: str, wanted: RelationQuery) -> dict[str, Any]:
        """A page of the events that relate to one; M_NOT_FOUND when the caller cannot see that one."""
        backward = parse_direction(wanted.direction)
        latest = point_after(self._db.published)
        since, until = place_of(wanted.since, latest), place_of(wanted.until, latest)
        reader = await self._access.reader(user, room_id)
        parent = await self._access.event(reader, wanted.event_id)
        found = await self._db.read(_relating, reader, parent.nid, wanted, backward, since, until)
        answer: dict[str, Any] = {
            "chunk": await self._renderer.client_events(found.events, user, up_to=reader.frozen_at)
        }
        if found.more and found.events:
            last = found.events[-1].ord or 0
            answer["next_batch"] = room_token(last if backward else last + 1)
        if wanted.since is not None:
            answer["prev_batch"] = wanted.since
        if wanted.depth_asked:
            answer["recursion_depth"] = found.depth
        return answer

    async def threads(
        self, user: User, room_id: str, limit: int, token: str | None, *, participated: bool
    ) -> dict[str, Any]:
        """A page of the room's thread roots, those with the newest latest event first."""
        if token is not None and not token.startswith("t"):
            raise invalid_param("Unknown pagination token")
        below = place_of(token, point_after(self._db.published))
        reader = await self._access.reader(user, room_id)
        roots, following = await self._db.read(
            _threads, reader, HIGHEST if below is None else below, limit, participated
        )
        shown = await self._renderer.client_events(roots, user, up_to=reader.frozen_at)
        for root, event in zip(roots, shown, strict=True):
            # "If the thread root event was sent by an ignored user, the event is returned redacted to the caller."
            if root.sender in reader.ignored:
                event["content"] = {}
        answer: dict[str, Any] = {"chunk": shown}
        if following is not None:
            answer["next_batch"] = room_token(following)
        return answer


# ---- in one read transaction ----


def _relating(
    txn: Txn,
    reader: Reader,
    parent: int,
    wanted: RelationQuery,
    backward: bool,
    since: int | None,
    until: int | None,
) -> Found:
    rows, depth = _descendants(txn, parent, wanted)
    low, high = LOWEST, HIGHEST
    if backward:
        high = high if since is None else since - 1
        low = low if until is None else until - 1
    else:
        low = low if since is None else since - 1
        high = high if until is None else until - 1
    high = min(high, reader.last_ord)
    within = sorted((ord_, nid) for nid, ord_ in rows.items() if low < ord_ <= high)
    if backward:
        within.reverse()
    chosen: list[StoredEvent] = []
    for start in range(0, len(within), 200):
        part = [nid for _, nid in within[start : start + 200]]
        loaded = events.by_nids(txn, part)
        for event in visible_of(txn, reader, [loaded[nid] for nid in part]):
            if _wanted(event, wanted):
                chosen.append(event)
        if len(chosen) > wanted.limit:
            break
    return Found(chosen[: wanted.limit], len(chosen) > wanted.limit, depth)


def _wanted(event: StoredEvent, wanted: RelationQuery) -> bool:
    if wanted.event_type is not None and event.type != wanted.event_type:
        return False
    if wanted.rel_type is None:
        return True
    relation = relation_of(orjson.loads(event.content))
    return relation is not None and relation.rel_type == wanted.rel_type


def _descendants(txn: Txn, parent: int, wanted: RelationQuery) -> tuple[dict[int, int], int]:
    """Number -> order of what relates to the event, through at most three levels; and the levels followed."""
    found: dict[int, int] = {}
    level, depth = [parent], 0
    while level and depth < (MOST_LEVELS if wanted.recurse else 1) and len(found) < MOST_DESCENDANTS:
        children = related.children(txn, level, wanted.rel_type if not wanted.recurse else None)
        level = [nid for nid in children if nid not in found and nid != parent]
        found.update(children)
        depth += 1
    return found, depth


def _threads(
    txn: Txn, reader: Reader, below: int, limit: int, participated: bool
) -> tuple[list[StoredEvent], int | None]:
    """The roots whose latest event is below an order, newest latest first; and where the next page starts."""
    ignored = list(names.user_nids(txn, reader.ignored).values())
    wanted = related.ThreadQuery(reader.room, reader.usr, below, reader.last_ord, participated, tuple(ignored))
    rows = related.threads(txn, wanted, limit + 1)
    page = rows[:limit]
    loaded = events.by_nids(txn, [root for root, _ in page])
    ordered = [loaded[root] for root, _ in page if root in loaded]
    unignoring = attrs.evolve(reader, ignored=frozenset())
    following = page[-1][1] if len(rows) > limit and page else None
    return visible_of(txn, unignoring, ordered), following
