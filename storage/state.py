# SPDX-License-Identifier: Apache-2.0
"""What the state of a room is now (`state_now`), when parts of it became visible (`state_log`), and what it was at an
event (the tree).

Keys here are (type, state key) pairs of text, values event nids; turn nids into events with `storage.events.by_nids`
(for clients) or `storage.events.load` (for rules).
"""

from collections.abc import Iterable, Mapping, Sequence

from storage import events, names
from storage.events import COLUMNS, StoredEvent
from storage.state_tree import StateTree
from storage.txn import Txn

StateKey = tuple[str, str]


# ---- now ----


def current(txn: Txn, room: int, keys: Iterable[StateKey]) -> dict[StateKey, int]:
    """Key -> nid of the current state event, for some keys; absent keys are left out."""
    wanted = {nid: key for key in keys if (nid := names.skey_nid(txn, *key)) is not None}
    if not wanted:
        return {}
    condition, params = txn.any("skey", list(wanted))
    rows = txn.all(f"SELECT skey, event FROM state_now WHERE room = ? AND {condition}", [room, *params])  # noqa: S608
    return {wanted[skey]: event for skey, event in rows}


def current_events(txn: Txn, room: int, keys: Iterable[StateKey] | None = None) -> list[StoredEvent]:
    """The current state as clients see it: some keys, or all of it."""
    if keys is not None:
        return list(events.by_nids(txn, current(txn, room, keys).values()).values())
    rows = txn.all(
        f"SELECT {COLUMNS} FROM state_now s JOIN event e ON e.nid = s.event WHERE s.room = ?",  # noqa: S608
        (room,),
    )
    return events.resolved(txn, rows)


def current_of_type(txn: Txn, room: int, event_type: str) -> list[StoredEvent]:
    """The current state events of one type, whatever their keys."""
    kind = names.etype_nid(txn, event_type)
    if kind is None:
        return []
    rows = txn.all(
        f"SELECT {COLUMNS} FROM state_now s JOIN event e ON e.nid = s.event WHERE s.room = ? AND e.etype = ?",  # noqa: S608
        (room, kind),
    )
    return events.resolved(txn, rows)


def current_all(txn: Txn, room: int) -> dict[StateKey, int]:
    """The whole current state, key -> nid."""
    rows = txn.all("SELECT skey, event FROM state_now WHERE room = ?", (room,))
    keys = names.skeys(txn, (row[0] for row in rows))
    return {keys[skey]: event for skey, event in rows}


# ---- what became visible when ----


def changes(txn: Txn, room: int, after: int, up_to: int) -> dict[StateKey, int | None]:
    """The keys that changed at after < position <= up_to, with their last event in that range; None: removed."""
    rows = txn.all(
        "SELECT skey, event FROM state_log WHERE room = ? AND pos > ? AND pos <= ? ORDER BY pos", (room, after, up_to)
    )
    last: dict[int, int | None] = {skey: event for skey, event in rows}
    keys = names.skeys(txn, last)
    return {keys[skey]: event for skey, event in last.items()}


# ---- at an event ----


def root_before(txn: Txn, event: int) -> int | None:
    """The address of the state before an event; None when it is not known (outliers)."""
    row = txn.one("SELECT state FROM event WHERE nid = ?", (event,))
    return None if row is None else row[0]


def root_after(txn: Txn, event: int) -> dict[int, int] | None:
    """The whole state after an event as numbers (skey -> nid); None when it is not known."""
    place = events.places(txn, [event]).get(event)
    if place is None or place.state is None:
        return None
    entries = dict(StateTree(txn, place.room).items(place.state))
    if place.skey is not None and not place.flags & (events.REJECTED | events.OUTLIER):
        entries[place.skey] = event
    return entries


def at(txn: Txn, room: int, root: int, keys: Sequence[StateKey] | None = None) -> dict[StateKey, int]:
    """The state at a tree address: some keys, or all of it."""
    tree = StateTree(txn, room)
    if keys is None:
        entries = tree.items(root)
        named = names.skeys(txn, entries)
        return {named[skey]: event for skey, event in entries.items()}
    wanted = {nid: key for key in keys if (nid := names.skey_nid(txn, *key)) is not None}
    return {wanted[skey]: event for skey, event in tree.get_many(root, wanted).items()}


def difference(txn: Txn, room: int, one: int, other: int) -> dict[StateKey, tuple[int | None, int | None]]:
    """Where two states differ: key -> (event in the one, event in the other)."""
    found = StateTree(txn, room).diff(one, other)
    keys = names.skeys(txn, found)
    return {keys[skey]: pair for skey, pair in found.items()}


# ---- writing; `storage.append` alone calls these ----


def log(txn: Txn, room: int, position: int, changed: Mapping[int, int | None]) -> None:
    """Notes what became visible at a position."""
    txn.many(
        "INSERT INTO state_log (room, pos, skey, event) VALUES (?, ?, ?, ?)",
        [(room, position, skey, event) for skey, event in changed.items()],
    )


def set_current(txn: Txn, room: int, changed: Mapping[int, int | None]) -> None:
    """Brings `state_now` up to date."""
    gone = [(room, skey) for skey, event in changed.items() if event is None]
    txn.many(
        "INSERT INTO state_now (room, skey, event) VALUES (?, ?, ?) "
        "ON CONFLICT (room, skey) DO UPDATE SET event = excluded.event",
        [(room, skey, event) for skey, event in changed.items() if event is not None],
    )
    if gone:
        txn.many("DELETE FROM state_now WHERE room = ? AND skey = ?", gone)


def add_rows(txn: Txn, room: int, rows: Iterable[tuple[int, bytes]]) -> None:
    """Stores new rows of the room's tree."""
    txn.many("INSERT INTO state_node (room, row, nodes) VALUES (?, ?, ?)", [(room, row, nodes) for row, nodes in rows])
