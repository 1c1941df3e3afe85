# SPDX-License-Identifier: Apache-2.0
"""Knows the published room directory: who may list a room, and what a page of the list holds."""

import base64
import binascii
from typing import Any, Protocol

import attrs

from homeserver.protocol.errors import MatrixError, forbidden, invalid_param, not_found
from homeserver.protocol.ids import parse_room_id
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.aliases import Aliases
from homeserver.services.rooms.summary import Facts, RoomFacts
from storage import directory as rows
from storage import names
from storage.search_text import fold


@attrs.frozen
class Listing:
    """What somebody wants of the list. `room_types` may hold None for rooms without a type; None: all rooms."""

    limit: int = 100
    since: str | None = None
    term: str | None = None
    room_types: frozenset[str | None] | None = None
    network: str = ""
    all_networks: bool = False


class RemoteDirectory(Protocol):
    """Asks another server for its list."""

    async def listing(self, server: str, wanted: Listing) -> dict[str, Any]: ...


class Directory:
    """The rooms that this server publishes."""

    def __init__(
        self,
        db: Database,
        server_name: str,
        facts: RoomFacts,
        aliases: Aliases,
        remote: RemoteDirectory | None = None,
    ) -> None:
        self._db = db
        self._server_name = server_name
        self._facts = facts
        self._aliases = aliases
        self._remote = remote

    async def visibility(self, room_id: str) -> str:
        """ "public" for a listed room, else "private"; M_NOT_FOUND for an unknown one."""
        room = await self._known(room_id)
        return "public" if await self._db.point(rows.is_published, room) else "private"

    async def publish(self, user: User, room_id: str, listed: bool) -> None:
        """List a room or take it off; for those who may set its canonical alias, and admins."""
        require_not_suspended(user)
        room = await self._known(room_id)
        if not user.is_admin and not await self._aliases.may_curate(user, room_id):
            raise forbidden("You may not change whether this room is listed")
        if await self._db.point(rows.is_published, room) != listed:
            await self._db.write(rows.publish, room, "", listed)

    async def publish_in_network(self, service: str, network: str, room_id: str, listed: bool) -> None:
        """List a room in an application service's network, or take it off."""
        await self._db.write(rows.publish, await self._known(room_id), f"{service}|{network}", listed)

    async def _known(self, room_id: str) -> int:
        room = await self._db.point(names.room_nid, parse_room_id(room_id))
        if room is None:
            raise not_found("Room not found")
        return room

    async def listing(self, wanted: Listing, server: str | None) -> dict[str, Any]:
        """One page of the list of this server, or of another."""
        if server is not None and server != self._server_name:
            if self._remote is None:
                raise MatrixError(404, "M_NOT_FOUND", "The list of that server cannot be had")
            return await self._remote.listing(server, wanted)
        start = _position(wanted.since)
        if wanted.all_networks and wanted.network:
            raise invalid_param("third_party_instance_id cannot be used with include_all_networks")
        network = None if wanted.all_networks else wanted.network
        states = await self._db.read(rows.published_rooms, network)
        words = fold(wanted.term).split() if wanted.term else []
        found = [facts for facts in await self._facts.of(states) if _matches(facts, words, wanted.room_types)]
        page = found[start : start + wanted.limit]
        answer: dict[str, Any] = {
            "chunk": [facts.entry() for facts in page],
            "total_room_count_estimate": len(found),
        }
        if start + wanted.limit < len(found):
            answer["next_batch"] = _token(start + wanted.limit)
        if start > 0:
            answer["prev_batch"] = _token(max(0, start - wanted.limit))
        return answer


def _matches(facts: Facts, words: list[str], room_types: frozenset[str | None] | None) -> bool:
    if room_types is not None and facts.room_type not in room_types:
        return False
    if not words:
        return True
    text = fold("\n".join(part for part in (facts.name, facts.topic, facts.alias) if part))
    return all(word in text for word in words)


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(b"p%d" % start).decode().rstrip("=")


def _position(token: str | None) -> int:
    if not token:
        return 0
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise invalid_param("since is not a token of this server") from None
    if raw[:1] != b"p" or not raw[1:].isdigit() or len(raw) > 12:
        raise invalid_param("since is not a token of this server")
    return int(raw[1:])
