# SPDX-License-Identifier: Apache-2.0
"""Which rooms this server takes part in, and which ones two people are in together."""

from storage import membership, names
from storage.txn import Txn


def hosted(txn: Txn, room_id: str) -> bool:
    """Whether a local user is in the room, or nobody is and its state is here."""
    room = names.room_nid(txn, room_id)
    if room is None:
        return False
    row = txn.one("SELECT heads FROM room WHERE nid = ?", (room,))
    if row is None or not row[0]:
        return False
    local = txn.one(
        "SELECT 1 FROM membership m JOIN usr u ON u.nid = m.usr "
        "WHERE m.room = ? AND m.kind = ? AND u.local = 1 LIMIT 1",
        (room, membership.JOIN),
    )
    if local is not None:
        return True
    return txn.one("SELECT 1 FROM membership WHERE room = ? AND kind = ? LIMIT 1", (room, membership.JOIN)) is None


def joined_rooms(txn: Txn, usr: int) -> list[str]:
    """The ids of the rooms that the user is in."""
    return [names.room_id(txn, room) for room in membership.rooms_of_user(txn, usr)]


def mutual_rooms(txn: Txn, usr: int, other: str, after: int, most: int) -> tuple[list[tuple[int, str]], int]:
    """At most so many of the rooms that both are in (number and id, above a number), and how many there are in all."""
    them = names.user_nid(txn, other)
    if them is None:
        return [], 0
    both = (
        "FROM membership a JOIN membership b ON b.room = a.room "
        "WHERE a.usr = ? AND a.kind = 1 AND b.usr = ? AND b.kind = 1"
    )
    count = txn.one(f"SELECT count(*) {both}", (usr, them))
    rows = txn.all(f"SELECT a.room {both} AND a.room > ? ORDER BY a.room LIMIT ?", (usr, them, after, most))
    return [(room, names.room_id(txn, room)) for (room,) in rows], count[0] if count else 0


def guests_in(txn: Txn, room: int, guest_kind: int) -> list[int]:
    """The numbers of the guest accounts that are in a room."""
    rows = txn.all(
        "SELECT m.usr FROM membership m JOIN account a ON a.usr = m.usr WHERE m.room = ? AND m.kind = ? AND a.kind = ?",
        (room, membership.JOIN, guest_kind),
    )
    return [usr for (usr,) in rows]
