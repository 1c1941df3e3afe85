# SPDX-License-Identifier: Apache-2.0
"""The last known presence of users, as it outlives a restart.

Announces `Change(pos, "presence", user=usr)`.
"""

from collections.abc import Collection, Sequence

import attrs

from storage.txn import Change, Txn

ONLINE, UNAVAILABLE, OFFLINE = 1, 2, 3


@attrs.frozen(slots=True)
class Presence:
    """`state` is one of the numbers above, `last_active` in milliseconds since 1970 (0: never seen active)."""

    usr: int
    state: int
    status: str | None
    last_active: int


def of_users(txn: Txn, usrs: Sequence[int]) -> dict[int, Presence]:
    """What is known of these users; others are absent."""
    if not usrs:
        return {}
    condition, params = txn.any("usr", list(usrs))
    rows = txn.all(f"SELECT usr, state, status, last_active FROM presence WHERE {condition}", params)  # noqa: S608
    return {row[0]: _read(row) for row in rows}


def visible(txn: Txn, viewer: int, after: int, upto: int) -> list[int]:
    """The users whose presence changed in (after, upto], `after` 0: who are not offline, as far as `viewer` sees them.

    A user sees themself and whoever is in a room with them.
    """
    condition = "p.pos > ? AND p.pos <= ?" if after else "p.pos >= ? AND p.pos <= ? AND p.state <> 3"
    rows = txn.all(
        f"SELECT p.usr FROM presence p WHERE {condition} AND (p.usr = ? OR EXISTS"  # noqa: S608
        " (SELECT 1 FROM membership b JOIN membership a ON a.room = b.room AND a.usr = ? AND a.kind = 1"
        " WHERE b.usr = p.usr AND b.kind = 1)) ORDER BY p.pos",
        (after, upto, viewer, viewer),
    )
    return [row[0] for row in rows]


def met(txn: Txn, viewer: int, after: int, rooms: Collection[int] | None) -> list[int]:
    """Who is not offline and came to a room together with `viewer` after the position; None: to any room."""
    condition, params = ("1 = 1", ()) if rooms is None else txn.any("a.room", list(rooms))
    rows = txn.all(
        "SELECT DISTINCT p.usr FROM membership a JOIN membership b ON b.room = a.room"  # noqa: S608
        " JOIN presence p ON p.usr = b.usr WHERE a.usr = ? AND a.kind = 1 AND b.kind = 1 AND p.state <> 3"
        f" AND (a.since > ? OR b.since > ?) AND {condition}",
        (viewer, after, after, *params),
    )
    return [row[0] for row in rows]


def save(txn: Txn, presence: Presence) -> int:
    """Keep a change that others are told of; returns its position."""
    pos = txn.position()
    txn.put(
        "INSERT INTO presence (usr, state, status, last_active, pos) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (usr) DO UPDATE SET state = excluded.state, status = excluded.status,"
        " last_active = excluded.last_active, pos = excluded.pos",
        (presence.usr, presence.state, _status(presence), presence.last_active, pos),
    )
    txn.announce(Change(pos, "presence", user=presence.usr))
    return pos


def save_activity(txn: Txn, last_active: Sequence[tuple[int, int]]) -> None:
    """Keep when users, as (usr, milliseconds), were last active; nobody is told."""
    txn.many("UPDATE presence SET last_active = ? WHERE usr = ?", [(at, usr) for usr, at in last_active])


def lit(txn: Txn) -> list[Presence]:
    """The local users that are not offline, as a starting server finds them."""
    rows = txn.all(
        "SELECT p.usr, p.state, p.status, p.last_active FROM presence p JOIN usr u ON u.nid = p.usr"
        " WHERE p.state <> 3 AND u.local = 1"
    )
    return [_read(row) for row in rows]


def forget_user(txn: Txn, usr: int) -> None:
    """Remove what is known of an erased account."""
    txn.run("DELETE FROM presence WHERE usr = ?", (usr,))


def _status(presence: Presence) -> bytes | None:
    return None if presence.status is None else presence.status.encode()


def _read(row: Sequence[object]) -> Presence:
    usr, state, status, last_active = row
    assert isinstance(usr, int) and isinstance(state, int) and isinstance(last_active, int)
    return Presence(usr, state, bytes(status).decode() if isinstance(status, bytes) else None, last_active)
