# SPDX-License-Identifier: Apache-2.0
"""How events are stored and found again: by number (`nid`), by id, and along the one order of their room (`ord`).

`StoredEvent` is what readers want: names resolved, content as bytes, ready for `homeserver.services.rooms.render`. To
read with conditions of your own, ``SELECT {COLUMNS} FROM event e WHERE ...`` and give the rows to `resolved`.
`load` gives `homeserver.protocol.events.Event` values for rules and federation, `pdus` the stored PDUs as bytes.

`ord` is ``nid << 20`` for what arrived live; backfilled events count down from the event above their gap, never with
the low 20 bits zero, so sync takes rows with ``ord & 1048575 = 0`` (all live ones). Rows without an `ord` (outliers,
rejected and soft-failed events) are in no timeline.
"""

import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import orjson

from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion, lookup
from storage import media_refs, names
from storage.envelope import joined, split
from storage.txn import Txn

NOTIFIES = 1
HIGHLIGHTS_ALL = 2
REJECTED = 4
SPINE = 8
"""Part of the auth chain and not a membership."""
SOFT_FAILED = 16
REDACTED = 32
OUTLIER = 64
HIDDEN = 128
"""A redaction that may not (or not yet) be applied: clients do not see it."""

ORD_SHIFT = 20
LIVE_MASK = (1 << ORD_SHIFT) - 1

SPINE_TYPES = frozenset(
    ("m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.third_party_invite", "m.room.aliases")
)

COLUMNS = "e.nid, e.ord, e.room, e.id, e.etype, e.skey, e.sender, e.ts, e.content, e.flags, e.thread, e.depth"


class StoredEvent(NamedTuple):
    """An event as clients are served it. `room` and `nid` are numbers; `thread` is the nid of the thread's root."""

    nid: int
    ord: int | None
    room: int
    event_id: str
    type: str
    state_key: str | None
    sender: str
    ts: int
    content: bytes
    flags: int
    thread: int | None
    depth: int

    @property
    def is_redacted(self) -> bool:
        return self.flags & REDACTED != 0


@attrs.frozen(slots=True)
class NewEvent:
    """An event ready to be stored. `auth` holds nids, or -1-i for the event number i of the same append.

    `thread` and `parent` are known before the write: relations stay in their room, whose lock the writer holds.
    """

    event: Event
    raw_id: bytes
    content: bytes
    envelope: bytes
    codec: int
    c0: int
    local: bool
    auth: tuple[int, ...] = ()
    flags: int = 0
    thread: int | None = None


# ---- ids ----


def pack_id(event_id: str) -> bytes:
    """The stored form: the 32 hash bytes of an id made of a hash, else the text's bytes."""
    if len(event_id) == 44 and event_id[0] == "$" and ":" not in event_id:
        text = event_id[1:].replace("-", "+").replace("_", "/")
        try:
            raw = binascii.a2b_base64(text + "=", strict_mode=True)
        except (ValueError, binascii.Error):
            return event_id.encode("utf-8", "surrogatepass")
        if binascii.b2a_base64(raw, newline=False)[:43] == text.encode():  # no second spelling of the same bytes
            return raw
    return event_id.encode("utf-8", "surrogatepass")


def unpack_id(raw: bytes, version: RoomVersion | None) -> str:
    """The id of a stored form, in the spelling of the room's version."""
    if version is None or version.event_id_format is EventIdFormat.SENT or len(raw) != 32:
        return raw.decode("utf-8", "surrogatepass")
    text = binascii.b2a_base64(raw, newline=False)[:43].decode()
    if version.event_id_format is EventIdFormat.URLSAFE_HASH:
        text = text.replace("+", "-").replace("/", "_")
    return "$" + text


def prepared(
    txn_envelopes: Any,
    event: Event,
    pdu: bytes,
    span: tuple[int, int],
    *,
    local: bool,
    auth: Sequence[int] = (),
    flags: int = 0,
    thread: int | None = None,
) -> NewEvent:
    """A `NewEvent` of a PDU's canonical bytes; `span` is where the content lies in them."""
    content, envelope, c0 = split(pdu, span)
    codec, packed = txn_envelopes.compress(envelope)
    if event.state_key is not None and event.type in SPINE_TYPES:
        flags |= SPINE
    return NewEvent(event, pack_id(event.event_id), content, packed, codec, c0, local, tuple(auth), flags, thread)


# ---- writing ----

_INSERT = """INSERT INTO event
 (nid, ord, ts, state, thread, room, sender, depth, skey, etype, flags, codec, c0, id, auth, content, envelope)
 VALUES {rows}"""


