# SPDX-License-Identifier: Apache-2.0
"""How a room comes into being: all its first events, its alias and its place in the directory in one commit."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from homeserver.protocol.errors import MatrixError, Rejected, forbidden, invalid_param
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import parse_room_alias, parse_user_id, server_of
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.runtime import Runtime
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.presets import Wishes, initial_drafts
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.stage import Author, Stage
from storage import aliases, directory
from storage.append import Append, Appended, append
from storage.faults import Duplicate
from storage.txn import Txn

ATTEMPTS = 20
"""Rooms that one user can make alike in the same millisecond."""


class Profiles(Protocol):
    """What a local user says of themself: `displayname` and `avatar_url`, those that are set."""

    async def for_member(self, user_id: str) -> Mapping[str, str]: ...


class InvitePolicy(Protocol):
    """Raises M_INVITE_BLOCKED when `invitee` does not want invites from `inviter`."""

    async def check(self, inviter: str, invitee: str) -> None: ...


class RemoteInvites(Protocol):
    """Invites people who are not here, to a room that exists."""

    async def invite(self, user: User, room_id: str, invitee: str, content: Mapping[str, Any]) -> str: ...


class RoomCreation:
    """Makes rooms: `create` from a client's wishes, `found` from drafts."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        locks: RoomLocks,
        snapshots: Snapshots,
        author: Author,
        people: "People",
        default_version: str,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._locks = locks
        self._snapshots = snapshots
        self._author = author
        self._people = people
        self._default_version = default_version

    def version(self, wanted: str | None) -> RoomVersion:
        """The version of a new room; M_UNSUPPORTED_ROOM_VERSION."""
        version = lookup(wanted if wanted is not None else self._default_version)
        if version is None:
            raise MatrixError(400, "M_UNSUPPORTED_ROOM_VERSION", "This server does not know this room version")
        return version

    async def create(self, user: User, version: RoomVersion, wishes: Wishes, *, listed: bool = False) -> str:
        """Creates a room; gives its id. Raises M_ROOM_IN_USE, M_INVALID_ROOM_STATE, M_INVITE_BLOCKED and others."""
        require_not_suspended(user)
        wishes = attrs.evolve(wishes, invite=list(dict.fromkeys(wishes.invite)))
        if wishes.alias is not None:
            await self._check_alias(wishes.alias)
        invites = await self._people.invites(user, wishes)
        drafts = initial_drafts(version, user.user_id, await self._people.profile(user.user_id), wishes)
        here = [draft for draft in invites if self._people.is_local(draft.state_key)]
        room_id = await self.found(user, version, [*drafts, *here], alias=wishes.alias, listed=listed)
        for draft in invites:
            if draft.state_key is not None and not self._people.is_local(draft.state_key):
                await self._people.invite_elsewhere(user, room_id, draft.state_key, draft.content)
        return room_id

    async def found(
        self,
        user: User,
        version: RoomVersion,
        drafts: Sequence[Draft],
        *,
        alias: str | None = None,
        listed: bool = False,
    ) -> str:
        """Makes a room of these events, the create event first, in one commit; gives its id."""
        error: Exception | None = None
        for attempt in range(ATTEMPTS):
            stage = self._staged(user, version, drafts, self._runtime.now_ms() + attempt)
            assert stage.room_id is not None
            async with self._locks.lock(stage.room_id):
                try:
                    plan = stage.plan(self._runtime.now_ms() // 1000)
                    done = await self._db.write(_store, plan, alias, listed, user.user_id)
                except Duplicate as taken:
                    # "The room ID is the event ID of the create event": two equal ones in a millisecond are one room.
                    error = taken
                    continue
                self._snapshots.add(stage.settle(done))
                return stage.room_id
        raise MatrixError(500, "M_UNKNOWN", "The room could not be given an id") from error

    def _staged(self, user: User, version: RoomVersion, drafts: Sequence[Draft], now_ms: int) -> Stage:
        opaque = None
        if not version.room_id_is_create_hash:
            opaque = f"!{self._runtime.token(13)[:18]}:{self._author.signer.server_name}"
        stage = Stage(self._author, version, None, None, opaque)
        for draft in drafts:
            try:
                stage.add(draft, now_ms)
            except MatrixError as refused:
                if not isinstance(refused.__cause__, Rejected):
                    raise
                raise MatrixError(400, "M_INVALID_ROOM_STATE", f"{draft.type}: {refused.message}") from refused
        return stage

    async def _check_alias(self, alias: str) -> None:
        parse_room_alias(alias)
        if await self._db.point(aliases.find, alias) is not None:
            raise _alias_taken()


class People:
    """Who is to be in a new room: profiles, who wants to be invited, who is on other servers."""

    def __init__(
        self, server_name: str, profiles: Profiles, policy: InvitePolicy, remote: RemoteInvites | None = None
    ) -> None:
        self._server_name = server_name
        self._profiles = profiles
        self._policy = policy
        self._remote = remote

    def is_local(self, user_id: str | None) -> bool:
        return user_id is not None and server_of(user_id) == self._server_name

    async def profile(self, user_id: str) -> Mapping[str, str]:
        return await self._profiles.for_member(user_id)

    async def invites(self, user: User, wishes: Wishes) -> list[Draft]:
        """The invites, everything about them checked that can be before the room is made."""
        drafts = []
        for invitee in wishes.invite:
            parse_user_id(invitee)
            if invitee == user.user_id:
                raise invalid_param("You cannot invite yourself")
            await self._policy.check(user.user_id, invitee)
            local = self.is_local(invitee)
            if not local and self._remote is None:
                raise forbidden("This server does not federate")
            content: dict[str, Any] = {"membership": "invite"}
            if local:
                content |= await self._profiles.for_member(invitee)
            if wishes.is_direct:
                content["is_direct"] = True
            drafts.append(Draft("m.room.member", content, user.user_id, invitee))
        return drafts

    async def invite_elsewhere(self, user: User, room_id: str, invitee: str, content: Mapping[str, Any]) -> None:
        assert self._remote is not None
        await self._remote.invite(user, room_id, invitee, content)


def _store(txn: Txn, plan: Append, alias: str | None, listed: bool, creator: str) -> Appended:
    done = append(txn, plan)
    if alias is not None and not aliases.add(txn, alias, done.room, creator):
        raise _alias_taken()
    if listed:
        directory.publish(txn, done.room, "", True)
    return done


def _alias_taken() -> MatrixError:
    return MatrixError(400, "M_ROOM_IN_USE", "The room alias is taken")
