# SPDX-License-Identifier: Apache-2.0
"""Knows who may read what of a room: who may look inside at all, which state and which events they are shown."""

from collections.abc import Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, Rejected, forbidden, not_found
from homeserver.protocol.events import Event
from homeserver.protocol.ids import is_room_id
from homeserver.protocol.ignoring import IGNORED_USERS, ignored_users
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import lookup
from homeserver.protocol.visibility import can_see, visibility_in
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import account_data, accounts, events, membership, names, state, timeline
from storage.events import HIDDEN, ORD_SHIFT, OUTLIER, REJECTED, SOFT_FAILED, StoredEvent
from storage.membership import BAN, JOIN, LEAVE
from storage.timeline import Circumstance
from storage.txn import Txn

CREATE, POWER_LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")
NOT_SHOWN = REJECTED | SOFT_FAILED | OUTLIER | HIDDEN


@attrs.frozen(slots=True)
class Reader:
    """Somebody who may read a room.

    `kind` is their membership (None: never had one), `left_by` the number of the event that ended their last stay
    (None while they are joined, and for those who never were), `member_event` their current membership event.
    """

    room: int
    room_id: str
    usr: int
    user_id: str
    kind: int | None
    member_event: int | None
    left_by: int | None
    world_readable: bool
    ignored: frozenset[str] = frozenset()
    # Whether everybody could read the room at some time after they left.
    open_later: bool = False

    @property
    def last_ord(self) -> int:
        """Beyond this place in the room's order there is nothing for them."""
        if self.frozen_at is None or self.open_later or self.member_event is None or self.kind not in (LEAVE, BAN):
            return timeline.HIGHEST
        return self.member_event << ORD_SHIFT

    @property
    def joined(self) -> bool:
        return self.kind == JOIN

    @property
    def frozen_at(self) -> int | None:
        """The event at which the room's state stands still for them; None: they see the current state."""
        return None if self.joined or self.world_readable else self.left_by


class RoomAccess:
    """The one place that decides about reading; pages of every kind ask here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def reader(self, user: User, room_id: str) -> Reader:
        """The caller as a reader of the room; M_FORBIDDEN for those who may not look inside, and unknown rooms."""
        found = await self._db.point(reader_of, user.usr, user.user_id, room_id) if is_room_id(room_id) else None
        if found is None:
            raise not_in_room()
        return found

    async def is_joined(self, usr: int, room_id: str) -> bool:
        return await self._db.point(_is_joined, usr, room_id)

    async def is_world_readable(self, room_id: str) -> bool:
        return await self._db.point(_is_world_readable, room_id)

    async def power_levels(self, room_id: str) -> PowerLevels | None:
        """The levels in force; None for an unknown room."""
        return await self._db.point(_power_levels, room_id)

    async def visible(self, reader: Reader, found: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Those of `found` that the reader may see, in the same order."""
        return await self._db.read(visible_of, reader, found) if found else []

    async def event(self, reader: Reader, event_id: str) -> StoredEvent:
        """One event of the room; M_NOT_FOUND when there is none that the reader may see."""
        found = await self._db.point(_visible_event, reader, event_id)
        if found is None:
            raise not_found("Event not found")
        return found

    async def state(self, reader: Reader) -> list[StoredEvent]:
        """The state that the reader is shown: the current one, or that of when they left."""
        return await self._db.read(state_of, reader)

    async def state_event(self, reader: Reader, key: tuple[str, str]) -> StoredEvent | None:
        """One event of the state that the reader is shown."""
        return await self._db.point(_state_event, reader, key)


def not_in_room() -> MatrixError:
    return forbidden("You are not in this room, and it cannot be read from outside")


# ---- in one read transaction ----


def reader_of(txn: Txn, usr: int, user_id: str, room_id: str) -> Reader | None:
    """The user as a reader of the room; None when they may not look inside.

    "A user needs to join a room to view events in that room", unless it is world readable; "after a user has left a
    room, they may see any events which they were allowed to see before they left".
    """
    room = names.room_nid(txn, room_id)
    if room is None:
        return None
    own = membership.of(txn, usr, room)
    kind, member_event = (None, None) if own is None else (own.kind, own.event)
    raw = account_data.get(txn, usr, 0, IGNORED_USERS)
    ignored = ignored_users(orjson.loads(raw)) if raw is not None else frozenset()
    if kind == JOIN:
        return Reader(room, room_id, usr, user_id, kind, member_event, None, False, ignored - {user_id})
    left_by = None
    if own is not None and not own.forgotten:
        left_by = timeline.joined_until(txn, room, user_id, own.event)
    open_now = _is_world_readable(txn, room_id)
    if left_by is None and not open_now:
        return None
    open_later = left_by is not None and not open_now and timeline.was_open_after(txn, room, left_by)
    return Reader(room, room_id, usr, user_id, kind, member_event, left_by, open_now, ignored - {user_id}, open_later)


