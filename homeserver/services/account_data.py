# SPDX-License-Identifier: Apache-2.0
"""What clients keep with their account, and the parts of it that the server obeys: ignored users, who may invite."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, invalid_param, not_found, too_large
from homeserver.protocol.ids import is_room_id
from homeserver.protocol.ignoring import (
    EVERYONE,
    IGNORED_USERS,
    INVITE_PERMISSION_TYPES,
    InviteAnswer,
    InvitePolicy,
    ignored_users,
    invite_policy,
)
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.unread_rules import UnreadRules
from storage import account_data, names, push_rules
from storage.account_data import ACCOUNT, PUSH_RULES
from storage.txn import Change, Txn

TAGS = "m.tag"
#: "Servers MUST reject setting account data for event types that the server manages by using a 405 error response."
SERVER_MANAGED = frozenset({"m.fully_read", PUSH_RULES})
MAX_TYPE_BYTES = 255
MAX_TAG_BYTES = 255
MAX_CONTENT_BYTES = 1024 * 1024
CACHED_USERS = 50_000


@attrs.frozen(slots=True)
class Wishes:
    """What a user's account data asks of the server."""

    ignored: frozenset[str]
    invites: InvitePolicy


class AccountData:
    """Account data of local users. `ignored` and `invite_policy` are answered from memory."""

    def __init__(self, database: Database, unread: UnreadRules) -> None:
        self._database = database
        self._unread = unread
        self._wishes: OrderedDict[int, Wishes] = OrderedDict()
        self._changes = 0
        database.subscribe(self._published)
        database.on_reset(self._wishes.clear)

    async def get(self, user: User, room_id: str | None, data_type: str) -> bytes:
        """The content of one entry as JSON; raises M_NOT_FOUND."""
        room = await self._room(room_id)
        if room == ACCOUNT and data_type == PUSH_RULES:
            return await self._database.read(push_rules.rendered, user.usr)
        content = None
        if room is not None and _is_short(data_type, MAX_TYPE_BYTES):
            content = await self._database.point(account_data.get, user.usr, room, data_type)
        if content is None:
            raise not_found("No account data of this type")
        return content

    async def set(self, user: User, room_id: str | None, data_type: str, content: Mapping[str, Any]) -> None:
        """Set one entry. Raises 405 M_BAD_JSON for types of the server's own."""
        _check_type(data_type)
        encoded = orjson.dumps(content)
        if len(encoded) > MAX_CONTENT_BYTES:
            raise too_large(f"Account data has at most {MAX_CONTENT_BYTES} bytes")
        room = await self._known_room(room_id)
        if room == ACCOUNT and data_type == IGNORED_USERS:
            await self._write_ignored(user, content, account_data.put, user.usr, room, data_type, encoded)
        else:
            await self._database.write(account_data.put, user.usr, room, data_type, encoded)

    async def delete(self, user: User, room_id: str | None, data_type: str) -> None:
        """Delete one entry, whether it is there or not (MSC3391)."""
        _check_type(data_type)
        room = await self._room(room_id)
        if room == ACCOUNT and data_type == IGNORED_USERS:
            await self._write_ignored(user, {}, account_data.remove, user.usr, room, data_type)
        elif room is not None:
            await self._database.write(account_data.remove, user.usr, room, data_type)

    # Tags

    async def tags(self, user: User, room_id: str) -> dict[str, Any]:
        """The user's tags of a room by name."""
        room = await self._room(room_id)
        content = None if room is None else await self._database.point(account_data.get, user.usr, room, TAGS)
        return _tags(content)

    async def set_tag(self, user: User, room_id: str, tag: str, content: Mapping[str, Any]) -> None:
        """Add or change a tag. Raises M_INVALID_PARAM for a bad name or order."""
        if not _is_short(tag, MAX_TAG_BYTES):
            raise invalid_param(f"The name of a tag has at most {MAX_TAG_BYTES} bytes")
        if not _is_order(content.get("order", 0)):
            raise invalid_param("The order of a tag must be a number")
        room = await self._known_room(room_id)
        await self._database.write(_change_tag, user.usr, room, tag, content)

    async def delete_tag(self, user: User, room_id: str, tag: str) -> None:
        """Remove a tag, whether it is there or not."""
        room = await self._room(room_id)
        if room is not None:
            await self._database.write(_change_tag, user.usr, room, tag, None)

    # What the server obeys

    async def ignored(self, usr: int) -> frozenset[str]:
        """The ids of those whom the user ignores."""
        return (await self._wishes_of(usr)).ignored

    async def invite_policy(self, usr: int) -> InvitePolicy:
        """Who may invite the user."""
        return (await self._wishes_of(usr)).invites

    async def invite_answer(self, inviter: str, invitee: str) -> InviteAnswer:
        """What becomes of an invite to a user; those of other servers are asked there."""
        usr = await self._database.point(names.user_nid, invitee)
        if usr is None:
            return InviteAnswer.ALLOW
        return (await self.invite_policy(usr)).answer(inviter)

    async def check(self, inviter: str, invitee: str) -> None:
        """Raise 403 M_INVITE_BLOCKED (MSC4155's where its lists say so) when `invitee` wants no invite of `inviter`."""
        usr = await self._database.point(names.user_nid, invitee)
        policy = EVERYONE if usr is None else await self.invite_policy(usr)
        if policy.answer(inviter) is InviteAnswer.BLOCK:
            listed = not policy.blocks_all
            errcode = "ORG.MATRIX.MSC4155.M_INVITE_BLOCKED" if listed else "M_INVITE_BLOCKED"
            raise MatrixError(403, errcode, "This user does not want to be invited")

    async def _wishes_of(self, usr: int) -> Wishes:
        held = self._wishes.get(usr)
        if held is not None:
            self._wishes.move_to_end(usr)
            return held
        changes = self._changes
        held = await self._database.point(_wishes, usr)
        if changes == self._changes:  # nothing changed while it was read
            self._wishes[usr] = held
            if len(self._wishes) > CACHED_USERS:
                self._wishes.popitem(last=False)
        return held

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.stream == "account_data" and change.user is not None and change.room is None:
                self._changes += 1
                self._wishes.pop(change.user, None)

    async def _write_ignored(
        self, user: User, content: Mapping[str, Any], write: Callable[..., object], *args: object
    ) -> None:
        await self._unread.ignoring(user.usr, ignored_users(content))
        try:
            await self._database.write(write, *args)
        except BaseException:
            await self._unread.reload(user.usr)
            raise

    async def _room(self, room_id: str | None) -> int | None:
        """The room's number, ACCOUNT for None, None for a room this server does not know; raises M_INVALID_PARAM."""
        if room_id is None:
            return ACCOUNT
        if not is_room_id(room_id):
            raise invalid_param(f"{room_id[:100]} is not a room id")
        return await self._database.point(names.room_nid, room_id)

    async def _known_room(self, room_id: str | None) -> int:
        room = await self._room(room_id)
        if room is None:
            raise not_found("Unknown room")
        return room


