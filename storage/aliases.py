# SPDX-License-Identifier: Apache-2.0
"""Which room each of this server's aliases leads to, and who made it."""

import attrs

from storage import names
from storage.txn import Change, Txn


@attrs.frozen(slots=True)
class AliasRow:
    """An alias with the number of its room and of its maker."""

    alias: str
    room: int
    creator: int


def find(txn: Txn, alias: str) -> AliasRow | None:
    row = txn.one("SELECT room, creator FROM alias WHERE name = ?", (alias.encode(),))
    return AliasRow(alias, row[0], row[1]) if row else None


def of_room(txn: Txn, room: int) -> list[AliasRow]:
    """The local aliases of a room, in the order of their bytes."""
    rows = txn.all("SELECT name, creator FROM alias WHERE room = ? ORDER BY name", (room,))
    return [AliasRow(name.decode(), room, creator) for name, creator in rows]


def in_namespace(txn: Txn, aliases: list[str]) -> list[AliasRow]:
    """Those of `aliases` that exist."""
    if not aliases:
        return []
    where, params = txn.any("name", [alias.encode() for alias in aliases])
    rows = txn.all(f"SELECT name, room, creator FROM alias WHERE {where}", params)
    return [AliasRow(name.decode(), room, creator) for name, room, creator in rows]


def add(txn: Txn, alias: str, room: int, creator: str) -> bool:
    """Make an alias; False when it exists. Announces stream "directory" with the room."""
    maker = names.intern_user(txn, creator, True)
    added = txn.run(
        "INSERT INTO alias (name, room, creator) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
        (alias.encode(), room, maker),
    )
    if added:
        txn.announce(Change(txn.position(), "directory", room=room))
    return bool(added)


def remove(txn: Txn, alias: str) -> bool:
    """Delete an alias; False when there is none. Announces stream "directory" with the room."""
    found = find(txn, alias)
    if found is None:
        return False
    txn.run("DELETE FROM alias WHERE name = ?", (alias.encode(),))
    txn.announce(Change(txn.position(), "directory", room=found.room))
    return True


def move(txn: Txn, old_room: int, new_room: int) -> list[str]:
    """Lead every alias of `old_room` to `new_room`; returns them."""
    moved = [row.alias for row in of_room(txn, old_room)]
    if moved:
        txn.run("UPDATE alias SET room = ? WHERE room = ?", (new_room, old_room))
        txn.announce(Change(txn.position(), "directory", room=old_room))
    return moved
