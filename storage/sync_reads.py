# SPDX-License-Identifier: Apache-2.0
"""What a sync reads of many rooms at once: one query for all on PostgreSQL, often a prepared one per room on SQLite."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import orjson

from homeserver.protocol.room_versions import EventIdFormat, lookup
from storage import names
from storage.events import COLUMNS, HIDDEN, ORD_SHIFT, StoredEvent, unpack_id
from storage.membership import JOIN
from storage.txn import Txn

MEMBER = "m.room.member"
LOWEST = -(2**62)
PAIRS_AT_ONCE = 1_000

_EVENT = f"{COLUMNS}, e.state, e.skey, e.sender"


class EventRow(NamedTuple):
    """One event as sync reads it, with numbers beside names: the tree address before it, its state key, its sender.

    `ord` is its place in the room's order, below everything for what stands in no timeline.
    """

    nid: int
    ord: int
    event: StoredEvent
    state: int | None
    skey: int | None
    sender: int


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _rows(txn: Txn, rows: Sequence[tuple[Any, ...]]) -> list[EventRow]:
    """Rows of `_EVENT` with names. Does what `storage.events.resolved` does, but for thousands of rows at a time."""
    users = names.user_ids(txn, {row[6] for row in rows})
    keys = names.skeys(txn, {row[5] for row in rows if row[5] is not None})
    types = {number: names.etype(txn, number) for number in {row[4] for row in rows}}
    versions = {number: lookup(names.room_version(txn, number)) for number in {row[2] for row in rows}}
    hashed = {number for number, one in versions.items() if one and one.event_id_format is EventIdFormat.URLSAFE_HASH}
    new, encode = tuple.__new__, b2a_base64
    found = []
    for nid, ord_, room, raw, kind, skey, sender, ts, content, flags, thread, depth, state, _, _ in rows:
        if room in hashed and len(raw) == 32:
            event_id = "$" + encode(raw, newline=False)[:43].translate(_URL_SAFE).decode()
        else:
            event_id = unpack_id(raw, versions[room])
        key = None if skey is None else keys[skey][1]
        fields = (nid, ord_, room, event_id, types[kind], key, users[sender], ts, content, flags, thread, depth)
        event = new(StoredEvent, fields)
        found.append(new(EventRow, (nid, LOWEST if ord_ is None else ord_, event, state, skey, sender)))
    return found


@attrs.frozen(slots=True)
class Window:
    """The part of a room's order above `low` up to and including `high`."""

    room: int
    low: int
    high: int


class Membership(NamedTuple):
    """How a user stands to a room, since which position, by which event, and whether the user has forgotten it."""

    room: int
    kind: int
    event: int
    since: int
    forgotten: int


class Logged(NamedTuple):
    """At `pos` the resolved state of a room got `event` at `skey`; None: lost what it had there."""

    pos: int
    skey: int
    event: int | None


def joined_rooms(txn: Txn, usr: int) -> frozenset[int]:
    """The rooms the user is joined to."""
    return frozenset([row[0] for row in txn.all("SELECT room FROM membership WHERE usr = ? AND kind = 1", (usr,))])


def joined_standings(txn: Txn, usr: int) -> dict[int, Membership]:
    """How the user stands to the rooms that the user is joined to, by room."""
    sql = "SELECT room, kind, event, since, forgotten FROM membership WHERE usr = ? AND kind = 1"
    return {row[0]: Membership(*row) for row in txn.all(sql, (usr,))}


def memberships(txn: Txn, usr: int, after: int = 0) -> list[Membership]:
    """How the user stands to every room where that changed after `after`."""
    rows = txn.all(
        "SELECT room, kind, event, since, forgotten FROM membership WHERE usr = ? AND since > ?", (usr, after)
    )
    return [Membership(*row) for row in rows]


def membership_of(txn: Txn, usr: int, rooms: Sequence[int]) -> dict[int, Membership]:
    """How the user stands to these rooms."""
    condition, params = txn.any("room", rooms)
    rows = txn.all(
        f"SELECT room, kind, event, since, forgotten FROM membership WHERE usr = ? AND {condition}", (usr, *params)
    )
    return {row[0]: Membership(*row) for row in rows}