def visible_of(txn: Txn, reader: Reader, found: Sequence[StoredEvent]) -> list[StoredEvent]:
    shown = [event for event in found if not event.flags & NOT_SHOWN and event.ord is not None]
    held = timeline.circumstances(txn, reader.room, reader.user_id, [event.nid for event in shown])
    seen = [event for event in shown if sees(reader, event, held.get(event.nid))]
    senders = names.user_nids(txn, {event.sender for event in seen})
    gone = accounts.erased(txn, list(senders.values())) if senders else frozenset()
    if not gone:
        return seen
    return [
        _blank(txn, event) if senders[event.sender] in gone and held[event.nid].membership != "join" else event
        for event in seen
    ]


def _blank(txn: Txn, event: StoredEvent) -> StoredEvent:
    """An event as its erased sender wished: "any users which join the room after the erasure request are served
    redacted copies of the events"; who was in the room at the time is not among them.
    """
    version = lookup(names.room_version(txn, event.room))
    if version is None:
        return event
    kept = redact(version, {"type": event.type, "content": orjson.loads(event.content)})["content"]
    return event._replace(content=orjson.dumps(kept))


def sees(reader: Reader, event: StoredEvent, held: Circumstance | None) -> bool:
    """Whether the reader may see the event, by what held when it was sent; not when they ignore its sender."""
    if held is None or (event.state_key is None and event.sender in reader.ignored):
        return False
    # "the user joined the room at any point after the event was sent"
    joined_later = reader.joined or (reader.left_by is not None and event.nid < reader.left_by)
    return can_see(
        visibility_in(held.visibility),
        held.membership or "leave",
        joined_later,
        visibility_after=visibility_in(held.visibility_after),
        membership_after=held.membership_after,
    )


def state_of(txn: Txn, reader: Reader) -> list[StoredEvent]:
    if reader.frozen_at is None:
        return state.current_events(txn, reader.room)
    nids = timeline.state_at(txn, reader.room, reader.frozen_at).values()
    return list(events.by_nids(txn, nids).values())


def _state_event(txn: Txn, reader: Reader, key: tuple[str, str]) -> StoredEvent | None:
    if reader.frozen_at is None:
        return next(iter(state.current_events(txn, reader.room, [key])), None)
    nid = timeline.event_state(txn, reader.room, reader.frozen_at, key)
    return None if nid is None else events.by_nids(txn, [nid]).get(nid)


def _visible_event(txn: Txn, reader: Reader, event_id: str) -> StoredEvent | None:
    found = events.by_id(txn, event_id, reader.room)
    return next(iter(visible_of(txn, reader, [found])), None) if found is not None else None


def current_content(txn: Txn, room: int, key: tuple[str, str]) -> dict[str, Any] | None:
    """The content of the current state at a key."""
    found = state.current_events(txn, room, [key])
    return dict(orjson.loads(found[0].content)) if found else None


def _is_joined(txn: Txn, usr: int, room_id: str) -> bool:
    room = names.room_nid(txn, room_id)
    own = None if room is None else membership.of(txn, usr, room)
    return own is not None and own.kind == JOIN


def _is_world_readable(txn: Txn, room_id: str) -> bool:
    room = names.room_nid(txn, room_id)
    content = None if room is None else current_content(txn, room, (timeline.HISTORY_VISIBILITY, ""))
    return content is not None and content.get("history_visibility") == "world_readable"


def _power_levels(txn: Txn, room_id: str) -> PowerLevels | None:
    room = names.room_nid(txn, room_id)
    if room is None:
        return None
    nids = state.current(txn, room, (CREATE, POWER_LEVELS))
    loaded = events.load(txn, nids.values())
    create: Event | None = loaded.get(nids.get(CREATE, 0))
    if create is None:
        return None
    return PowerLevels.of(create.version, create, loaded.get(nids.get(POWER_LEVELS, 0)))


def level_allows(levels: PowerLevels, user_id: str, event_type: str, is_state: bool) -> bool:
    """Whether a user may send an event; no when the levels are malformed."""
    try:
        return levels.may_send(user_id, event_type, is_state)
    except Rejected:
        return False


def refused(rejection: Rejected) -> MatrixError:
    """What a client is told when the rules of a room refuse its event."""
    return forbidden(rejection.reason)
