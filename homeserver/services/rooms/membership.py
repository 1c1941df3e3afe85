# SPDX-License-Identifier: Apache-2.0
"""Knows how people come into rooms and leave them: every change of a membership by a local user goes through here."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from homeserver.protocol.errors import MatrixError, bad_json, forbidden, invalid_param, not_found
from homeserver.protocol.events import Draft, Event, StateKey
from homeserver.protocol.ids import is_room_id, is_user_id, parse_room_alias, parse_room_id, parse_user_id, server_of
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.join_rules import CREATE, DECIDING, CannotGrant, JoinRules
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.summary import Resolver
from storage import membership, names, participation

MEMBER = "m.room.member"
MEMBERSHIPS = ("join", "invite", "leave", "ban", "knock")
PAGE_OF_MUTUAL_ROOMS = 500
MAX_REASON_BYTES = 16_384
#: What only the server itself writes into a membership event.
RESERVED = ("join_authorised_via_users_server", "third_party_invite")

Content = Mapping[str, Any]


class Profiles(Protocol):
    """What a local user says of themself: `displayname` and `avatar_url`, those that are set."""

    async def for_member(self, user_id: str) -> Mapping[str, str]: ...


class Settings(Protocol):
    """Carries what a user keeps for a room (tags, push rules) over to the room that replaces it."""

    async def follow(self, usr: int, old_room_id: str, new_room_id: str) -> None: ...


class InvitePolicy(Protocol):
    """Raises M_INVITE_BLOCKED when `invitee` does not want invites from `inviter`."""

    async def check(self, inviter: str, invitee: str) -> None: ...


class RemoteMembership(Protocol):
    """What needs another server: rooms that this one is not in, and people who are not here."""

    async def join(self, user: User, room_id: str, servers: Sequence[str], content: Content) -> str: ...
    async def knock(self, user: User, room_id: str, servers: Sequence[str], content: Content) -> str: ...
    async def leave(self, user: User, room_id: str, content: Content) -> None: ...
    async def invite(self, user: User, room_id: str, invitee: str, content: Content) -> str: ...


@attrs.frozen
class Personal:
    """What people keep for themselves and membership follows: profile, whom they let invite them, settings of rooms."""

    profiles: Profiles
    policy: InvitePolicy
    settings: Settings


@attrs.frozen(slots=True)
class Case:
    """A membership about to change, seen under the room's lock."""

    target: str
    current: Mapping[StateKey, Event]

    @property
    def before(self) -> Event | None:
        """The target's membership event."""
        return self.current.get((MEMBER, self.target))

    @property
    def membership(self) -> str:
        """The target's membership; "leave" for strangers."""
        value = None if self.before is None else self.before.content.get("membership")
        return value if isinstance(value, str) else "leave"

    @property
    def predecessor(self) -> list[str]:
        """The room that this one replaces, if it does."""
        create = self.current.get(CREATE)
        named = None if create is None else create.content.get("predecessor")
        room_id = named.get("room_id") if isinstance(named, dict) else None
        return [room_id] if isinstance(room_id, str) else []


Decide = Callable[[Case], Awaitable[Content | None]]


class MemberWriter:
    """Writes one membership event at a time, decided on the state under the room's lock."""

    def __init__(self, db: Database, locks: RoomLocks, sender: Sender, snapshots: Snapshots) -> None:
        self._db = db
        self._locks = locks
        self._sender = sender
        self._snapshots = snapshots

    async def change(self, user: User, room_id: str, target: str, decide: Decide, ts: int | None = None) -> str | None:
        """Write what `decide` says the target's membership becomes, sent by `user`; returns the event that stands then.

        None or the content that stands already write nothing. Raises M_FORBIDDEN when the room's rules refuse it.
        """
        async with self._locks.lock(room_id) as held:
            case = Case(target, await self._current(room_id, [*DECIDING, (MEMBER, target)]))
            content = await decide(case)
            before = case.before
            if content is None:
                return None if before is None else before.event_id
            if before is not None and before.content == content and before.sender == user.user_id:
                return before.event_id
            draft = Draft(MEMBER, dict(content), user.user_id, target, None, ts)
            return (await self._sender.append_in(held, [draft]))[0]

    async def _current(self, room_id: str, keys: Sequence[StateKey]) -> dict[StateKey, Event]:
        snapshot = await self._snapshots.get(room_id, keys)
        if snapshot is None:
            return {}
        return {key: entry.event for key in keys if (entry := snapshot.entries.get(key)) is not None}

    async def hosted(self, room_id: str) -> bool:
        """Whether this server is in the room, or the room is empty and its state is here."""
        return await self._db.point(participation.hosted, room_id)


