# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody asks to be let into a room."""

from collections.abc import Sequence

from homeserver.protocol.errors import not_found
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.rooms.membership import Membership, MemberWriter, Profiles, RemoteMembership


class Knocking:
    """Knocks on rooms that this server is in, and through a port on others."""

    def __init__(
        self,
        membership: Membership,
        writer: MemberWriter,
        profiles: Profiles,
        remote: RemoteMembership | None = None,
    ) -> None:
        self._membership = membership
        self._writer = writer
        self._profiles = profiles
        self._remote = remote

    async def knock(self, user: User, room_or_alias: str, servers: Sequence[str], reason: str | None) -> str:
        """Knock; returns the room's id. Raises M_FORBIDDEN where the join rule or a ban does not allow it."""
        require_not_suspended(user)
        room_id, servers = await self._membership.locate(room_or_alias, servers)
        if await self._writer.hosted(room_id):
            await self._membership.knock_local(user, room_id, reason)
            return room_id
        if self._remote is None:
            raise not_found("This server is not in the room, and no other can be asked")
        content: dict[str, object] = {"membership": "knock", **await self._profiles.for_member(user.user_id)}
        if reason is not None:
            content["reason"] = reason
        return await self._remote.knock(user, room_id, servers, content)
