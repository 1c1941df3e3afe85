# SPDX-License-Identifier: Apache-2.0
"""Knows how a room presents itself to people outside of it, and who of them may see that."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import attrs
import orjson

from homeserver.protocol.errors import not_found
from homeserver.protocol.ids import is_room_id, parse_room_alias
from homeserver.protocol.room_versions import DEFAULT, lookup
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import directory, names
from storage.caches import Cache
from storage.directory import RoomState
from storage.membership import JOIN as JOINED
from storage.membership import NAMES
from storage.txn import Txn

JOIN, INVITE, KNOCK, LEAVE, BAN = "join", "invite", "knock", "leave", "ban"
KNOCKABLE = ("knock", "knock_restricted")
RESTRICTED = ("restricted", "knock_restricted")


class Resolved(Protocol):
    """The room that an alias leads to, and servers that are in it."""

    @property
    def room_id(self) -> str: ...
    @property
    def servers(self) -> Sequence[str]: ...


class RemoteRooms(Protocol):
    """Asks other servers for a room that this one is not in, as the hierarchy shows it; None when nobody shows it."""

    async def room(self, room_id: str, via: tuple[str, ...], suggested_only: bool) -> dict[str, Any] | None: ...


class Resolver(Protocol):
    """Finds the room of an alias; raises M_NOT_FOUND."""

    async def resolve(self, alias: str) -> Resolved: ...


@attrs.frozen(slots=True)
class Facts:
    """What the current state of a room says to those outside. `allowed` are rooms whose members may join."""

    room: int
    room_id: str
    version: str
    joined: int
    name: str | None = None
    topic: str | None = None
    avatar: str | None = None
    alias: str | None = None
    join_rule: str = "invite"
    allowed: tuple[str, ...] = ()
    guest_can_join: bool = False
    world_readable: bool = False
    room_type: str | None = None
    encryption: str | None = None
    federates: bool = True

    @property
    def is_space(self) -> bool:
        return self.room_type == "m.space"

    @property
    def restricted(self) -> bool:
        """Whether members of `allowed` may join, in this room's version."""
        version = lookup(self.version)
        return version is not None and (
            (self.join_rule == "restricted" and version.restricted_joins)
            or (self.join_rule == "knock_restricted" and version.knock_restricted_joins)
        )

    @property
    def knockable(self) -> bool:
        version = lookup(self.version)
        return version is not None and (
            (self.join_rule == "knock" and version.knocking)
            or (self.join_rule == "knock_restricted" and version.knock_restricted_joins)
        )

    def entry(self) -> dict[str, Any]:
        """The room as an entry of the published list."""
        shown: dict[str, Any] = {
            "room_id": self.room_id,
            "num_joined_members": self.joined,
            "world_readable": self.world_readable,
            "guest_can_join": self.guest_can_join,
            "join_rule": self.join_rule,
        }
        optional = {
            "name": self.name,
            "topic": self.topic,
            "avatar_url": self.avatar,
            "canonical_alias": self.alias,
            "room_type": self.room_type,
        }
        shown.update({key: value for key, value in optional.items() if value is not None})
        return shown

    def summary(self) -> dict[str, Any]:
        """The room as a summary: an entry and what the hierarchy and the summary show beside it."""
        shown = self.entry()
        shown["room_version"] = self.version
        shown["im.nheko.summary.room_version"] = self.version
        if self.encryption is not None:
            shown["encryption"] = self.encryption
            shown["im.nheko.summary.encryption"] = self.encryption
        if self.restricted and self.allowed:
            shown["allowed_room_ids"] = list(self.allowed)
        return shown


def facts_of(state: RoomState, contents: Mapping[str, bytes]) -> Facts:
    """Read the facts from the contents of the describing state; what is malformed counts as absent."""
    parsed = {event_type: orjson.loads(content) for event_type, content in contents.items()}

    def text(event_type: str, key: str) -> str | None:
        value = parsed.get(event_type, {}).get(key)
        return value if isinstance(value, str) and value else None

    create = parsed.get("m.room.create", {})
    allow = parsed.get("m.room.join_rules", {}).get("allow")
    return Facts(
        room=state.room,
        room_id=state.room_id,
        version=state.version,
        joined=state.joined,
        name=text("m.room.name", "name"),
        topic=topic_of(parsed.get("m.room.topic", {})),
        avatar=text("m.room.avatar", "url"),
        alias=text("m.room.canonical_alias", "alias"),
        join_rule=text("m.room.join_rules", "join_rule") or "invite",
        allowed=allowed_rooms(allow),
        guest_can_join=text("m.room.guest_access", "guest_access") == "can_join",
        world_readable=text("m.room.history_visibility", "history_visibility") == "world_readable",
        room_type=text("m.room.create", "type"),
        encryption=text("m.room.encryption", "algorithm"),
        federates=create.get("m.federate") is not False,
    )


def facts_of_chunk(chunk: Mapping[str, Any]) -> Facts:
    """The facts that another server tells of a room; what is malformed counts as absent."""

    def text(key: str) -> str | None:
        value = chunk.get(key)
        return value if isinstance(value, str) and value else None

    allowed = chunk.get("allowed_room_ids")
    joined = chunk.get("num_joined_members")
    return Facts(
        room=0,
        room_id=text("room_id") or "",
        version=text("room_version") or DEFAULT,
        joined=joined if isinstance(joined, int) else 0,
        name=text("name"),
        topic=text("topic"),
        avatar=text("avatar_url"),
        alias=text("canonical_alias"),
        join_rule=text("join_rule") or "public",
        allowed=tuple(one for one in allowed if isinstance(one, str)) if isinstance(allowed, list) else (),
        guest_can_join=chunk.get("guest_can_join") is True,
        world_readable=chunk.get("world_readable") is True,
        room_type=text("room_type"),
        encryption=text("encryption"),
    )


