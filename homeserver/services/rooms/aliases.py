# SPDX-License-Identifier: Apache-2.0
"""Knows who may make and delete aliases, where they lead, and which a room may call its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from homeserver.protocol.errors import MatrixError, forbidden, invalid_param, not_found
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import is_room_alias, parse_room_alias, parse_room_id
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.read import RoomAccess
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.state import RoomState
from storage import aliases as rows
from storage import membership, names
from storage.txn import Txn

CANONICAL = "m.room.canonical_alias"


@attrs.frozen
class ResolvedAlias:
    """The room that an alias leads to, and servers that are in it."""

    room_id: str
    servers: tuple[str, ...]


class RemoteAliases(Protocol):
    """Asks another server for one of its aliases; None when it does not know it or cannot be reached."""

    async def resolve(self, alias: str, server: str) -> ResolvedAlias | None: ...


class Reserved(Protocol):
    """Whose aliases are whose, among application services, and who makes one when it is asked for."""

    def check_alias(self, appservice_id: str | None, alias: str) -> None:
        """Raises M_EXCLUSIVE."""

    async def alias(self, alias: str) -> bool:
        """Whether an application service has made the alias now."""


class Aliases:
    """Aliases of this server, and of others where federation is wired in."""

    def __init__(
        self,
        db: Database,
        server_name: str,
        access: RoomAccess,
        state: RoomState,
        sender: Sender,
        remote: RemoteAliases | None = None,
        reserved: Reserved | None = None,
    ) -> None:
        self._db = db
        self._server_name = server_name
        self._access = access
        self._state = state
        self._sender = sender
        self._remote = remote
        self._reserved = reserved

    async def resolve(self, alias: str) -> ResolvedAlias:
        """Where an alias leads; raises M_INVALID_PARAM for what is none, M_NOT_FOUND for one that leads nowhere."""
        server = parse_room_alias(alias).server
        found: ResolvedAlias | None = None
        if server == self._server_name:
            found = await self._db.read(_resolve, alias, self._server_name)
            if found is None and self._reserved is not None and await self._reserved.alias(alias):
                found = await self._db.read(_resolve, alias, self._server_name)
        elif self._remote is not None:
            found = await self._remote.resolve(alias, server)
        if found is None:
            raise not_found(f"Room alias {alias} not found.")
        return found

    async def create(self, user: User, alias: str, room_id: str) -> None:
        """Make an alias for a room the user is in; raises M_UNKNOWN (409) when it exists."""
        require_not_suspended(user)
        parse_room_id(room_id)
        if parse_room_alias(alias).server != self._server_name:
            raise invalid_param(f"Aliases of this server end in :{self._server_name}")
        room = await self._db.point(names.room_nid, room_id)
        if room is None:
            raise not_found("There is no such room")
        if self._reserved is not None:
            self._reserved.check_alias(user.appservice_id, alias)
        if not user.is_admin and user.appservice_id is None and not await self._access.is_joined(user.usr, room_id):
            raise forbidden("You must be in the room to make an alias for it")
        if not await self._db.write(rows.add, alias, room, user.user_id):
            raise MatrixError(409, "M_UNKNOWN", f"Room alias {alias} already exists.")

    async def delete(self, user: User, alias: str) -> None:
        """Delete an alias: its maker, who may set the canonical alias, and admins may. The room's list follows."""
        require_not_suspended(user)
        if parse_room_alias(alias).server != self._server_name:
            raise invalid_param("Only aliases of this server can be deleted here")
        found = await self._db.point(rows.find, alias)
        if found is None:
            raise not_found(f"Room alias {alias} not found.")
        if self._reserved is not None:
            self._reserved.check_alias(user.appservice_id, alias)
        room_id = await self._db.point(names.room_id, found.room)
        own = user.appservice_id is not None or user.is_admin
        if found.creator != user.usr and not own and not await self.may_curate(user, room_id):
            raise forbidden("You may not delete this alias")
        if not await self._db.write(rows.remove, alias):
            raise not_found(f"Room alias {alias} not found.")
        await self._unlist(user, room_id, alias)

    async def _unlist(self, user: User, room_id: str, alias: str) -> None:
        """Take a deleted alias out of the canonical alias event, where the user may; the deletion stands either way."""
        event = (await self._state.current(room_id, [(CANONICAL, "")])).get((CANONICAL, ""))
        if event is None:
            return
        content = dict(event.content)
        if content.get("alias") == alias:
            del content["alias"]
        listed = content.get("alt_aliases")
        if isinstance(listed, list) and alias in listed:
            content["alt_aliases"] = [one for one in listed if one != alias]
        if content != event.content:
            try:
                await self._sender.send(user, room_id, Draft(CANONICAL, content, user.user_id, ""), scope=None)
            except MatrixError:
                return

    async def of_room(self, user: User, room_id: str) -> list[str]:
        """The room's aliases on this server; for those in it, and for everybody where it is world readable."""
        room = await self._db.point(names.room_nid, parse_room_id(room_id))
        if room is None:
            raise forbidden("You are not in this room")
        if not await self._access.is_joined(user.usr, room_id) and not await self._access.is_world_readable(room_id):
            raise forbidden("You are not in this room")
        return [row.alias for row in await self._db.read(rows.of_room, room)]

    async def may_curate(self, user: User, room_id: str) -> bool:
        """Whether the user is in the room and has the power to set its canonical alias."""
        if not await self._access.is_joined(user.usr, room_id):
            return False
        levels = await self._access.power_levels(room_id)
        return levels is not None and levels.user(user.user_id) >= levels.for_event(CANONICAL, True)

    async def check_canonical(self, room_id: str, content: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Refuse a canonical alias event whose new aliases do not lead to its room.

        Raises M_INVALID_PARAM for what is no alias, M_BAD_ALIAS for one that leads elsewhere or nowhere.
        """
        fresh = _listed(content)
        known = set(_listed(before, lenient=True))
        for alias in fresh:
            if alias in known:
                continue
            try:
                leads_to = (await self.resolve(alias)).room_id
            except MatrixError as error:
                if error.errcode != "M_NOT_FOUND":
                    raise
                leads_to = ""
            if leads_to != room_id:
                raise MatrixError(400, "M_BAD_ALIAS", f"The alias {alias} does not lead to this room")


def _listed(content: Mapping[str, Any], lenient: bool = False) -> Sequence[str]:
    """Every alias that a canonical alias event names."""
    alias, others = content.get("alias"), content.get("alt_aliases")
    named = [] if alias is None or alias == "" else [alias]
    if isinstance(others, list):
        named += others
    elif others is not None and not lenient:
        raise invalid_param("alt_aliases must be a list")
    for one in named:
        if not is_room_alias(one):
            if lenient:
                return [each for each in named if is_room_alias(each)]
            raise invalid_param(f"{str(one)[:255]!r} is not a room alias")
    return named


def _resolve(txn: Txn, alias: str, server_name: str) -> ResolvedAlias | None:
    found = rows.find(txn, alias)
    if found is None:
        return None
    present = membership.servers_of_room(txn, found.room)
    by_size = sorted(present, key=lambda server: (-present[server], server))
    own_first = [server_name, *(server for server in by_size if server != server_name)]
    return ResolvedAlias(names.room_id(txn, found.room), tuple(own_first[:50]))
