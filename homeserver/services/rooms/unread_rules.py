# SPDX-License-Identifier: Apache-2.0
"""For which members an event that is about to be appended counts otherwise than its flags say.

Who appends awaits `room()` once under the room's lock, then calls `at_append` for each event of the batch, in order,
and writes what it returns with the event (`storage.unread.record`). If the write fails it calls `forget_room`.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

import attrs
import orjson

from homeserver.protocol.events import Event
from homeserver.protocol.ignoring import ignored_users
from homeserver.protocol.push_rules import (
    HIGHLIGHTS,
    NOTIFIES,
    Occasion,
    RuleSet,
    base_flags,
    mentioned_users,
    mentions_count,
)
from homeserver.services.database import Database
from homeserver.services.rooms.unread_classes import OwnRules, own_rules
from storage import unread_members
from storage.txn import Change
from storage.unread import DEFAULT, MENTIONS

HELD_MEMBERS = 200_000


@attrs.frozen(slots=True)
class Unread:
    """What to write with an event: its notifying flags (1 and 2), and (usr, dn, dh) for users who differ."""

    flags: int
    exceptions: tuple[tuple[int, int, int], ...] = ()


@attrs.define(slots=True, eq=False)
class RoomMembers:
    """A room's joined local members by user id, and by number the rules of those who have rules of their own.

    `joined` counts all members, other servers' included; `names` are display names where a rule asks for them;
    `expected` are the members whose change of membership is foreseen, and not yet committed.
    """

    room: int
    members: dict[str, int]
    own: dict[int, OwnRules]
    joined: int
    names: dict[int, str]
    expected: set[int] = attrs.field(factory=set)
    stale: bool = False


class UnreadRules:
    """Push rules as they bear on unread counts, kept in memory for rooms in which somebody speaks."""

    def __init__(self, database: Database, server_name: str) -> None:
        self._database = database
        self._suffix = ":" + server_name
        self._rooms: OrderedDict[int, RoomMembers] = OrderedDict()
        self._held = 0
        self._own: WeakValueDictionary[int, OwnRules] = WeakValueDictionary()
        self._with_own: set[int] | None = None
        database.subscribe(self._published)
        database.on_reset(self._forget_all)

    async def room(self, room: int) -> RoomMembers:
        """The room's members as `at_append` needs them; read once, then kept up to date."""
        found = self._rooms.get(room)
        if found is not None and not found.stale:
            self._rooms.move_to_end(room)
            found.expected.clear()  # the room is locked, so all that was foreseen has happened
            return found
        with_own = await self._users_with_own()
        small = await self._database.point(unread_members.is_small, room)
        read = self._database.point if small else self._database.read
        members, joined = await read(unread_members.members, room)
        own = await self._own_rules([usr for usr in members.values() if usr in with_own])
        naming = [(usr, rules.user_id) for usr, rules in own.items() if rules.wants_name]
        names = await self._database.read(unread_members.display_names, room, naming) if naming else {}
        found = RoomMembers(room, members, own, joined, names)
        self._hold(found)
        return found

    def at_append(self, room: RoomMembers, event: Event, may_notify: Callable[[str], bool]) -> Unread:
        """What the event counts for whom. `may_notify(key)`: its sender has the level of that kind of notification."""
        pdu = event.pdu
        flags = base_flags(pdu, may_notify)
        exceptions: list[tuple[int, int, int]] = []
        mentioned: list[str] = mentioned_users(event.content) if "m.mentions" in event.content else []
        if mentioned and flags != NOTIFIES | HIGHLIGHTS and mentions_count(pdu):
            dn, dh = 1 - (flags & 1), 1 - (flags >> 1)
            for user_id in mentioned:
                usr = room.members.get(user_id)
                if usr is not None and usr not in room.own and user_id != event.sender:
                    exceptions.append((usr, dn, dh))
        if room.own:
            self._own_exceptions(room, event, may_notify, flags, mentioned, exceptions)
        if event.type == "m.room.member" and event.state_key is not None:
            self._note_member(room, event, event.state_key)
        return Unread(flags, tuple(exceptions))

    def forget_room(self, room: int) -> None:
        """Read the room again before the next event: what was foreseen did not happen."""
        gone = self._rooms.pop(room, None)
        if gone is not None:
            self._held -= len(gone.members)
            gone.stale = True

    async def changed(self, usr: int, rules: RuleSet) -> OwnRules:
        """Count by these rules from the next event on. Called when a change is queued, so that events follow it."""
        before = await self._known(usr)
        return self._set(usr, own_rules(rules, before.ignored))

    async def ignoring(self, usr: int, ignored: frozenset[str]) -> None:
        """From the next event on these senders do not count for the user."""
        before = await self._known(usr)
        self._set(usr, attrs.evolve(before, ignored=ignored))

    async def reload(self, usr: int) -> None:
        """Take the user's rules from the database again, after a change that failed."""
        self._own.pop(usr, None)
        self._set(usr, await self._known(usr))

    # Evaluation

    def _own_exceptions(
        self,
        room: RoomMembers,
        event: Event,
        may_notify: Callable[[str], bool],
        flags: int,
        mentioned: Sequence[str],
        exceptions: list[tuple[int, int, int]],
    ) -> None:
        room_id = event.room_id
        occasion = Occasion(event.pdu, room_id, event.event_id, room.joined, may_notify)
        for usr, own in room.own.items():
            if own.user_id == event.sender:
                continue
            ignores = event.sender in own.ignored
            if not ignores and not own.watches(room_id) and own.user_id not in mentioned:
                continue
            decided = None if ignores else own.evaluator.decide(occasion, room.names.get(usr))
            n = 1 if decided is not None and decided.notifies else 0
            h = 1 if decided is not None and decided.highlights else 0
            base_n, base_h = base_of(own.classes.of(room_id), flags)
            if n != base_n or h != base_h:
                exceptions.append((usr, n - base_n, h - base_h))

    def _note_member(self, room: RoomMembers, event: Event, user_id: str) -> None:
        """Foresee what a membership event does to the members, for the events that follow it in the same batch."""
        joined = event.content.get("membership") == "join"
        known = room.members.get(user_id)
        usr = known if known is not None else self._database.names.users.get(user_id)
        if usr is not None:
            room.expected.add(usr)
        if known is not None and not joined:
            del room.members[user_id]
            self._held -= 1
            room.joined -= 1
            room.own.pop(known, None)
        elif known is not None and known in room.own:
            room.names[known] = str(event.content.get("displayname") or "")
        elif not user_id.endswith(self._suffix):
            room.stale = room.stale or bool(room.own)  # the number of members is asked for, and may have changed
        elif known is None and joined:
            room.stale = room.stale or usr is None or usr in (self._with_own or ())
            if usr is not None:
                room.members[user_id] = usr
                self._held += 1
                room.joined += 1

    # Upkeep

    def _hold(self, room: RoomMembers) -> None:
        self.forget_room(room.room)
        self._rooms[room.room] = room
        self._held += len(room.members)
        while self._held > HELD_MEMBERS and len(self._rooms) > 1:
            _, oldest = self._rooms.popitem(last=False)
            self._held -= len(oldest.members)

    def _set(self, usr: int, own: OwnRules) -> OwnRules:
        self._own[usr] = own
        if self._with_own is not None:
            self._with_own.add(usr)
        for room in self._rooms.values():
            if own.user_id in room.members:
                room.own[usr] = own
                room.stale = room.stale or own.wants_name
        return own

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.stream == "membership" and change.room is not None and change.user is not None:
                room = self._rooms.get(change.room)
                if room is not None and change.user not in room.expected and (room.own or self._is_local(change.user)):
                    self.forget_room(room.room)

    def _is_local(self, usr: int) -> bool:
        """Whether the user may be one of ours; a name that is not in memory may be."""
        user_id = self._database.names.user_ids.get(usr)
        return user_id is None or user_id.endswith(self._suffix)

    def _forget_all(self) -> None:
        self._rooms.clear()
        self._own.clear()
        self._with_own = None
        self._held = 0

    async def _users_with_own(self) -> set[int]:
        if self._with_own is None:
            found = await self._database.read(unread_members.with_own_rules)
            if self._with_own is None:
                self._with_own = found
        return self._with_own

    async def _known(self, usr: int) -> OwnRules:
        await self._users_with_own()
        return (await self._own_rules([usr]))[usr]

    async def _own_rules(self, usrs: Sequence[int]) -> dict[int, OwnRules]:
        known = {usr: own for usr in usrs if (own := self._own.get(usr)) is not None}
        missing = [usr for usr in usrs if usr not in known]
        if missing:
            for usr, (rules, ignored) in (await self._database.read(unread_members.own_rules, missing)).items():
                fresh = own_rules(rules, ignored_users(None if ignored is None else orjson.loads(ignored)))
                known[usr] = self._own.setdefault(usr, fresh)
        return known


def base_of(kind: int, flags: int) -> tuple[int, int]:
    """What an event with these flags counts for a member of that class."""
    highlights = flags >> 1 & 1
    if kind == DEFAULT:
        return flags & NOTIFIES, highlights
    return (highlights, highlights) if kind == MENTIONS else (0, 0)