def topic_of(content: Mapping[str, Any]) -> str | None:
    """The plain text of a topic: the `text/plain` part of `m.topic`, else `topic`."""
    rich = content.get("m.topic")
    parts = rich.get("m.text") if isinstance(rich, dict) else None
    if isinstance(parts, list):
        for part in parts:
            if isinstance(part, dict) and part.get("mimetype", "text/plain") == "text/plain":
                body = part.get("body")
                if isinstance(body, str):
                    return body
    plain = content.get("topic")
    return plain if isinstance(plain, str) and plain else None


def allowed_rooms(allow: object) -> tuple[str, ...]:
    """The rooms that the `allow` of a join rule names. A malformed `allow` means that no condition is met."""
    if not isinstance(allow, list):
        return ()
    return tuple(
        rule["room_id"]
        for rule in allow
        if isinstance(rule, dict) and rule.get("type") == "m.room_membership" and isinstance(rule.get("room_id"), str)
    )


def _weigh(_room: int, held: tuple[int, Facts]) -> int:
    facts = held[1]
    return 1_200 + 2 * sum(len(text) for text in (facts.name, facts.topic, facts.avatar) if text)


class RoomFacts:
    """The facts of rooms, kept for as long as a room's state stays what it is."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: Cache[int, tuple[int, Facts]] = Cache("room facts", db.budget, _weigh)

    async def by_id(self, room_ids: Sequence[str]) -> dict[str, Facts]:
        """The facts of those rooms that this server is, or was, in."""
        rooms = await self._db.read(_numbers, room_ids)
        states = await self._db.read(directory.states_of, rooms)
        # A room without state is one that somebody here was only ever invited to.
        return {facts.room_id: facts for facts in await self.of([one for one in states.values() if one.state])}

    async def of(self, states: Sequence[RoomState]) -> list[Facts]:
        """The facts of each room, in the order given."""
        known = {state.room: held for state in states if (held := self._known.get(state.room)) is not None}
        stale = [one.room for one in states if one.room not in known or known[one.room][0] != one.state]
        contents = await self._db.read(directory.describing_state, stale) if stale else {}
        found = []
        for state in states:
            if state.room in contents:
                known[state.room] = (state.state, facts_of(state, contents[state.room]))
                self._known.put(state.room, known[state.room])
            found.append(attrs.evolve(known[state.room][1], joined=state.joined))
        return found


def _numbers(txn: Txn, room_ids: Sequence[str]) -> list[int]:
    found = (names.room_nid(txn, room_id) for room_id in room_ids)
    return [nid for nid in found if nid is not None]


@attrs.frozen(slots=True)
class Standing:
    """Where a user stands to one room: the membership there, and in which of the rooms its rule allows they are."""

    membership: str | None
    joined: frozenset[str]


def standing_of(txn: Txn, usr: int, room: int, allowed: Sequence[str]) -> Standing:
    numbers = {names.room_nid(txn, room_id): room_id for room_id in allowed}
    numbers.pop(None, None)
    kinds = directory.memberships_of(txn, usr, [room, *(nid for nid in numbers if nid is not None)])
    joined = frozenset(room_id for nid, room_id in numbers.items() if nid is not None and kinds.get(nid) == JOINED)
    return Standing(NAMES.get(kinds.get(room, -1)), joined)


def may_preview(facts: Facts, membership: str | None, joined: Collection[str]) -> bool:
    """Whether somebody may see the room's summary.

    "They are a member, or invited; the room is public, knockable, or world readable; or it is restricted and they meet
    one of its conditions." `joined` are the ids of the rooms they are in; `membership` is theirs in this one.
    """
    if membership in (JOIN, INVITE):
        return True
    if facts.world_readable:
        return True
    if membership == BAN:
        return False
    if facts.join_rule == "public" or facts.knockable:
        return True
    return facts.restricted and any(room_id in joined for room_id in facts.allowed)


class Summaries:
    """Answers what a room is to somebody who may not be in it."""

    def __init__(self, db: Database, facts: RoomFacts, resolver: Resolver, remote: RemoteRooms | None = None) -> None:
        self._db = db
        self._facts = facts
        self._resolver = resolver
        self._remote = remote

    async def of(self, user: User | None, room_or_alias: str, via: Sequence[str]) -> dict[str, Any]:
        """The summary of a room; M_NOT_FOUND for an unknown room and for one the caller may not see."""
        room_id = room_or_alias
        if not is_room_id(room_or_alias):
            parse_room_alias(room_or_alias)
            resolved = await self._resolver.resolve(room_or_alias)
            room_id, via = resolved.room_id, [*via, *resolved.servers]
        facts = (await self._facts.by_id([room_id])).get(room_id) or await self._elsewhere(room_id, via)
        standing = Standing(None, frozenset())
        if user is not None:
            standing = await self._db.read(standing_of, user.usr, facts.room, facts.allowed)
        if not may_preview(facts, standing.membership, standing.joined):
            raise not_found("Room not found")
        shown = facts.summary()
        if standing.membership is not None:
            shown["membership"] = standing.membership
        return shown

    async def _elsewhere(self, room_id: str, via: Sequence[str]) -> Facts:
        """The facts of a room that this server is not in, from those that are; M_NOT_FOUND when nobody tells."""
        chunk = None if self._remote is None else await self._remote.room(room_id, tuple(via), False)
        if chunk is None or chunk.get("room_id") != room_id:
            raise not_found("Room not found")
        return facts_of_chunk(chunk)
