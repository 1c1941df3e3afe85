# SPDX-License-Identifier: Apache-2.0
"""What clients keep for their user, per account (room 0) or per room, tags and read markers included.

Announces `Change(pos, "account_data", user=usr)`, with `room` where it is a room's.
"""

from collections.abc import Sequence

import attrs

from storage import push_rules
from storage.txn import Change, Txn

ACCOUNT = 0
PUSH_RULES = "m.push_rules"
#: With a device id behind it: notification settings of one device (MSC3890).
DEVICE_SETTINGS = "org.matrix.msc3890.local_notification_settings."
DELETED = b""


@attrs.frozen(slots=True)
class Entry:
    """One entry: `room` is 0 for the account's own. `content` is JSON, `{}` where it was deleted since."""

    room: int
    type: str
    content: bytes
    pos: int


def get(txn: Txn, usr: int, room: int, data_type: str) -> bytes | None:
    """The content of one entry as JSON; None where there is none or it was deleted."""
    row = txn.one(
        "SELECT content FROM account_data WHERE usr = ? AND room = ? AND type = ?", (usr, room, data_type.encode())
    )
    return None if row is None or row[0] == DELETED else bytes(row[0])


def get_all(txn: Txn, usrs: Sequence[int], data_type: str) -> dict[int, bytes]:
    """The account-wide entries of one type of several users."""
    if not usrs:
        return {}
    condition, params = txn.any("usr", list(usrs))
    rows = txn.all(
        f"SELECT usr, content FROM account_data WHERE {condition} AND room = 0 AND type = ?",  # noqa: S608
        [*params, data_type.encode()],
    )
    return {usr: bytes(content) for usr, content in rows if content != DELETED}


def put(txn: Txn, usr: int, room: int, data_type: str, content: bytes) -> int:
    """Set one entry; returns the position of the change."""
    pos = txn.position()
    txn.put(
        "INSERT INTO account_data (usr, room, type, content, pos) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (usr, room, type) DO UPDATE SET content = excluded.content, pos = excluded.pos",
        (usr, room, data_type.encode(), content, pos),
    )
    txn.announce(Change(pos, "account_data", room=room or None, user=usr))
    return pos


def remove(txn: Txn, usr: int, room: int, data_type: str) -> bool:
    """Delete one entry, leaving word for sync (MSC3391); False when there was none."""
    if get(txn, usr, room, data_type) is None:
        return False
    put(txn, usr, room, data_type, DELETED)
    return True


def since(txn: Txn, usr: int, after: int, upto: int) -> list[Entry]:
    """What changed in (after, upto], of the account and of all rooms, in order of change.

    `after` 0 gives everything there is, deleted entries left out. `m.push_rules` is among them as clients see it.
    """
    rows = txn.all(
        "SELECT room, type, content, pos FROM account_data WHERE usr = ? AND pos > ? AND pos <= ? ORDER BY pos",
        (usr, after, upto),
    )
    entries = [
        Entry(room, data_type.decode(), bytes(content) or b"{}", pos)
        for room, data_type, content, pos in rows
        if after or content != DELETED
    ]
    rules_at = push_rules.changed_at(txn, usr)
    if after == 0 or after < rules_at <= upto:
        entries.append(Entry(ACCOUNT, PUSH_RULES, push_rules.rendered(txn, usr), rules_at))
    return entries


def of_rooms(txn: Txn, usr: int, rooms: Sequence[int], upto: int) -> list[Entry]:
    """Everything kept for these rooms, for a client that sees them for the first time."""
    if not rooms:
        return []
    condition, params = txn.any("room", list(rooms))
    rows = txn.all(
        f"SELECT room, type, content, pos FROM account_data WHERE usr = ? AND {condition} AND pos <= ? ORDER BY pos",  # noqa: S608
        [usr, *params, upto],
    )
    return [
        Entry(room, data_type.decode(), bytes(content), pos)
        for room, data_type, content, pos in rows
        if content != DELETED
    ]


def of_type(txn: Txn, usr: int, data_type: str) -> dict[int, bytes]:
    """The entries of one type in all rooms, by room; with 0, the account's."""
    rows = txn.all("SELECT room, content FROM account_data WHERE usr = ? AND type = ?", (usr, data_type.encode()))
    return {room: bytes(content) for room, content in rows if content != DELETED}


def forget_user(txn: Txn, usr: int) -> None:
    """Remove all of a user's entries, when the account is erased."""
    txn.run("DELETE FROM account_data WHERE usr = ?", (usr,))
