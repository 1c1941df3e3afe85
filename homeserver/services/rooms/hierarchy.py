# SPDX-License-Identifier: Apache-2.0
"""Knows how a space's tree is walked, and which of its rooms somebody is shown."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import forbidden, invalid_param
from homeserver.protocol.ids import parse_room_id, server_of
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.summary import Facts, RemoteRooms, RoomFacts, facts_of_chunk, may_preview
from storage import directory, membership, names
from storage.directory import ChildRow
from storage.txn import Txn

MOST_ROOMS = 10_000
MOST_CHILDREN = 1_000
PREFETCHED = 50
ORDER_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F)))


@attrs.frozen
class Walk:
    """Which tree is walked, and how far. `max_depth` None: to the end; 0: only the room itself."""

    room_id: str
    suggested_only: bool
    max_depth: int | None


@attrs.frozen
class Child:
    """A valid `m.space.child`: where it leads, whom to ask, and as clients are shown it."""

    room_id: str
    via: tuple[str, ...]
    suggested: bool
    order: str | None
    ts: int
    stripped: dict[str, Any]


@attrs.frozen
class Viewer:
    """Somebody's memberships: by room number, and the ids of the rooms they joined."""

    kinds: Mapping[int, str]
    joined: frozenset[str]


class Hierarchy:
    """Walks a space depth first, in the order that its children ask for, each room once."""

    def __init__(self, db: Database, facts: RoomFacts, remote: RemoteRooms | None = None) -> None:
        self._db = db
        self._facts = facts
        self._remote = remote

    async def page(self, user: User, walk: Walk, limit: int, token: str | None) -> dict[str, Any]:
        """One page of the tree. Raises M_FORBIDDEN when the caller may not see the room it starts at."""
        parse_room_id(walk.room_id)
        skip = _position(token, walk)
        viewer = await self._db.read(_viewer, user.usr)
        rooms: list[dict[str, Any]] = []
        seen: set[str] = set()
        # Rooms still to visit, the next at the end: where, whom to ask, how deep.
        waiting: list[tuple[str, tuple[str, ...], int]] = [(walk.room_id, (), 0)]
        visited = 0
        known: dict[str, Facts] = {}
        while waiting and visited < MOST_ROOMS:
            room_id, via, depth = waiting.pop()
            if room_id in seen:
                continue
            seen.add(room_id)
            if room_id not in known:
                # The whole level is likely to follow.
                known.update(await self._facts.by_id([room for room, _, _ in waiting[-PREFETCHED:]] + [room_id]))
            shown, children = await self._visit(viewer, known.get(room_id), (room_id, via), walk)
            if shown is None:
                if room_id == walk.room_id:
                    raise forbidden("You are not allowed to view this room")
                continue
            if visited >= skip + limit:
                return {"rooms": rooms, "next_batch": _token(visited, walk)}
            if visited >= skip:
                rooms.append(shown)
            visited += 1
            if walk.max_depth is None or depth < walk.max_depth:
                waiting += [(child.room_id, child.via, depth + 1) for child in reversed(children)]
        return {"rooms": rooms}

    async def _visit(
        self, viewer: Viewer, facts: Facts | None, room: tuple[str, tuple[str, ...]], walk: Walk
    ) -> tuple[dict[str, Any] | None, list[Child]]:
        """A room as the answer shows it, and its children; (None, []) for one that the viewer may not see."""
        if facts is None:
            return await self._elsewhere(viewer, room, walk)
        if not may_preview(facts, viewer.kinds.get(facts.room), viewer.joined):
            return None, []
        children = await self.children(facts, walk.suggested_only)
        return shown(facts, children), children

    async def _elsewhere(
        self, viewer: Viewer, room: tuple[str, tuple[str, ...]], walk: Walk
    ) -> tuple[dict[str, Any] | None, list[Child]]:
        """The same of a room that this server is not in: others told it to the server, and it asks for the viewer."""
        chunk = None if self._remote is None else await self._remote.room(*room, walk.suggested_only)
        if chunk is None or chunk.get("room_id") != room[0]:
            return None, []
        facts = facts_of_chunk(chunk)
        if not may_preview(facts, None, viewer.joined):
            return None, []
        told = chunk.get("children_state")
        children = [child for child in map(_told_child, told) if child is not None] if isinstance(told, list) else []
        chosen = in_order([child for child in children if child.suggested or not walk.suggested_only])
        return shown(facts, chosen), chosen if facts.is_space else []

    async def for_server(self, server: str, room_id: str, suggested_only: bool) -> dict[str, Any] | None:
        """What `GET …/federation/v1/hierarchy/{roomId}` answers a server; None when it may not see the room.

        Children that the server may not see are named, those that this server does not know are left out.
        """
        facts = (await self._facts.by_id([room_id])).get(room_id)
        if facts is None or not await self._shown_to(server, facts):
            return None
        children = await self.children(facts, suggested_only)
        known = await self._facts.by_id([child.room_id for child in children])
        rooms, hidden = [], []
        for child in children:
            if child.room_id not in known:
                continue
            if await self._shown_to(server, known[child.room_id]):
                rooms.append(shown(known[child.room_id], []))
            else:
                hidden.append(child.room_id)
        return {"room": shown(facts, children), "children": rooms, "inaccessible_children": hidden}

    async def _shown_to(self, server: str, facts: Facts) -> bool:
        """Whether a server, for some user of its own, may see the room."""
        if may_preview(facts, None, ()):
            return True
        return await self._db.read(_has_user_of, server, [facts.room_id, *(facts.allowed if facts.restricted else ())])

    async def children(self, facts: Facts, suggested_only: bool) -> list[Child]:
        """The valid children of a space in their order; none for other rooms."""
        if not facts.is_space:
            return []
        rows = await self._db.read(directory.children, facts.room)
        found = [child for child in map(_child, rows) if child is not None]
        chosen = [child for child in found if child.suggested or not suggested_only]
        return in_order(chosen)


