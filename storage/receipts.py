# SPDX-License-Identifier: Apache-2.0
"""How far everybody has read, per room, thread and kind.

Announces `Change(pos, "receipt", room, user)` for public receipts and `"private_receipt"` for private ones. Receipts
name events by their `ord`, so that the greater one is ahead.
"""

from collections.abc import Iterable, Sequence

import attrs

from storage.txn import Change, Txn

UNTHREADED = -1
MAIN = 0

PUBLIC, PRIVATE = 1, 2
KINDS = {"m.read": PUBLIC, "m.read.private": PRIVATE}
NAMES = {PUBLIC: "m.read", PRIVATE: "m.read.private"}


@attrs.frozen(slots=True)
class Mark:
    """A receipt about to be kept. `thread` is UNTHREADED, MAIN or the number of the thread's root event."""

    usr: int
    room: int
    thread: int
    kind: int
    ord: int
    ts: int


@attrs.frozen(slots=True)
class Receipt:
    """A receipt as it is shown. `event` and `thread_root` are event numbers; turn them into ids for clients.

    `thread` is UNTHREADED (show no `thread_id`), MAIN (show "main") or the number of the root event.
    """

    room: int
    usr: int
    user_id: str
    thread: int
    kind: int
    event: int
    ord: int
    ts: int
    pos: int

    @property
    def type(self) -> str:
        return NAMES[self.kind]


def advance(txn: Txn, mark: Mark) -> bool:
    """Keep a receipt if it is ahead of the one there is; False (nothing changed) when it is not."""
    row = txn.one(
        "SELECT ord FROM receipt WHERE room = ? AND usr = ? AND thread = ? AND kind = ?",
        (mark.room, mark.usr, mark.thread, mark.kind),
    )
    if row is not None and row[0] >= mark.ord:
        return False
    pos = txn.position()
    txn.put(
        "INSERT INTO receipt (room, usr, thread, kind, ord, ts, pos) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (room, usr, thread, kind) DO UPDATE SET ord = excluded.ord, ts = excluded.ts, pos = excluded.pos",
        (mark.room, mark.usr, mark.thread, mark.kind, mark.ord, mark.ts, pos),
    )
    stream = "receipt" if mark.kind == PUBLIC else "private_receipt"
    txn.announce(Change(pos, stream, room=mark.room, user=mark.usr))
    return True


def advance_all(txn: Txn, marks: Iterable[Mark]) -> list[bool]:
    """`advance` for each."""
    return [advance(txn, mark) for mark in marks]


def for_rooms(txn: Txn, rooms: Sequence[int], after: int, upto: int, viewer: int) -> list[Receipt]:
    """The receipts changed in (after, upto] in these rooms that `viewer` may see: public ones and the viewer's own.

    `after` 0 gives all there are. In order of room, then of change.
    """
    if not rooms:
        return []
    condition, params = txn.any("r.room", list(rooms))
    rows = txn.all(
        "SELECT r.room, r.usr, u.id, r.thread, r.kind, e.nid, r.ord, r.ts, r.pos"  # noqa: S608
        " FROM receipt r JOIN usr u ON u.nid = r.usr JOIN event e ON e.room = r.room AND e.ord = r.ord"
        f" WHERE {condition} AND r.pos > ? AND r.pos <= ? AND (r.kind = 1 OR r.usr = ?) ORDER BY r.room, r.pos",
        [*params, after, upto, viewer],
    )
    return [
        Receipt(room, usr, user_id.decode("utf-8", "surrogatepass"), thread, kind, event, ord_, ts, pos)
        for room, usr, user_id, thread, kind, event, ord_, ts, pos in rows
    ]


def of_user(txn: Txn, usr: int, room: int) -> list[tuple[int, int, int]]:
    """The user's own receipts in a room as (thread, kind, ord)."""
    return [
        (thread, kind, ord_)
        for thread, kind, ord_ in txn.all(
            "SELECT thread, kind, ord FROM receipt WHERE room = ? AND usr = ?", (room, usr)
        )
    ]


def public_since(txn: Txn, usrs_local: bool, after: int, upto: int) -> list[tuple[int, int, int, int, int]]:
    """Public receipts of local (or of remote) users changed in (after, upto], as (room, usr, thread, ord, ts)."""
    return [
        (room, usr, thread, ord_, ts)
        for room, usr, thread, ord_, ts in txn.all(
            "SELECT r.room, r.usr, r.thread, r.ord, r.ts FROM receipt r JOIN usr u ON u.nid = r.usr"
            " WHERE r.pos > ? AND r.pos <= ? AND r.kind = 1 AND u.local = ? ORDER BY r.pos",
            (after, upto, int(usrs_local)),
        )
    ]


def forget_user_in(txn: Txn, usr: int, room: int) -> None:
    """Remove a user's receipts in a room that the user forgot."""
    txn.run("DELETE FROM receipt WHERE room = ? AND usr = ?", (room, usr))
