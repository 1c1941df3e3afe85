# SPDX-License-Identifier: Apache-2.0
"""Knows what moves when a room is replaced by one of another version: its face, rules, names and place in spaces."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, Rejected, forbidden, invalid_param, not_found
from homeserver.protocol.events import Draft, Event, StateKey
from homeserver.protocol.ids import is_user_id, parse_room_id
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.services.account_data import move_room_settings
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.read import level_allows
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.state import RoomState
from storage import aliases, directory, events, membership, names
from storage.txn import Txn

CREATE, POWER_LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")
MEMBER, TOMBSTONE, CHILD, CANONICAL = "m.room.member", "m.room.tombstone", "m.space.child", "m.room.canonical_alias"
#: State with an empty key that goes with the room.
MOVING = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.policy",
    "m.room.related_groups",
)
#: State whose key is another room.
LINKS = ("m.space.child", "m.space.parent")


class RoomMaker(Protocol):
    """Makes a room of its first events in one commit; gives its id."""

    async def found(self, user: User, version: RoomVersion, drafts: Sequence[Draft]) -> str: ...


class Profiles(Protocol):
    """What a local user says of themself: `displayname` and `avatar_url`, those that are set."""

    async def for_member(self, user_id: str) -> Mapping[str, str]: ...


class Settings(Protocol):
    """Carries what a user keeps for a room (tags, push rules) over to another."""

    async def follow(self, usr: int, old_room_id: str, new_room_id: str) -> None: ...


class RuleMover(Protocol):
    """Gives the push rules of a room also to another."""

    async def move_room(self, usr: int, old_room: str, new_room: str) -> None: ...


@attrs.frozen(slots=True)
class Old:
    """The room that is replaced, as it stands."""

    room_id: str
    state: Mapping[StateKey, Event]
    levels: PowerLevels

    def content(self, event_type: str) -> dict[str, Any] | None:
        event = self.state.get((event_type, ""))
        return None if event is None else dict(event.content)


class Upgrades:
    """Replaces rooms."""

    def __init__(
        self,
        db: Database,
        sender: Sender,
        room_state: RoomState,
        maker: RoomMaker,
        profiles: Profiles,
        settings: Settings,
    ) -> None:
        self._db = db
        self._sender = sender
        self._state = room_state
        self._maker = maker
        self._profiles = profiles
        self._settings = settings

    async def upgrade(self, user: User, room_id: str, version_id: str, additional: Sequence[str]) -> str:
        """Replace a room by one of another version; gives the new room's id.

        Raises M_UNSUPPORTED_ROOM_VERSION, and M_FORBIDDEN for those who may not send a tombstone.
        """
        require_not_suspended(user)
        version = lookup(version_id)
        if version is None:
            raise MatrixError(400, "M_UNSUPPORTED_ROOM_VERSION", "This server does not support that room version")
        if not all(is_user_id(one) for one in additional):
            raise invalid_param("additional_creators must hold user ids")
        old = await self._old(user, parse_room_id(room_id))
        drafts = await self._drafts(version, old, user, additional)
        new_id = await self._maker.found(user, version, drafts)
        await self._db.write(_move_names, room_id, new_id)
        await self._close(user, old, new_id)
        await self._move_links(user, old, new_id)
        await self._settings.follow(user.usr, room_id, new_id)
        return new_id

    async def _old(self, user: User, room_id: str) -> Old:
        found = await self._state.all_current(room_id)
        create = found.get(CREATE)
        if create is None:
            raise not_found("There is no such room")
        member = found.get((MEMBER, user.user_id))
        levels = PowerLevels.of(create.version, create, found.get(POWER_LEVELS))
        if member is None or member.content.get("membership") != "join":
            raise forbidden("You are not in this room")
        if not level_allows(levels, user.user_id, TOMBSTONE, True):
            raise forbidden("You may not replace this room")
        return Old(room_id, found, levels)

    async def _drafts(self, version: RoomVersion, old: Old, user: User, additional: Sequence[str]) -> list[Draft]:
        """The first events of the new room: its maker, then the old one's face, rules, links, bans and levels."""
        sender = user.user_id
        creators = [sender, *additional] if version.creators_are_privileged else [sender]
        final = levels_for(version, old, creators)
        first = able(version, final, sender)
        joining = {"membership": "join", **await self._profiles.for_member(sender)}
        drafts = [
            Draft(CREATE[0], await self._creation(version, old, sender, additional), sender, ""),
            Draft(MEMBER, joining, sender, sender),
            Draft(POWER_LEVELS[0], first, sender, ""),
        ]
        for event_type in (*MOVING, CANONICAL):
            content = old.content(event_type)
            if content:
                drafts.append(Draft(event_type, content, sender, ""))
        for event in old.state.values():
            if event.type in LINKS and event.content.get("via"):
                drafts.append(Draft(event.type, dict(event.content), sender, event.state_key))
            elif event.type == MEMBER and event.content.get("membership") == "ban" and event.state_key not in creators:
                drafts.append(Draft(MEMBER, _ban(event.content), sender, event.state_key))
        if first != final:
            drafts.append(Draft(POWER_LEVELS[0], final, sender, ""))
        return drafts

    async def _creation(self, version: RoomVersion, old: Old, sender: str, additional: Sequence[str]) -> dict[str, Any]:
        before = old.state[CREATE].content
        content: dict[str, Any] = {key: before[key] for key in ("type", "m.federate") if key in before}
        content["room_version"] = version.id
        if version.creator_in_content:
            content["creator"] = sender
        if version.creators_are_privileged and additional:
            content["additional_creators"] = list(dict.fromkeys(additional))
        # "event_id: the event ID of the last known event in the old room"; from version 12 on it may be left out.
        last = None if version.room_id_is_create_hash else await self._db.read(_last_event, old.room_id)
        predecessor = {"room_id": old.room_id}
        content["predecessor"] = predecessor if last is None else {**predecessor, "event_id": last}
        return content

    async def _close(self, user: User, old: Old, new_id: str) -> None:
        """Send the tombstone, and let nobody but moderators speak or invite from then on."""
        content = {"body": "This room has been replaced", "replacement_room": new_id}
        await self._sender.send(user, old.room_id, Draft(TOMBSTONE, content, user.user_id, ""))
        if old.content(CANONICAL):
            await self._attempt(user, old.room_id, Draft(CANONICAL, {}, user.user_id, ""))
        levels = old.content(POWER_LEVELS[0])
        if levels is not None:
            least = max(50, _number(levels.get("users_default"), 0) + 1)
            closed = dict(levels)
            for key, default in (("events_default", 0), ("invite", 0)):
                closed[key] = max(least, _number(levels.get(key), default))
            await self._attempt(user, old.room_id, Draft(POWER_LEVELS[0], closed, user.user_id, ""))

    async def _move_links(self, user: User, old: Old, new_id: str) -> None:
        """Put the new room in the old one's place in those spaces that the user may arrange."""
        for space_id, content in await self._db.read(_spaces_with, old.room_id):
            moved = await self._attempt(user, space_id, Draft(CHILD, content, user.user_id, new_id))
            if moved:
                await self._attempt(user, space_id, Draft(CHILD, {}, user.user_id, old.room_id))

    async def _attempt(self, user: User, room_id: str, draft: Draft) -> bool:
        """Send what an upgrade can do without; false when the room does not allow it."""
        try:
            await self._sender.send(user, room_id, draft)
        except MatrixError:
            return False
        return True