def insert(
    txn: Txn, room: int, new: NewEvent, nid: int, ord_: int | None, state: int | None, chain: Sequence[int] = ()
) -> None:
    """Stores one event under its number; `chain` gives the nids of the same append. Raises ValueError on bad auth."""
    event = new.event
    auth = [nid if nid >= 0 else chain[-1 - nid] for nid in new.auth]
    if any(one >= nid for one in auth):
        raise ValueError("auth events are stored before the event that cites them")
    txn.bulk(
        _INSERT,
        (
            nid,
            ord_,
            event.origin_server_ts,
            state,
            new.thread,
            room,
            names.intern_user(txn, event.sender, new.local),
            event.depth,
            None if event.state_key is None else names.intern_skey(txn, event.type, event.state_key),
            names.intern_etype(txn, event.type),
            new.flags,
            new.codec,
            new.c0,
            new.raw_id,
            struct.pack(f">{len(auth)}Q", *auth) if event.state_key is not None or new.flags & OUTLIER else None,
            new.content,
            new.envelope,
        ),
    )
    if media_refs.MARK in new.content:
        media_refs.note(txn, nid, new.content)


def remove(txn: Txn, nid: int) -> None:
    """Forgets an outlier that is stored anew, under a number above those of its auth events."""
    media_refs.drop(txn, nid)
    txn.put("DELETE FROM event WHERE nid = ? AND flags & ? <> 0", (nid, OUTLIER))


def promote(txn: Txn, nid: int, ord_: int | None, state: int | None, thread: int | None, flags: int) -> None:
    """Gives an outlier its place in the room; it keeps its number."""
    txn.put(
        "UPDATE event SET ord = ?, state = ?, thread = ?, flags = ? WHERE nid = ?", (ord_, state, thread, flags, nid)
    )


def replace_with_redacted(txn: Txn, nid: int, pdu: bytes, span: tuple[int, int]) -> None:
    """Overwrites an event with its redacted form; it no longer notifies."""
    content, envelope, c0 = split(pdu, span)
    media_refs.drop(txn, nid, content)
    codec, packed = txn.envelopes.compress(envelope)
    txn.put(
        "UPDATE event SET content = ?, envelope = ?, codec = ?, c0 = ?, flags = (flags & ~3) | 32 WHERE nid = ?",
        (content, packed, codec, c0, nid),
    )


def set_flags(txn: Txn, nid: int, *, add: int = 0, remove: int = 0) -> None:
    """Changes flags of an event."""
    txn.put("UPDATE event SET flags = (flags & ~?) | ? WHERE nid = ?", (remove, add, nid))


# ---- reading: as clients see events ----


def resolved(txn: Txn, rows: Sequence[tuple[Any, ...]]) -> list[StoredEvent]:
    """The events of rows of `COLUMNS`, names filled in; a few queries for names not in memory, whatever the number."""
    users = names.user_ids(txn, (row[6] for row in rows))
    keys = names.skeys(txn, (row[5] for row in rows if row[5] is not None))
    versions: dict[int, RoomVersion | None] = {}
    found = []
    for nid, ord_, room, raw, kind, skey, sender, ts, content, flags, thread, depth in rows:
        if room not in versions:
            versions[room] = lookup(names.room_version(txn, room))
        state_key = None if skey is None else keys[skey][1]
        event_id, event_type = unpack_id(raw, versions[room]), names.etype(txn, kind)
        found.append(
            StoredEvent(
                nid, ord_, room, event_id, event_type, state_key, users[sender], ts, content, flags, thread, depth
            )
        )
    return found


def by_id(txn: Txn, event_id: str, room: int | None = None) -> StoredEvent | None:
    """The event with an id, in a room or anywhere. Outliers and rejected ones too: look at `flags`."""
    rows = txn.all(f"SELECT {COLUMNS} FROM event e WHERE e.id = ?", (pack_id(event_id),))  # noqa: S608
    found = [event for event in resolved(txn, rows) if event.event_id == event_id]
    return found[0] if found and room in (None, found[0].room) else None


def by_ids(txn: Txn, event_ids: Iterable[str]) -> dict[str, StoredEvent]:
    """Id -> event; unknown ids are left out."""
    condition, params = txn.any("e.id", [pack_id(one) for one in event_ids])
    rows = txn.all(f"SELECT {COLUMNS} FROM event e WHERE {condition}", params)  # noqa: S608
    return {event.event_id: event for event in resolved(txn, rows)}


def by_nids(txn: Txn, nids: Iterable[int]) -> dict[int, StoredEvent]:
    """Nid -> event."""
    wanted = list(nids)
    if not wanted:
        return {}
    condition, params = txn.any("e.nid", wanted)
    rows = txn.all(f"SELECT {COLUMNS} FROM event e WHERE {condition}", params)  # noqa: S608
    return {event.nid: event for event in resolved(txn, rows)}


def nid_of(txn: Txn, event_id: str) -> int | None:
    """The number of an event's id."""
    row = txn.one("SELECT nid FROM event WHERE id = ?", (pack_id(event_id),))
    return None if row is None else int(row[0])