def changed_rooms(txn: Txn, usr: int, since: int) -> frozenset[int]:
    """The rooms the user is joined to where an event or a receipt arrived after `since`."""
    events = txn.all(
        "SELECT m.room FROM membership m JOIN room r ON r.nid = m.room WHERE m.usr = ? AND m.kind = 1 AND r.last > ?",
        (usr, since),
    )
    receipts = txn.all(
        "SELECT DISTINCT r.room FROM membership m JOIN receipt r ON r.room = m.room"
        " WHERE m.usr = ? AND m.kind = 1 AND r.pos > ?",
        (usr, since),
    )
    return frozenset([row[0] for row in events] + [row[0] for row in receipts])


def rooms_read_by(txn: Txn, usr: int, since: int) -> set[int]:
    """The rooms the user is joined to and has read in since then."""
    rows = txn.all(
        "SELECT DISTINCT r.room FROM membership m JOIN receipt r ON r.room = m.room AND r.usr = m.usr"
        " WHERE m.usr = ? AND m.kind = 1 AND r.pos > ?",
        (usr, since),
    )
    return {row[0] for row in rows}


def read_in(txn: Txn, usr: int, rooms: Sequence[int], since: int) -> set[int]:
    """Those of the rooms in which the user has read since then."""
    if not rooms:
        return set()
    which, values = txn.any("room", rooms)
    rows = txn.all(f"SELECT DISTINCT room FROM receipt WHERE {which} AND usr = ? AND pos > ?", (*values, usr, since))
    return {row[0] for row in rows}


def timelines(
    txn: Txn, windows: Sequence[Window], limit: int, types: Sequence[int] | None = None
) -> dict[int, list[EventRow]]:
    """The newest `limit` events of each window, newest first; only of some types when given."""
    condition, params = ("", [])  # type: tuple[str, list[object]]
    if types is not None:
        condition, params = txn.any("e.etype", types)
        condition = f" AND {condition}"
    found: dict[int, list[EventRow]] = {window.room: [] for window in windows}
    if txn.dialect == "sqlite":
        sql = (
            f"SELECT {_EVENT} FROM event e WHERE e.room = ? AND e.ord > ? AND e.ord <= ?"
            f" AND e.flags & {HIDDEN} = 0{condition} ORDER BY e.ord DESC LIMIT ?"
        )
        for window in windows:
            rows = txn.all(sql, (window.room, window.low, window.high, *params, limit))
            found[window.room] = _rows(txn, rows)
        return found
    sql = (
        "SELECT x.* FROM unnest(?::int[], ?::bigint[], ?::bigint[]) AS w(room, low, high) CROSS JOIN LATERAL"
        f" (SELECT {_EVENT} FROM event e WHERE e.room = w.room AND e.ord > w.low AND e.ord <= w.high"
        f" AND e.flags & {HIDDEN} = 0{condition} ORDER BY e.ord DESC LIMIT ?) x"
    )
    bounds = [[w.room for w in windows], [w.low for w in windows], [w.high for w in windows]]
    for row in _rows(txn, txn.all(sql, (*bounds, *params, limit))):
        found[row.event.room].append(row)
    return found


def current_state(txn: Txn, rooms: Sequence[int], with_members: bool) -> dict[int, list[EventRow]]:
    """The current state of rooms, with or without all their members."""
    found: dict[int, list[EventRow]] = {room: [] for room in rooms}
    condition, params = txn.any("n.room", rooms)
    sql = f"SELECT {_EVENT} FROM state_now n JOIN event e ON e.nid = n.event"
    if with_members:
        sql += f" WHERE {condition}"
    else:
        member = names.etype_nid(txn, MEMBER) or 0
        sql += f" JOIN skey k ON k.nid = n.skey WHERE {condition} AND k.etype <> ?"
        params = [*params, member]
    for row in _rows(txn, txn.all(sql, params)):
        found[row.event.room].append(row)
    return found


def current_at(txn: Txn, room: int, skeys: Sequence[int]) -> dict[int, int]:
    """The current events of a room at some state keys: key to event."""
    condition, params = txn.any("skey", skeys)
    return {
        row[0]: row[1]
        for row in txn.all(f"SELECT skey, event FROM state_now WHERE room = ? AND {condition}", (room, *params))
    }


