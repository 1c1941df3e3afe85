# SPDX-License-Identifier: Apache-2.0
"""Which events a user may have been notified of: those that notify by default, and the exceptions, newest first."""

from storage.events import ORD_SHIFT
from storage.txn import Txn
from storage.unread import JOINED


def notified_before(txn: Txn, usr: int, before: int, limit: int) -> list[int]:
    """The numbers of the last `limit` such events before number `before`, in rooms the user is in, since the join."""
    base = [row[0] for row in _default(txn, usr, before, limit)]
    own = txn.all(
        "SELECT x.ord FROM unread_exception x JOIN membership m ON m.usr = x.usr AND m.room = x.room"
        " WHERE x.usr = ? AND x.dn > 0 AND x.ord < ? AND m.kind = ? ORDER BY x.ord DESC LIMIT ?",
        (usr, before << ORD_SHIFT, JOINED, limit),
    )
    return sorted({*base, *(row[0] >> ORD_SHIFT for row in own)}, reverse=True)[:limit]


def _default(txn: Txn, usr: int, before: int, limit: int) -> list[tuple[int, ...]]:
    inner = (
        "SELECT e.nid FROM event e WHERE e.room = {room} AND e.ord > {since} AND e.ord < ? AND e.flags & 1 = 1"
        " AND e.sender <> ? ORDER BY e.ord DESC LIMIT ?"
    )
    if txn.dialect == "postgresql":
        lateral = inner.format(room="m.room", since="(m.since << 20)")
        sql = (
            f"SELECT x.nid FROM membership m CROSS JOIN LATERAL ({lateral}) x"  # noqa: S608
            " WHERE m.usr = ? AND m.kind = ? ORDER BY x.nid DESC LIMIT ?"
        )
        return txn.all(sql, (before << ORD_SHIFT, usr, limit, usr, JOINED, limit))
    found: list[tuple[int, ...]] = []
    one_room = inner.format(room="?", since="?")
    for room, since in txn.all("SELECT room, since FROM membership WHERE usr = ? AND kind = ?", (usr, JOINED)):
        found += txn.all(one_room, (room, since << ORD_SHIFT, before << ORD_SHIFT, usr, limit))
    return found


def arrived(txn: Txn, usr: int, after: int, upto: int, limit: int) -> list[int]:
    """The numbers of the first `limit` live events of others in (after, upto] that the user may be pushed.

    Those of the rooms the user is in, and the event by which the user is invited to another.
    """
    rows = txn.all(
        "SELECT e.nid FROM membership m JOIN room r ON r.nid = m.room CROSS JOIN event e"
        " WHERE m.usr = ? AND m.kind = ? AND r.last > ? AND e.room = m.room AND e.ord > ? AND e.ord <= ?"
        " AND e.sender <> ? AND e.nid > m.since ORDER BY e.nid LIMIT ?",
        (usr, JOINED, after, after << ORD_SHIFT | (1 << ORD_SHIFT) - 1, upto << ORD_SHIFT, usr, limit),
    )
    invites = txn.all(
        "SELECT m.event FROM membership m WHERE m.usr = ? AND m.kind = 2 AND m.event > ? AND m.event <= ?",
        (usr, after, upto),
    )
    return sorted({row[0] for row in (*rows, *invites)})[:limit]


def users_with_pushers(txn: Txn, rooms: list[int]) -> dict[int, list[int]]:
    """The users with pushers who are in, or invited to, these rooms: user to rooms."""
    if not rooms:
        return {}
    condition, params = txn.any("m.room", rooms)
    rows = txn.all(
        "SELECT DISTINCT m.usr, m.room FROM membership m CROSS JOIN pusher p"  # noqa: S608
        f" WHERE p.usr = m.usr AND m.kind IN (1, 2) AND {condition}",
        params,
    )
    found: dict[int, list[int]] = {}
    for usr, room in rows:
        found.setdefault(usr, []).append(room)
    return found