def levels_for(version: RoomVersion, old: Old, creators: Sequence[str]) -> dict[str, Any]:
    """The power levels of the new room: the old ones, in the form and with the creators of its version."""
    content = {key: value for key, value in (old.content(POWER_LEVELS[0]) or {}).items() if key != "users"}
    try:
        listed = old.levels.listed_users()
    except Rejected:
        listed = {}
    users = {
        user_id: 100 if level == float("inf") else int(level)
        for user_id, level in listed.items()
        # Who made the old room is a creator of it alone, unless named anew.
        if not (version.creators_are_privileged and (user_id in creators or level == float("inf")))
    }
    if not version.creators_are_privileged and old.state[CREATE].version.creators_are_privileged:
        users[creators[0]] = 100
    content["users"] = users
    if version.creators_are_privileged:
        events = dict(content.get("events") or {})
        above = max(150, _number(content.get("state_default"), 50) + 1)
        if _number(events.get(TOMBSTONE), 100) <= 100:
            events[TOMBSTONE] = above
        content["events"] = events
    return content


def able(version: RoomVersion, final: dict[str, Any], user_id: str) -> dict[str, Any]:
    """The levels with which the user can set the room up; the final ones are sent at the end."""
    if version.creators_are_privileged:
        return final
    events = final.get("events") or {}
    needed = [_number(final.get(key), 50) for key in ("state_default", "ban")]
    needed += [_number(level, 0) for level in events.values()]
    users = dict(final["users"])
    users[user_id] = max([_number(users.get(user_id), 0), *needed, 100])
    return {**final, "users": users}


def _number(value: object, default: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        return int(value)
    except (ValueError, OverflowError):
        return default


def _ban(content: Mapping[str, Any]) -> dict[str, Any]:
    reason = content.get("reason")
    return {"membership": "ban", "reason": reason} if isinstance(reason, str) else {"membership": "ban"}


# ---- in one transaction ----


def _move_names(txn: Txn, old_id: str, new_id: str) -> None:
    old, new = names.room_nid(txn, old_id), names.room_nid(txn, new_id)
    if old is None or new is None:
        return
    aliases.move(txn, old, new)
    if directory.is_published(txn, old):
        directory.publish(txn, old, "", False)
        directory.publish(txn, new, "", True)


def _spaces_with(txn: Txn, room_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The spaces of this server that have the room as a child, with the link's content."""
    found = [(space, orjson.loads(content)) for space, content in directory.rooms_with(txn, (CHILD, room_id))]
    return [(space, content) for space, content in found if content.get("via")]


def _last_event(txn: Txn, room_id: str) -> str | None:
    room = names.room_nid(txn, room_id)
    found = [] if room is None else events.before(txn, room, below=2**62, limit=1)
    return found[0].event_id if found else None


class RoomSettings:
    """Carries tags and push rules of a room over to the room that replaces it."""

    def __init__(self, db: Database, rules: RuleMover) -> None:
        self._db = db
        self._rules = rules

    async def follow(self, usr: int, old_room_id: str, new_room_id: str) -> None:
        """Give what the user set for the old room also to the new one; nothing when they never were in the old one."""
        if await self._db.write(_move_settings, usr, old_room_id, new_room_id):
            await self._rules.move_room(usr, old_room_id, new_room_id)


def _move_settings(txn: Txn, usr: int, old_id: str, new_id: str) -> bool:
    old, new = names.room_nid(txn, old_id), names.room_nid(txn, new_id)
    if old is None or new is None or membership.of(txn, usr, old) is None:
        return False
    move_room_settings(txn, usr, old, new)
    return True