def current_pairs(txn: Txn, pairs: Sequence[tuple[int, int]]) -> list[EventRow]:
    """The current state events at (room, state key) pairs; those without one are left out."""
    found: list[EventRow] = []
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        part = pairs[start : start + PAIRS_AT_ONCE]
        values = ", ".join(["(?, ?)"] * len(part))
        sql = (
            f"WITH w (room, skey) AS (VALUES {values}) SELECT {_EVENT} FROM w"
            " CROSS JOIN state_now n JOIN event e ON e.nid = n.event WHERE n.room = w.room AND n.skey = w.skey"
        )
        found += _rows(txn, txn.all(sql, [number for pair in part for number in pair]))
    return found


def state_changes(txn: Txn, windows: Sequence[tuple[int, int]], upto: int) -> dict[int, list[Logged]]:
    """What changed in the resolved state of each (room, after) up to `upto`, in order."""
    found: dict[int, list[Logged]] = {room: [] for room, _ in windows}
    if txn.dialect == "sqlite":
        sql = "SELECT pos, skey, event FROM state_log WHERE room = ? AND pos > ? AND pos <= ? ORDER BY pos"
        for room, after in windows:
            found[room] = [Logged._make(row) for row in txn.all(sql, (room, after, upto))]
        return found
    sql = (
        "SELECT l.room, l.pos, l.skey, l.event FROM unnest(?::int[], ?::bigint[]) AS w(room, low)"
        " JOIN state_log l ON l.room = w.room AND l.pos > w.low AND l.pos <= ? ORDER BY l.pos"
    )
    for row in txn.all(sql, ([room for room, _ in windows], [after for _, after in windows], upto)):
        found[row[0]].append(Logged(row[1], row[2], row[3]))
    return found


def last_change(txn: Txn, room: int, skey: int, upto: int) -> int | None:
    """The event that a state key of a room had at a position. Walks back through the room's log: for rare questions."""
    row = txn.one(
        "SELECT event FROM state_log WHERE room = ? AND skey = ? AND pos <= ? ORDER BY pos DESC LIMIT 1",
        (room, skey, upto),
    )
    return None if row is None else row[0]


def events(txn: Txn, nids: Iterable[int]) -> dict[int, EventRow]:
    """Events by number."""
    wanted = list(set(nids))
    if not wanted:
        return {}
    condition, params = txn.any("e.nid", wanted)
    rows = _rows(txn, txn.all(f"SELECT {_EVENT} FROM event e WHERE {condition}", params))
    return {row.nid: row for row in rows}


def parents_among(txn: Txn, nids: Sequence[int]) -> set[int]:
    """Those of the events that others relate to."""
    if not nids:
        return set()
    condition, params = txn.any("parent", nids)
    return {row[0] for row in txn.all(f"SELECT DISTINCT parent FROM relation WHERE {condition}", params)}


def gaps(txn: Txn, rooms: Sequence[int]) -> dict[int, list[int]]:
    """Where, in the order of each room, an event stands just after a hole in the history."""
    found: dict[int, list[int]] = {}
    condition, params = txn.any("g.room", rooms)
    sql = f"SELECT g.room, e.ord FROM gap g JOIN event e ON e.nid = g.event WHERE {condition} AND e.ord IS NOT NULL"
    for room, ord_ in txn.all(sql, params):
        found.setdefault(room, []).append(ord_)
    return found


def event_ids(txn: Txn, nids: Iterable[int]) -> dict[int, str]:
    """The ids of events by number."""
    wanted = list(set(nids))
    if not wanted:
        return {}
    condition, params = txn.any("nid", wanted)
    return {
        nid: unpack_id(raw, lookup(names.room_version(txn, room)))
        for nid, room, raw in txn.all(f"SELECT nid, room, id FROM event WHERE {condition}", params)
    }


def member_counts(txn: Txn, rooms: Sequence[int]) -> dict[int, tuple[int, int]]:
    """How many are joined to, and invited to, each room."""
    found = dict.fromkeys(rooms, (0, 0))
    condition, params = txn.any("room", rooms)
    sql = f"SELECT room, kind, count(*) FROM membership WHERE {condition} AND kind IN (1, 2) GROUP BY room, kind"
    for room, kind, number in txn.all(sql, params):
        joined, invited = found[room]
        found[room] = (number, invited) if kind == JOIN else (joined, number)
    return found