def move_room_settings(txn: Txn, usr: int, old_room: int, new_room: int) -> None:
    """Give the user's tags of a room also to the room that replaces it."""
    tags = account_data.get(txn, usr, old_room, TAGS)
    if tags is not None and account_data.get(txn, usr, new_room, TAGS) is None:
        account_data.put(txn, usr, new_room, TAGS, tags)


def _check_type(data_type: str) -> None:
    if data_type in SERVER_MANAGED:
        raise MatrixError(405, "M_BAD_JSON", f"{data_type} is managed by the server")
    if not _is_short(data_type, MAX_TYPE_BYTES):
        raise invalid_param(f"A type of account data has 1 to {MAX_TYPE_BYTES} bytes")


def _is_short(text: str, limit: int) -> bool:
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= limit


def _tags(content: bytes | None) -> dict[str, Any]:
    """The well-formed tags in an `m.tag` entry, which a client may also have written directly."""
    tags = orjson.loads(content).get("tags") if content is not None else None
    if not isinstance(tags, dict):
        return {}
    return {name: tag for name, tag in tags.items() if isinstance(tag, dict) and _is_order(tag.get("order", 0))}


def _is_order(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _change_tag(txn: Txn, usr: int, room: int, tag: str, content: Mapping[str, Any] | None) -> None:
    tags = _tags(account_data.get(txn, usr, room, TAGS))
    if content is None:
        if tags.pop(tag, None) is None:
            return
    else:
        tags[tag] = content
    account_data.put(txn, usr, room, TAGS, orjson.dumps({"tags": tags}))


def _wishes(txn: Txn, usr: int) -> Wishes:
    contents = {}
    for data_type in (IGNORED_USERS, *INVITE_PERMISSION_TYPES):
        content = account_data.get(txn, usr, ACCOUNT, data_type)
        if content is not None:
            contents[data_type] = orjson.loads(content)
    return Wishes(ignored_users(contents.get(IGNORED_USERS)), invite_policy(contents))
