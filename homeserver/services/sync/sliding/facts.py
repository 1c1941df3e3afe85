# SPDX-License-Identifier: Apache-2.0
"""Knows what the filters of room lists ask: a room's type, whether it is encrypted, and how its user filed it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import attrs
import orjson

from homeserver.services.streams import Change
from homeserver.services.sync.sliding.request import RoomListFilter
from storage import account_data, names
from storage.membership import INVITE, JOIN, KNOCK
from storage.sync_reads import Membership, current_pairs, space_children, stripped_states
from storage.txn import Txn

CACHED = 100_000
CREATE, ENCRYPTION = "m.room.create", "m.room.encryption"


@attrs.frozen(slots=True)
class RoomFacts:
    """What a room is; `kind` is the `type` of its create event."""

    kind: str | None = None
    encrypted: bool = False


class FactsOfRooms:
    """The facts of rooms, kept until the state of the room changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, RoomFacts] = OrderedDict()
        self._changes = 0

    def published(self, _position: int, changes: Sequence[Change]) -> None:
        """Forget what a commit may have changed."""
        for change in changes:
            if change.stream == "state" and change.room is not None:
                self._changes += 1
                self._known.pop(change.room, None)

    def forget(self) -> None:
        """The database was lost and came back."""
        self._changes += 1
        self._known.clear()

    def of(self, txn: Txn, rooms: Iterable[int]) -> dict[int, RoomFacts]:
        """The facts of rooms that this server has the state of."""
        changes = self._changes
        found = {room: self._known[room] for room in rooms if room in self._known}
        missing = [room for room in rooms if room not in found]
        if missing:
            loaded = _load(txn, missing)
            found.update(loaded)
            if changes == self._changes:
                self._known.update(loaded)
                while len(self._known) > CACHED:
                    self._known.popitem(last=False)
        return found


def _load(txn: Txn, rooms: Sequence[int]) -> dict[int, RoomFacts]:
    keys = [key for kind in (CREATE, ENCRYPTION) if (key := names.skey_nid(txn, kind, "")) is not None]
    found = {room: RoomFacts() for room in rooms}
    for row in current_pairs(txn, [(room, key) for room in rooms for key in keys]):
        found[row.event.room] = _with(found[row.event.room], row.event.type, orjson.loads(row.event.content))
    return found


def _with(facts: RoomFacts, event_type: str, content: object) -> RoomFacts:
    if event_type == ENCRYPTION:
        return attrs.evolve(facts, encrypted=True)
    kind = content.get("type") if isinstance(content, dict) else None
    return attrs.evolve(facts, kind=kind if isinstance(kind, str) else None)


def stripped_facts(txn: Txn, usr: int, rooms: Sequence[int]) -> dict[int, RoomFacts]:
    """The facts of rooms that the user sees from outside only, as far as they were told."""
    found = {}
    for room, document in stripped_states(txn, usr, rooms).items():
        facts = RoomFacts()
        for event in orjson.loads(document):
            if event.get("type") in (CREATE, ENCRYPTION):
                facts = _with(facts, event["type"], event.get("content"))
        found[room] = facts
    return found


@attrs.frozen(slots=True)
class Filing:
    """How a user filed rooms: direct chats by room id, tags by room."""

    direct: frozenset[str]
    tags: Mapping[int, frozenset[str]]


def filing(txn: Txn, usr: int) -> Filing:
    """The user's direct chats and tags."""
    return Filing(direct_rooms(account_data.get(txn, usr, 0, "m.direct")), _tags(txn, usr))


def direct_rooms(document: bytes | None) -> frozenset[str]:
    """The rooms that an `m.direct` names."""
    content = orjson.loads(document) if document else {}
    if not isinstance(content, dict):
        return frozenset()
    return frozenset(
        room for rooms in content.values() if isinstance(rooms, list) for room in rooms if isinstance(room, str)
    )


def _tags(txn: Txn, usr: int) -> dict[int, frozenset[str]]:
    found = {}
    for room, document in account_data.of_type(txn, usr, "m.tag").items():
        tags = orjson.loads(document).get("tags")
        if isinstance(tags, dict):
            found[room] = frozenset(tags)
    return found


class Sieve:
    """Decides which rooms pass the filters of one request's lists, reading what they ask when it is first asked."""

    def __init__(self, txn: Txn, usr: int, facts: FactsOfRooms, standings: Mapping[int, Membership]) -> None:
        self._txn = txn
        self._usr = usr
        self._facts = facts
        self._standings = standings
        self._filing: Filing | None = None
        self._known: dict[int, RoomFacts] | None = None

    def passing(self, rooms: Sequence[int], chosen: RoomListFilter) -> list[int]:
        """Those of the rooms that pass, in the same order."""
        if chosen == RoomListFilter():
            return list(rooms)
        children = None if chosen.spaces is None else self._children(chosen.spaces)
        return [room for room in rooms if self._passes(room, chosen, children)]

    def _passes(self, room: int, chosen: RoomListFilter, children: frozenset[str] | None) -> bool:
        kind = self._standings[room].kind
        if chosen.is_invited is not None and chosen.is_invited != (kind == INVITE):
            return False
        if children is not None and names.room_id(self._txn, room) not in children:
            return False
        return self._filed(room, chosen) and self._is(room, chosen)

    def _filed(self, room: int, chosen: RoomListFilter) -> bool:
        if chosen.is_dm is None and chosen.tags is None and not chosen.not_tags:
            return True
        if self._filing is None:
            self._filing = filing(self._txn, self._usr)
        if chosen.is_dm is not None and chosen.is_dm != (names.room_id(self._txn, room) in self._filing.direct):
            return False
        tags = self._filing.tags.get(room, frozenset())
        return not (tags & chosen.not_tags) and (chosen.tags is None or bool(tags & chosen.tags))

    def _is(self, room: int, chosen: RoomListFilter) -> bool:
        if chosen.is_encrypted is None and chosen.room_types is None and not chosen.not_room_types:
            return True
        if self._known is None:
            inside = [one.room for one in self._standings.values() if one.kind not in (INVITE, KNOCK)]
            outside = [one.room for one in self._standings.values() if one.kind in (INVITE, KNOCK)]
            self._known = self._facts.of(self._txn, inside)
            self._known.update(stripped_facts(self._txn, self._usr, outside) if outside else {})
        facts = self._known.get(room, RoomFacts())
        if chosen.is_encrypted is not None and chosen.is_encrypted != facts.encrypted:
            return False
        if facts.kind in chosen.not_room_types:
            return False
        return chosen.room_types is None or facts.kind in chosen.room_types

    def _children(self, spaces: frozenset[str]) -> frozenset[str]:
        """The rooms that the spaces name as children; only spaces that the user is joined to count."""
        joined = []
        for space in spaces:
            room = names.room_nid(self._txn, space)
            standing = None if room is None else self._standings.get(room)
            if standing is not None and standing.kind == JOIN:
                joined.append(standing.room)
        return frozenset(space_children(self._txn, joined))