_HERO_SQL = (
    "SELECT usr FROM membership WHERE room = {room} AND kind IN (1, 2) AND usr <> ? ORDER BY since, usr LIMIT 5",
    "SELECT usr FROM membership WHERE room = {room} AND kind IN (0, 4) AND usr <> ? ORDER BY since, usr LIMIT 5",
)


def heroes(txn: Txn, rooms: Sequence[int], usr: int) -> dict[int, list[int]]:
    """The first five joined or invited members of each room besides the user; where there is none, those who left."""
    if txn.dialect == "sqlite":
        found = {}
        for room in rooms:
            rows = txn.all(_HERO_SQL[0].format(room="?"), (room, usr)) or txn.all(
                _HERO_SQL[1].format(room="?"), (room, usr)
            )
            found[room] = [row[0] for row in rows]
        return found
    found = _heroes_together(txn, rooms, usr, _HERO_SQL[0])
    empty = [room for room in rooms if not found[room]]
    if empty:
        found.update(_heroes_together(txn, empty, usr, _HERO_SQL[1]))
    return found


def _heroes_together(txn: Txn, rooms: Sequence[int], usr: int, sql: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {room: [] for room in rooms}
    lateral = sql.format(room="w.room")
    for room, member in txn.all(
        f"SELECT w.room, x.usr FROM unnest(?::int[]) AS w(room) CROSS JOIN LATERAL ({lateral}) x", (list(rooms), usr)
    ):
        found[room].append(member)
    return found


def stripped_states(txn: Txn, usr: int, rooms: Sequence[int]) -> Mapping[int, bytes]:
    """What an invited or knocking user may see of rooms: a JSON list of stripped state events each."""
    condition, params = txn.any("room", rooms)
    rows = txn.all(f"SELECT room, events FROM stripped_state WHERE usr = ? AND {condition}", (usr, *params))
    return {row[0]: bytes(row[1]) for row in rows}


def senders_of(txn: Txn, nids: Sequence[int]) -> dict[int, str]:
    """Who sent each of the events."""
    if not nids:
        return {}
    condition, params = txn.any("nid", nids)
    rows = txn.all(f"SELECT nid, sender FROM event WHERE {condition}", params)
    ids = names.user_ids(txn, {row[1] for row in rows})
    return {nid: ids[sender] for nid, sender in rows}


def space_children(txn: Txn, spaces: Sequence[int]) -> set[str]:
    """The ids of rooms that any of the spaces names as a child, by a way to it."""
    kind = names.etype_nid(txn, "m.space.child")
    if not spaces or kind is None:
        return set()
    condition, params = txn.any("n.room", spaces)
    rows = txn.all(
        "SELECT k.key, e.content FROM state_now n JOIN skey k ON k.nid = n.skey JOIN event e ON e.nid = n.event"
        f" WHERE {condition} AND k.etype = ?",
        (*params, kind),
    )
    return {
        bytes(key).decode("utf-8", "surrogatepass")
        for key, content in rows
        if isinstance(orjson.loads(content).get("via"), list)
    }


BUMPING = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
)
BUMP_REACH = 100


def last_bumps(txn: Txn, rooms: Sequence[int], upto: int) -> dict[int, int]:
    """The position of the last event of each room that is activity of people, as far as it is among the newest."""
    numbers = {number for name in BUMPING if (number := names.etype_nid(txn, name)) is not None}
    sql = "SELECT nid, etype FROM event WHERE room = ? AND ord <= ? ORDER BY ord DESC LIMIT ?"
    if txn.dialect == "sqlite":
        recent = {room: txn.all(sql, (room, upto << ORD_SHIFT, BUMP_REACH)) for room in rooms}
    else:
        recent = {room: [] for room in rooms}
        lateral = sql.replace("room = ?", "room = w.room")
        together = f"SELECT w.room, x.nid, x.etype FROM unnest(?::int[]) AS w(room) CROSS JOIN LATERAL ({lateral}) x"
        for room, nid, etype in txn.all(together, (list(rooms), upto << ORD_SHIFT, BUMP_REACH)):
            recent[room].append((nid, etype))
    return {
        room: next((nid for nid, etype in rows if etype in numbers), rows[-1][0])
        for room, rows in recent.items()
        if rows
    }