class Membership:
    """Joins, invites, leaves, kicks, bans and the rest."""

    def __init__(
        self,
        db: Database,
        writer: MemberWriter,
        rules: JoinRules,
        personal: Personal,
        resolver: Resolver,
        remote: RemoteMembership | None = None,
    ) -> None:
        self._db = db
        self._writer = writer
        self._rules = rules
        self._profiles = personal.profiles
        self._policy = personal.policy
        self._settings = personal.settings
        self._resolver = resolver
        self._remote = remote

    # Coming in

    async def join(
        self,
        user: User,
        room_or_alias: str,
        *,
        reason: str | None = None,
        servers: Sequence[str] = (),
        extra: Content | None = None,
    ) -> str:
        """Join a room by its id or an alias; returns its id. Joining again changes nothing.

        `extra` are further keys of the membership; what the server itself writes goes before.
        """
        require_not_suspended(user)
        room_id, servers = await self.locate(room_or_alias, servers)
        own = {key: value for key, value in (extra or {}).items() if key not in RESERVED}
        wanted = {**await self._profiles.for_member(user.user_id), **own, **_reason(reason), "membership": "join"}
        if not await self._writer.hosted(room_id):
            if self._remote is None:
                raise not_found("This server is not in the room, and no other can be asked")
            return await self._remote.join(user, room_id, servers, wanted)

        replaced: list[str] = []

        async def decide(case: Case) -> Content | None:
            if case.membership == "join":
                return None
            replaced.extend(case.predecessor)
            return await self._admitted(user, case, wanted)

        try:
            await self._writer.change(user, room_id, user.user_id, decide)
        except CannotGrant:
            if self._remote is None:
                raise
            await self._remote.join(user, room_id, servers, wanted)
        for old_room_id in replaced:
            await self._settings.follow(user.usr, old_room_id, room_id)
        return room_id

    async def _admitted(self, user: User, case: Case, wanted: Content) -> Content:
        """The content of a join, with the member who lets the user in where the room's rule asks for one."""
        if case.membership == "ban":
            raise forbidden("You are banned from this room")
        authorizer = await self._rules.authorizer(user, case.current, case.membership)
        return wanted if authorizer is None else {**wanted, "join_authorised_via_users_server": authorizer}

    async def locate(self, room_or_alias: str, servers: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The room that is meant, and whom to ask about it. Raises M_INVALID_PARAM and M_NOT_FOUND."""
        if is_room_id(room_or_alias):
            return room_or_alias, servers
        if room_or_alias.startswith("!"):
            parse_room_id(room_or_alias)
        parse_room_alias(room_or_alias)
        found = await self._resolver.resolve(room_or_alias)
        return found.room_id, [*servers, *found.servers]

    async def knock_local(self, user: User, room_id: str, reason: str | None) -> None:
        """Knock on a room that this server is in."""
        wanted = {"membership": "knock", **await self._profiles.for_member(user.user_id), **_reason(reason)}

        async def decide(case: Case) -> Content:
            return wanted

        await self._writer.change(user, room_id, user.user_id, decide)

    async def invite(
        self, user: User, room_id: str, invitee: str, reason: str | None = None, *, extra: Content | None = None
    ) -> None:
        """Invite somebody. Raises M_INVITE_BLOCKED when they do not want that, M_FORBIDDEN when the room does not."""
        require_not_suspended(user)
        await self._known(room_id)
        parse_user_id(invitee)
        content = {"membership": "invite", **_reason(reason), **(extra or {})}
        await self._invite(user, room_id, invitee, content)

    async def _invite(
        self, user: User, room_id: str, invitee: str, content: Content, ts: int | None = None
    ) -> str | None:
        await self._policy.check(user.user_id, invitee)
        if server_of(invitee) != server_of(user.user_id):
            if self._remote is None:
                raise forbidden("This server does not federate")
            return await self._remote.invite(user, room_id, invitee, content)
        wanted = {**await self._profiles.for_member(invitee), **content}

        async def decide(case: Case) -> Content:
            return wanted

        return await self._writer.change(user, room_id, invitee, decide, ts)

    # Going out

    async def leave(self, user: User, room_id: str, reason: str | None = None) -> None:
        """Leave a room, or reject an invite, or take back a knock. Leaving again changes nothing."""
        parse_room_id(room_id)
        wanted = {"membership": "leave", **_reason(reason)}
        if await self._db.point(names.room_nid, room_id) is None:
            raise not_found("Not a known room")
        if not await self._writer.hosted(room_id):
            if self._remote is None:
                raise not_found("This server is not in the room")
            await self._remote.leave(user, room_id, wanted)
            return

        async def decide(case: Case) -> Content | None:
            if case.before is not None and case.membership == "leave":
                return None
            return wanted

        await self._writer.change(user, room_id, user.user_id, decide)

    async def kick(self, user: User, room_id: str, target: str, reason: str | None = None) -> None:
        """Remove somebody who is in the room, invited or knocking."""
        require_not_suspended(user)
        await self._known(room_id)
        parse_user_id(target)
        wanted = {"membership": "leave", **_reason(reason)}

        async def decide(case: Case) -> Content:
            if case.membership not in ("join", "invite", "knock"):
                raise forbidden("The user is not in the room")
            return wanted

        await self._writer.change(user, room_id, target, decide)

    async def ban(self, user: User, room_id: str, target: str, reason: str | None = None) -> None:
        """Ban somebody, whether they are in the room or not."""
        require_not_suspended(user)
        await self._known(room_id)
        parse_user_id(target)
        wanted = {"membership": "ban", **_reason(reason)}

        async def decide(case: Case) -> Content:
            return wanted

        await self._writer.change(user, room_id, target, decide)

    async def unban(self, user: User, room_id: str, target: str, reason: str | None = None) -> None:
        """Lift a ban; M_FORBIDDEN when there is none."""
        require_not_suspended(user)
        await self._known(room_id)
        parse_user_id(target)
        wanted = {"membership": "leave", **_reason(reason)}

        async def decide(case: Case) -> Content:
            if case.membership != "ban":
                raise forbidden("The user is not banned")
            return wanted

        await self._writer.change(user, room_id, target, decide)

    async def forget(self, user: User, room_id: str) -> None:
        """Hide a room that the user has left; M_UNKNOWN while they are in it, invited or knocking."""
        room = await self._db.point(names.room_nid, parse_room_id(room_id))
        own = None if room is None else await self._db.point(membership.of, user.usr, room)
        if room is None or own is None:
            raise not_found("You never were in this room")
        if own.kind not in (membership.LEAVE, membership.BAN):
            raise MatrixError(400, "M_UNKNOWN", f"User {user.user_id} is in room {room_id}")
        await self._db.write(membership.forget, user.usr, room)

    # By state event

    async def put_state(self, user: User, room_id: str, target: str, content: Content, ts: int | None = None) -> str:
        """Change a membership as `PUT …/state/m.room.member/{target}` does; returns the event that stands then.

        Names and avatars that the content leaves out are filled in from the profile of whom they are about. `ts` is
        the time that an application service gives it.
        """
        require_not_suspended(user)
        await self._known(room_id)
        kind = content.get("membership")
        if kind not in MEMBERSHIPS:
            raise bad_json(f"membership must be one of {', '.join(MEMBERSHIPS)}")
        if not is_user_id(target):
            raise invalid_param("The state key of a membership must be a user id")
        given = {key: value for key, value in content.items() if key not in RESERVED}
        if kind == "invite":
            event_id = await self._invite(user, room_id, target, given, ts)
        else:
            own = target == user.user_id and kind in ("join", "knock")
            filled = {**(await self._profiles.for_member(target) if own else {}), **given}

            async def decide(case: Case) -> Content:
                if kind == "join" and case.membership != "join" and own:
                    return await self._admitted(user, case, filled)
                return filled

            event_id = await self._writer.change(user, room_id, target, decide, ts)
        if event_id is None:
            raise MatrixError(500, "M_UNKNOWN", "The membership was not written")
        return event_id

    async def _known(self, room_id: str) -> None:
        parse_room_id(room_id)
        if not await self._writer.hosted(room_id):
            raise forbidden("You are not in this room")

    # Looking

    async def joined_rooms(self, user: User) -> list[str]:
        """The ids of the rooms that the user is in."""
        return await self._db.read(participation.joined_rooms, user.usr)

    async def mutual_rooms(self, user: User, other: str, token: str | None) -> dict[str, object]:
        """The rooms that both are in, a page at a time. Raises M_INVALID_PARAM for the user's own id and bad tokens."""
        if other == user.user_id:
            raise invalid_param("You share every room with yourself")
        parse_user_id(other)
        after = _page_position(token)
        found, count = await self._db.read(participation.mutual_rooms, user.usr, other, after, PAGE_OF_MUTUAL_ROOMS)
        answer: dict[str, object] = {"joined": [room_id for _, room_id in found], "count": count}
        if len(found) == PAGE_OF_MUTUAL_ROOMS:
            answer["next_batch"] = _page_token(found[-1][0])
        return answer


def _reason(reason: str | None) -> Content:
    if reason is None:
        return {}
    if len(reason.encode("utf-8", "replace")) > MAX_REASON_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", "The reason is too long")
    return {"reason": reason}


def _page_token(room: int) -> str:
    return base64.urlsafe_b64encode(b"m%d" % room).decode().rstrip("=")


def _page_position(token: str | None) -> int:
    if token is None:
        return 0
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise invalid_param("from is not a token of this server") from None
    if raw[:1] != b"m" or not raw[1:].isdigit() or len(raw) > 12:
        raise invalid_param("from is not a token of this server")
    return int(raw[1:])
