# SPDX-License-Identifier: Apache-2.0
"""Who is in which room: one row per user and room, with the kind of membership and the event that says so.

Rows follow the room's resolved state (`storage.append` writes them); invites and knocks that came over federation to
rooms we are not in are written here too. `since` is the position from which the membership holds: a new display name
does not move it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from storage import device_lists, names
from storage.txn import Record, Txn

LEAVE = 0
JOIN = 1
INVITE = 2
KNOCK = 3
BAN = 4

KINDS = {"leave": LEAVE, "join": JOIN, "invite": INVITE, "knock": KNOCK, "ban": BAN}
NAMES = {number: name for name, number in KINDS.items()}


class Membership(NamedTuple):
    """One user's place in one room, all numbers."""

    usr: int
    room: int
    kind: int
    event: int
    since: int
    forgotten: bool


_COLUMNS = "usr, room, kind, event, since, forgotten"


def _row(row: Record) -> Membership:
    usr, room, kind, event, since, forgotten = row
    return Membership(usr, room, kind, event, since, bool(forgotten))


# ---- writing ----


def put(txn: Txn, usr: int, room: int, kind: int, event: int, position: int) -> None:
    """The user's membership is `kind` now, by that event; what was forgotten is remembered again."""
    device_lists.record_join_change(txn, position, usr, room, kind == JOIN)
    txn.put(
        "INSERT INTO membership (usr, room, kind, event, since, forgotten) VALUES (?, ?, ?, ?, ?, 0) "
        "ON CONFLICT (usr, room) DO UPDATE SET "
        "since = CASE WHEN membership.kind = excluded.kind THEN membership.since ELSE excluded.since END, "
        "kind = excluded.kind, event = excluded.event, forgotten = 0",
        (usr, room, kind, event, position),
    )


def put_stripped(txn: Txn, usr: int, room: int, events: bytes) -> None:
    """What the invited or knocking user may see of the room: a JSON list of stripped state events."""
    txn.put(
        "INSERT INTO stripped_state (usr, room, events) VALUES (?, ?, ?) "
        "ON CONFLICT (usr, room) DO UPDATE SET events = excluded.events",
        (usr, room, events),
    )


def drop_stripped(txn: Txn, usr: int, room: int) -> None:
    """The user saw what there was to see."""
    txn.put("DELETE FROM stripped_state WHERE usr = ? AND room = ?", (usr, room))


def forget(txn: Txn, usr: int, room: int) -> bool:
    """Hides a room that the user left or was banned from; false when the user is in it or has forgotten it."""
    done = txn.run(
        "UPDATE membership SET forgotten = 1 WHERE usr = ? AND room = ? AND kind IN (0, 4) AND forgotten = 0",
        (usr, room),
    )
    return done == 1


# ---- reading ----


def of(txn: Txn, usr: int, room: int) -> Membership | None:
    """The user's membership of a room, if there ever was one."""
    row = txn.one(f"SELECT {_COLUMNS} FROM membership WHERE usr = ? AND room = ?", (usr, room))  # noqa: S608
    return None if row is None else _row(row)


def of_user(txn: Txn, usr: int, kinds: Sequence[int] = (JOIN,), *, forgotten: bool = False) -> list[Membership]:
    """The user's rooms with one of these kinds."""
    condition, params = txn.any("kind", list(kinds))
    rows = txn.all(f"SELECT {_COLUMNS} FROM membership WHERE usr = ? AND {condition}", [usr, *params])  # noqa: S608
    return [_row(row) for row in rows if forgotten or not row[5]]


def rooms_of_user(txn: Txn, usr: int, kind: int = JOIN) -> list[int]:
    """Numbers of the rooms where the user's membership is of this kind."""
    return [row[0] for row in txn.all("SELECT room FROM membership WHERE usr = ? AND kind = ?", (usr, kind))]


def of_room(txn: Txn, room: int, kinds: Sequence[int] = (JOIN,)) -> list[Membership]:
    """Everybody with one of these kinds in a room."""
    condition, params = txn.any("kind", list(kinds))
    rows = txn.all(f"SELECT {_COLUMNS} FROM membership WHERE room = ? AND {condition}", [room, *params])  # noqa: S608
    return [_row(row) for row in rows]


def users_of_room(txn: Txn, room: int, kind: int = JOIN) -> list[int]:
    """Numbers of the users whose membership of the room is of this kind."""
    return [row[0] for row in txn.all("SELECT usr FROM membership WHERE room = ? AND kind = ?", (room, kind))]


def local_users_of_room(txn: Txn, room: int, kind: int = JOIN) -> list[int]:
    """The same, this server's users only."""
    rows = txn.all(
        "SELECT m.usr FROM membership m JOIN usr u ON u.nid = m.usr WHERE m.room = ? AND m.kind = ? AND u.local = 1",
        (room, kind),
    )
    return [row[0] for row in rows]


def count(txn: Txn, room: int, kind: int = JOIN) -> int:
    """How many users have this kind of membership."""
    row = txn.one("SELECT count(*) FROM membership WHERE room = ? AND kind = ?", (room, kind))
    return 0 if row is None else int(row[0])


def servers_of_room(txn: Txn, room: int) -> dict[str, int]:
    """Server name -> number of joined users."""
    found: dict[str, int] = {}
    for user in names.user_ids(txn, users_of_room(txn, room)).values():
        server = user.partition(":")[2]
        found[server] = found.get(server, 0) + 1
    return found


def share_room(txn: Txn, one: int, other: int) -> bool:
    """Whether both users are joined to some room."""
    row = txn.one(
        "SELECT 1 FROM membership a JOIN membership b ON b.room = a.room WHERE a.usr = ? AND a.kind = 1 "
        "AND b.usr = ? AND b.kind = 1 LIMIT 1",
        (one, other),
    )
    return row is not None


def sharing_users(txn: Txn, usr: int) -> list[int]:
    """Everybody joined to a room that the user is joined to, the user included."""
    rows = txn.all(
        "SELECT DISTINCT b.usr FROM membership a JOIN membership b ON b.room = a.room AND b.kind = 1 "
        "WHERE a.usr = ? AND a.kind = 1",
        (usr,),
    )
    return [row[0] for row in rows]


def stripped(txn: Txn, usr: int, room: int) -> bytes | None:
    """The JSON list of stripped state that came with an invite or knock."""
    row = txn.one("SELECT events FROM stripped_state WHERE usr = ? AND room = ?", (usr, room))
    return None if row is None else bytes(row[0])
