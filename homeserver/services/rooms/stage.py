# SPDX-License-Identifier: Apache-2.0
"""How local events are put on top of a room before anything is written: each is built on the one before, checked by the
rules, signed.

A `Stage` belongs to who holds the room's lock. `add` as many drafts as wait, write `plan()` in one append, then
`settle` the room's snapshot. A draft that is refused leaves the stage as it was.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from homeserver.protocol.auth_rules import authorize
from homeserver.protocol.auth_selection import CREATE, POWER_LEVELS, auth_keys
from homeserver.protocol.errors import Rejected, bad_json, forbidden
from homeserver.protocol.events import Built, Draft, Event, PrevRef, StateKey, build
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import Signer
from homeserver.services.rooms.snapshot import Entry, Snapshot
from homeserver.services.rooms.targets import Link, Target
from homeserver.services.rooms.transactions import TxnScope
from homeserver.services.rooms.unread_rules import RoomMembers, UnreadRules
from storage import events, relations
from storage.append import Append, Appended, Item, Redacting, Relating
from storage.envelope import Envelopes

MOST_PREVS = 20
REDACTION = "m.room.redaction"

# The rules about the form of power levels, which hold for everybody.
MALFORMED = frozenset({"10.1", "10.2", "10.3", "10.4"})
# "The following state events SHOULD be represented as stripped state events when possible"
STRIPPED_KEYS: Final = tuple(
    (f"m.room.{name}", "")
    for name in ("create", "name", "avatar", "topic", "join_rules", "canonical_alias", "encryption")
)


@attrs.frozen(slots=True)
class Author:
    """What makes drafts into events here: our name and key, the unread rules, a way to name events of old rooms."""

    signer: Signer
    envelopes: Envelopes
    unread: UnreadRules
    opaque_id: Callable[[], str]


@attrs.frozen(slots=True)
class Circumstances:
    """What was looked up for a draft beforehand: its relation, and the event it redacts."""

    link: Link | None = None
    target: Target | None = None


NOTHING = Circumstances()


class Stage:
    """A chain of local events in the making. Without a snapshot they make a room, of this id if it has its own."""

    def __init__(
        self,
        author: Author,
        version: RoomVersion,
        snapshot: Snapshot | None,
        members: RoomMembers | None,
        room_id: str | None = None,
    ) -> None:
        self._author = author
        self._version = version
        self._snapshot = snapshot
        self._members = members
        self._changed: dict[StateKey, Entry] = {}
        self._stripped: dict[str, bytes] = {}
        self._levels: PowerLevels | None = None
        self._last: PrevRef | None = None
        self._depth = snapshot.depth if snapshot else 0
        self.room_id: str | None = snapshot.room_id if snapshot else room_id
        self.items: list[Item] = []
        self.built: list[Event] = []

    # ---- what holds at this point ----

    def entry(self, key: StateKey) -> Entry | None:
        """The state event at a key, staged ones included. Its key must have been loaded into the snapshot."""
        staged = self._changed.get(key)
        if staged is None and self._snapshot is not None:
            return self._snapshot.entries[key]
        return staged

    def levels(self) -> PowerLevels:
        """The power levels in force for the next event."""
        if self._levels is None:
            if self._snapshot is not None and CREATE not in self._changed and POWER_LEVELS not in self._changed:
                self._levels = self._snapshot.levels()
            else:
                create, levels = self.entry(CREATE), self.entry(POWER_LEVELS)
                self._levels = PowerLevels.of(
                    self._version, create.event if create else None, levels.event if levels else None
                )
        return self._levels

    def keys_of(self, draft: Draft) -> list[StateKey]:
        """The state that `add` will look at."""
        keys = auth_keys(self._version, draft.type, draft.sender, draft.state_key, draft.content)
        return [*keys, *STRIPPED_KEYS] if _shows_state(draft.type, draft.content) else keys

    # ---- building ----

    def add(self, draft: Draft, ts: int, found: Circumstances = NOTHING, scope: TxnScope | None = None) -> Event:
        """Builds the draft on top of what is staged. Raises `MatrixError`: what the rules refuse is M_FORBIDDEN, or
        M_BAD_JSON where nobody may send such content.
        """
        keys = auth_keys(self._version, draft.type, draft.sender, draft.state_key, draft.content)
        found_at = {key: entry for key in keys if (entry := self.entry(key)) is not None}
        entries = list(found_at.values())
        built = self._build(draft, ts, entries)
        event = built.event
        state = {key: entry.event for key, entry in found_at.items()}
        if CREATE not in state and (create := self.entry(CREATE)) is not None:
            state[CREATE] = create.event
        try:
            authorize(self._version, event, state, self.levels() if self.items or self._snapshot else None)
        except Rejected as refused:
            raise (bad_json if refused.rule in MALFORMED else forbidden)(refused.reason) from refused
        item = self._item(built, [entry.nid for entry in entries], found, scope)
        if self.room_id is None:
            self.room_id = event.room_id
        self._accept(item, event)
        return event

    def _build(self, draft: Draft, ts: int, entries: Sequence[Entry]) -> Built:
        version = self._version
        return build(
            version,
            draft,
            room_id=self.room_id,
            prev_events=self._prevs(),
            auth_events=[entry.ref for entry in entries],
            depth=self._depth + 1,
            ts=ts,
            signer=self._author.signer,
            event_id=f"${self._author.opaque_id()}:{self._author.signer.server_name}"
            if version.sends_event_id
            else None,
        )

    def _prevs(self) -> Sequence[PrevRef]:
        if self._last is not None:
            return (self._last,)
        if self._snapshot is None:
            return ()
        return [self._snapshot.refs[head.event] for head in self._snapshot.heads]

    def _item(self, built: Built, auth: Sequence[int], found: Circumstances, scope: TxnScope | None) -> Item:
        event = built.event
        flags = 0
        exceptions: tuple[tuple[int, int, int], ...] = ()
        if self._members is not None:
            unread = self._author.unread.at_append(self._members, event, self._may_notify(event.sender))
            flags, exceptions = unread.flags, unread.exceptions
        relating, thread = _link(found, event)
        return Item(
            new=events.prepared(
                self._author.envelopes,
                event,
                built.pdu_bytes,
                built.content_span,
                local=True,
                auth=auth,
                flags=flags,
                thread=thread,
            ),
            visible={} if event.key is None else {event.key: -1 - len(self.items)},
            relating=relating,
            redacting=_redacting(found),
            txn=None if scope is None else (scope.device, scope.key),
            exceptions=exceptions,
        )

    def _may_notify(self, sender: str) -> Callable[[str], bool]:
        levels = self.levels()
        return lambda kind: levels.user(sender) >= levels.notification(kind)

    def _accept(self, item: Item, event: Event) -> None:
        ref = event.ref()
        if event.key is not None:
            self._changed[event.key] = Entry(-1 - len(self.items), event, ref)
            if event.key in (CREATE, POWER_LEVELS):
                self._levels = None
            elif _shows_state(event.type, event.content):
                self._stripped[event.key[1]] = self._stripped_state(event)
        self.items.append(item)
        self.built.append(event)
        self._last = ref
        self._depth = event.depth

    # ---- writing ----

    def _stripped_state(self, event: Event) -> bytes:
        """ "invite_room_state: The state of the room at the time of the invite", and of the knock; who invites, too."""
        keys = list(STRIPPED_KEYS)
        if event.state_key != event.sender:
            keys.append(("m.room.member", event.sender))
        shown = [entry.event for key in keys if (entry := self.entry(key)) is not None]
        return orjson.dumps(
            [{"type": e.type, "state_key": e.state_key, "sender": e.sender, "content": e.content} for e in shown]
        )

    def plan(self, now_s: int) -> Append:
        """The write that stores what is staged."""
        snapshot = self._snapshot
        assert self.room_id is not None
        return Append(
            room=(self.room_id, self._version.id) if snapshot is None else snapshot.room,
            items=self.items,
            state=0 if snapshot is None else snapshot.state,
            next_row=1 if snapshot is None else snapshot.next_row,
            kept_heads=(),
            now_s=now_s,
            server_name=self._author.signer.server_name,
            stripped=self._stripped,
        )

    def settle(self, done: Appended) -> Snapshot:
        """The snapshot after the commit: the one the stage was built on, brought up to date, or a new one."""
        last = self.built[-1]
        assert self._last is not None
        refs = {done.heads[0].event: self._last}
        snapshot = self._snapshot
        if snapshot is None:
            assert self.room_id is not None
            snapshot = Snapshot(done.room, self.room_id, self._version, (), {}, 0, 0, 1)
        snapshot.heads, snapshot.refs, snapshot.depth = done.heads, refs, max(snapshot.depth, last.depth)
        snapshot.state, snapshot.next_row = done.state, done.next_row
        for key, entry in self._changed.items():
            snapshot.put(key, Entry(done.nids[-1 - entry.nid], entry.event, entry.ref))
        for item in self.items:
            if item.redacting is not None:
                forget(snapshot, item.redacting.nid)
        return snapshot


def forget(snapshot: Snapshot, nid: int) -> None:
    """A state event in memory is no longer what is stored (it was redacted): have it read again."""
    for key, entry in list(snapshot.entries.items()):
        if entry is not None and entry.nid == nid:
            del snapshot.entries[key]
            snapshot.parsed = None


def _link(found: Circumstances, event: Event) -> tuple[Relating | None, int | None]:
    if found.target is not None and event.type == REDACTION:
        stored = found.target.stored
        return Relating(relations.REDACTION, stored.nid, events.pack_id(stored.event_id)), None
    if found.link is None:
        return None, None
    return found.link.relating, found.link.thread


def _redacting(found: Circumstances) -> Redacting | None:
    return None if found.target is None else found.target.redacting()


def _shows_state(event_type: str, content: Mapping[str, Any]) -> bool:
    return event_type == "m.room.member" and content.get("membership") in ("invite", "knock")
