# SPDX-License-Identifier: Apache-2.0
"""What people say of themselves, and how much of it they may say."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import orjson

from homeserver.protocol.errors import MatrixError, bad_json, forbidden, guest_forbidden, invalid_param, not_found
from homeserver.protocol.ids import fits, is_namespaced_id, parse_user_id
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from storage import accounts, profiles
from storage.txn import Txn

DISPLAYNAME, AVATAR = "displayname", "avatar_url"
MAX_DISPLAYNAME = 256
MAX_AVATAR = 1_000
MAX_KEY_BYTES = 255
# "the total profile MUST be under 64 KiB"
MAX_PROFILE_BYTES = 64 * 1024


class RemoteProfiles(Protocol):
    """Port to the federation: profiles of users on other servers."""

    async def query(self, user_id: str, field: str | None) -> Mapping[str, object]:
        """The profile, or one field of it; raises MatrixError."""


class Absent(Protocol):
    """Port to the application services: who may make a user that is asked for."""

    async def user(self, user_id: str) -> bool:
        """Whether the user exists now."""


class NoRemoteProfiles:
    """Stands in while this server does not federate."""

    async def query(self, user_id: str, field: str | None) -> Mapping[str, object]:
        raise not_found("The user is not on this server, which does not federate")


class Profiles:
    """Profiles of local users, and through a port those of others."""

    def __init__(
        self, server_name: str, database: Database, remote: RemoteProfiles, absent: Absent | None = None
    ) -> None:
        self._server_name = server_name
        self._database = database
        self._remote = remote
        self._absent = absent
        self._shown: Callable[[int], Awaitable[None]] | None = None

    def on_shown(self, shown: Callable[[int], Awaitable[None]]) -> None:
        """Have `shown(usr)` awaited after a change of a name or picture: it returns when the rooms show it."""
        self._shown = shown

    async def everything(self, user_id: str) -> Mapping[str, object]:
        """All fields; raises M_NOT_FOUND for a user who does not exist."""
        if parse_user_id(user_id).server != self._server_name:
            return await self._remote.query(user_id, None)
        found = await self._found(user_id)
        if found is None:
            raise not_found("There is no such user")
        return {name: orjson.Fragment(value) for name, value in found.items()}

    async def field(self, user_id: str, name: str) -> Mapping[str, object]:
        """One field by its name; raises M_NOT_FOUND for one that is not set."""
        check_key(name)
        if parse_user_id(user_id).server != self._server_name:
            answer = await self._remote.query(user_id, name)
            if name not in answer:
                raise not_found("The field is not set")
            return {name: answer[name]}
        found = await self._found(user_id)
        if found is None or name not in found:
            raise not_found("The field is not set")
        return {name: orjson.Fragment(found[name])}

    async def _found(self, user_id: str) -> Mapping[str, bytes] | None:
        """The profile of a local user, whom an application service may make now."""
        found = await self._database.point(_profile, user_id)
        if found is None and self._absent is not None and await self._absent.user(user_id):
            found = await self._database.point(_profile, user_id)
        return found

    async def for_member(self, user_id: str) -> Mapping[str, str]:
        """Display name and avatar of a local user for a membership event, those that are set."""
        found = await self._database.point(_profile, user_id) or {}
        return {name: orjson.loads(found[name]) for name in (DISPLAYNAME, AVATAR) if name in found}

    async def set_field(self, caller: User, user_id: str, name: str, body: Mapping[str, object]) -> None:
        """Set one of the caller's fields from a body that holds it by its name."""
        _require_own(caller, user_id, name)
        check_key(name)
        if name not in body:
            raise MatrixError(400, "M_MISSING_PARAM", f"{name} is missing from the body")
        value = body[name]
        _check_value(name, value)
        if name in (DISPLAYNAME, AVATAR) and value == "":
            await self.delete_field(caller, user_id, name)
            return
        encoded = orjson.dumps(value)
        now = await self._database.point(profiles.fields, caller.usr)
        if now.get(name) == encoded:
            return
        if profile_size({**now, name: encoded}) >= MAX_PROFILE_BYTES:
            raise MatrixError(400, "M_PROFILE_TOO_LARGE", "The profile would not be under 64 KiB")
        await self._database.write(profiles.put, caller.usr, name, encoded)
        await self._wait_for_rooms(caller.usr, name)

    async def delete_field(self, caller: User, user_id: str, name: str) -> None:
        """Remove one of the caller's fields; one that is not set is no error."""
        _require_own(caller, user_id, name)
        check_key(name)
        await self._database.write(profiles.delete, caller.usr, name)
        await self._wait_for_rooms(caller.usr, name)

    async def _wait_for_rooms(self, usr: int, name: str) -> None:
        if name in (DISPLAYNAME, AVATAR) and self._shown is not None:
            await self._shown(usr)


def check_key(name: str) -> None:
    """Raise M_KEY_TOO_LARGE or M_INVALID_PARAM for what cannot be the name of a field."""
    if not fits(name, MAX_KEY_BYTES):
        raise MatrixError(400, "M_KEY_TOO_LARGE", "The name of a profile field has at most 255 bytes")
    if not is_namespaced_id(name):
        raise invalid_param("The name of a profile field consists of a-z, 0-9 and . _ - and starts with a letter")


def profile_size(fields: Mapping[str, bytes]) -> int:
    """Bytes of the profile as canonical JSON, or a few more."""
    return 2 + sum(len(name) + len(value) + 4 for name, value in fields.items())


def _check_value(name: str, value: object) -> None:
    if name not in (DISPLAYNAME, AVATAR, "m.tz"):
        return
    if not isinstance(value, str):
        raise bad_json(f"{name} must be a string")
    # "The value MUST be an MXC URI" binds clients; older ones, and test suites, set other things.
    if name == AVATAR and len(value) > MAX_AVATAR:
        raise invalid_param("avatar_url is too long")
    if name == DISPLAYNAME and len(value) > MAX_DISPLAYNAME:
        raise invalid_param(f"displayname has more than {MAX_DISPLAYNAME} characters")


def _require_own(caller: User, user_id: str, name: str) -> None:
    if parse_user_id(user_id) != parse_user_id(caller.user_id):
        raise forbidden("You cannot change the profile of somebody else")
    if caller.is_guest and name != DISPLAYNAME:
        raise guest_forbidden("Guests may only set a display name")
    require_not_suspended(caller)


def _profile(txn: Txn, user_id: str) -> dict[str, bytes] | None:
    """The fields of an open local account, None when there is none."""
    account = accounts.find(txn, user_id)
    if account is None or account.deactivated:
        return None
    return profiles.fields(txn, account.usr)