def in_order(children: list[Child]) -> list[Child]:
    """Children by their `order`, then by age; those without an order come last."""
    return sorted(children, key=lambda one: (one.order is None, one.order or "", one.ts, one.room_id))[:MOST_CHILDREN]


def shown(facts: Facts, children: list[Child]) -> dict[str, Any]:
    """A room as the answer shows it."""
    return {**facts.summary(), "children_state": [child.stripped for child in children]}


def _told_child(told: object) -> Child | None:
    """A child as another server tells it."""
    if not isinstance(told, dict) or told.get("type") != "m.space.child" or not isinstance(told.get("content"), dict):
        return None
    key, sender, ts = told.get("state_key"), told.get("sender"), told.get("origin_server_ts")
    if not isinstance(key, str) or not isinstance(sender, str) or type(ts) is not int:
        return None
    return _child(ChildRow(key, orjson.dumps(told["content"]), sender, ts))


def _child(row: ChildRow) -> Child | None:
    content = orjson.loads(row.content)
    via = content.get("via")
    if not isinstance(via, list) or not via or not all(isinstance(server, str) for server in via):
        return None
    order = content.get("order")
    # "Strings consisting of ASCII characters 0x20 to 0x7E, at most 50 of them"; anything else counts as not given.
    valid = isinstance(order, str) and len(order) <= 50 and ORDER_CHARACTERS.issuperset(order)
    return Child(
        room_id=row.child,
        via=tuple(via),
        suggested=content.get("suggested") is True,
        order=order if valid else None,
        ts=row.ts,
        stripped={
            "type": "m.space.child",
            "state_key": row.child,
            "content": orjson.Fragment(row.content),
            "sender": row.sender,
            "origin_server_ts": row.ts,
        },
    )


def _viewer(txn: Txn, usr: int) -> Viewer:
    rows = membership.of_user(txn, usr, (membership.JOIN, membership.INVITE, membership.BAN))
    kinds = {row.room: membership.NAMES[row.kind] for row in rows}
    joined = frozenset(names.room_id(txn, room) for room, kind in kinds.items() if kind == "join")
    return Viewer(kinds, joined)


def _has_user_of(txn: Txn, server: str, room_ids: list[str]) -> bool:
    """Whether a user of the server is joined to one of the rooms, or invited to the first."""
    for place, room_id in enumerate(room_ids):
        room = names.room_nid(txn, room_id)
        if room is None:
            continue
        kinds = (membership.JOIN, membership.INVITE) if place == 0 else (membership.JOIN,)
        users = names.user_ids(txn, [row.usr for row in membership.of_room(txn, room, kinds)]).values()
        if any(server_of(user) == server for user in users):
            return True
    return False


def _token(visited: int, walk: Walk) -> str:
    raw = orjson.dumps([visited, walk.room_id, walk.suggested_only, walk.max_depth])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _position(token: str | None, walk: Walk) -> int:
    if not token:
        return 0
    try:
        given = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise invalid_param("from is not a token of this server") from None
    if not isinstance(given, list) or len(given) != 4 or not isinstance(given[0], int) or given[0] < 0:
        raise invalid_param("from is not a token of this server")
    if given[1:] != [walk.room_id, walk.suggested_only, walk.max_depth]:
        raise invalid_param("suggested_only and max_depth cannot change on paginated requests")
    return given[0]