def newest(txn: Txn, room: int, *, above: int, up_to: int, limit: int) -> list[StoredEvent]:
    """The last `limit` events with above < ord <= up_to, oldest first: a sync's timeline."""
    rows = txn.all(
        f"SELECT {COLUMNS} FROM event e WHERE e.room = ? AND e.ord > ? AND e.ord <= ? ORDER BY e.ord DESC LIMIT ?",  # noqa: S608
        (room, above, up_to, limit),
    )
    rows.reverse()
    return resolved(txn, rows)


def after(txn: Txn, room: int, *, above: int, up_to: int, limit: int) -> list[StoredEvent]:
    """The first `limit` events with above < ord <= up_to, oldest first: paginating forward."""
    rows = txn.all(
        f"SELECT {COLUMNS} FROM event e WHERE e.room = ? AND e.ord > ? AND e.ord <= ? ORDER BY e.ord LIMIT ?",  # noqa: S608
        (room, above, up_to, limit),
    )
    return resolved(txn, rows)


def before(txn: Txn, room: int, *, below: int, limit: int, above: int = -(2**62)) -> list[StoredEvent]:
    """The last `limit` events with above < ord < below, newest first: paginating backward."""
    rows = txn.all(
        f"SELECT {COLUMNS} FROM event e WHERE e.room = ? AND e.ord < ? AND e.ord > ? ORDER BY e.ord DESC LIMIT ?",  # noqa: S608
        (room, below, above, limit),
    )
    return resolved(txn, rows)


# ---- reading: as the rules and other servers see events ----

_WHOLE = "SELECT e.nid, e.room, e.id, e.codec, e.c0, e.content, e.envelope FROM event e WHERE"


def pdus(txn: Txn, nids: Iterable[int]) -> dict[int, bytes]:
    """Nid -> the PDU's canonical JSON."""
    return {row[0]: _pdu(txn, row) for row in _whole(txn, "e.nid", list(nids))}


def load(txn: Txn, nids: Iterable[int]) -> dict[int, Event]:
    """Nid -> the event as the protocol's rules take it."""
    return {row[0]: _event(txn, row) for row in _whole(txn, "e.nid", list(nids))}


def load_by_ids(txn: Txn, event_ids: Iterable[str]) -> dict[str, tuple[int, Event]]:
    """Id -> (nid, event); unknown ids are left out."""
    found = {}
    for row in _whole(txn, "e.id", [pack_id(one) for one in event_ids]):
        event = _event(txn, row)
        found[event.event_id] = (int(row[0]), event)
    return found


def _whole(txn: Txn, column: str, values: list[Any]) -> list[tuple[Any, ...]]:
    if not values:
        return []
    condition, params = txn.any(column, values)
    return txn.all(f"{_WHOLE} {condition}", params)


def _pdu(txn: Txn, row: tuple[Any, ...]) -> bytes:
    _, _, _, codec, c0, content, envelope = row
    return joined(content, txn.envelopes.expand(codec, envelope), c0)


def _event(txn: Txn, row: tuple[Any, ...]) -> Event:
    version = lookup(names.room_version(txn, row[1]))
    if version is None:
        raise LookupError(f"room {row[1]} has a version that this server does not know")
    return Event(version, orjson.loads(_pdu(txn, row)), unpack_id(row[2], version))


@attrs.frozen(slots=True)
class Place:
    """Where an event stands: room number, order, the state before it, flags, state key number, auth nids."""

    room: int
    ord: int | None
    state: int | None
    flags: int
    skey: int | None
    depth: int
    auth: tuple[int, ...]


def is_noted(place: Place, event: Event) -> bool:
    """Whether an event came by itself (an invite to a room of elsewhere) and is stored without its auth events."""
    return place.flags & OUTLIER != 0 and not place.auth and bool(event.auth_event_ids)


def places(txn: Txn, nids: Iterable[int]) -> dict[int, Place]:
    """Nid -> where the event stands."""
    wanted = list(nids)
    if not wanted:
        return {}
    condition, params = txn.any("nid", wanted)
    columns = "nid, room, ord, state, flags, skey, depth, auth"
    rows = txn.all(f"SELECT {columns} FROM event WHERE {condition}", params)  # noqa: S608
    return {row[0]: Place(row[1], row[2], row[3], row[4], row[5], row[6], unpack_nids(row[7])) for row in rows}


def unpack_nids(packed: bytes | None) -> tuple[int, ...]:
    """Numbers packed as u64."""
    return () if not packed else struct.unpack(f">{len(packed) // 8}Q", packed)


def auth_of(txn: Txn, nids: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
    """Nid -> nids of its auth events."""
    return {nid: place.auth for nid, place in places(txn, nids).items()}
