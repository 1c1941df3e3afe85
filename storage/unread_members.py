# SPDX-License-Identifier: Apache-2.0
"""Whom a new event in a room may count for: its joined local members, and those of them with rules of their own."""

from collections.abc import Sequence

import orjson

from homeserver.protocol.ignoring import IGNORED_USERS
from homeserver.protocol.push_rules import RuleSet
from storage import account_data, names, push_rules
from storage.txn import Txn
from storage.unread import JOINED

SMALL_ROOM = 64


def is_small(txn: Txn, room: int) -> bool:
    """Whether a room has so few members that they may be read on the reactor."""
    rows = txn.all("SELECT usr FROM membership WHERE room = ? AND kind = ? LIMIT ?", (room, JOINED, SMALL_ROOM + 1))
    return len(rows) <= SMALL_ROOM


def members(txn: Txn, room: int) -> tuple[dict[str, int], int]:
    """The joined local members, id to number, and how many members are joined in all."""
    rows = txn.all(
        "SELECT m.usr, u.id, u.local FROM membership m JOIN usr u ON u.nid = m.usr WHERE m.room = ? AND m.kind = ?",
        (room, JOINED),
    )
    return {user_id.decode("utf-8", "surrogatepass"): usr for usr, user_id, local in rows if local}, len(rows)


def joined_count(txn: Txn, room: int) -> int:
    """How many members are joined."""
    row = txn.one("SELECT count(*) FROM membership WHERE room = ? AND kind = ?", (room, JOINED))
    return 0 if row is None else int(row[0])


def display_names(txn: Txn, room: int, user_ids: Sequence[tuple[int, str]]) -> dict[int, str]:
    """The display names of these members, (number, id), in the room; those without one are absent."""
    found = {}
    for usr, user_id in user_ids:
        skey = names.skey_nid(txn, "m.room.member", user_id)
        row = txn.one(
            "SELECT e.content FROM state_now s JOIN event e ON e.nid = s.event WHERE s.room = ? AND s.skey = ?",
            (room, skey or 0),
        )
        name = orjson.loads(row[0]).get("displayname") if row is not None else None
        if isinstance(name, str):
            found[usr] = name
    return found


def with_own_rules(txn: Txn) -> set[int]:
    """Everybody who changed a push rule or keeps an ignore list."""
    found = {row[0] for row in txn.all("SELECT usr FROM push_rules")}
    found.update(
        row[0] for row in txn.all("SELECT usr FROM account_data WHERE room = 0 AND type = ?", (IGNORED_USERS.encode(),))
    )
    return found


def own_rules(txn: Txn, usrs: Sequence[int]) -> dict[int, tuple[RuleSet, bytes | None]]:
    """The rules of each user, and their ignore list as JSON."""
    changed = push_rules.load_changed(txn, usrs)
    ignoring = account_data.get_all(txn, usrs, IGNORED_USERS)
    return {usr: (changed.get(usr) or push_rules.load(txn, usr), ignoring.get(usr)) for usr in usrs}
