# SPDX-License-Identifier: Apache-2.0
"""What local people say of themselves: profile fields as JSON by name."""

from collections.abc import Sequence

from storage.txn import Change, Txn


def fields(txn: Txn, usr: int) -> dict[str, bytes]:
    """All fields of the profile, each as JSON."""
    rows = txn.all("SELECT name, value FROM profile_field WHERE usr = ? ORDER BY name", (usr,))
    return {name.decode(): bytes(value) for name, value in rows}


def field(txn: Txn, usr: int, name: str) -> bytes | None:
    row = txn.one("SELECT value FROM profile_field WHERE usr = ? AND name = ?", (usr, name.encode()))
    return None if row is None else bytes(row[0])


def fields_of(txn: Txn, usrs: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, bytes]]:
    """The named fields of several profiles; a user without any is absent."""
    if not usrs:
        return {}
    condition, params = txn.any("usr", list(usrs))
    rows = txn.all(f"SELECT usr, name, value FROM profile_field WHERE {condition}", params)  # noqa: S608
    found: dict[int, dict[str, bytes]] = {}
    for usr, name, value in rows:
        if name.decode() in names:
            found.setdefault(usr, {})[name.decode()] = bytes(value)
    return found


def put(txn: Txn, usr: int, name: str, value: bytes) -> int:
    """Set one field; returns the position of the change."""
    pos = txn.position()
    txn.put(
        "INSERT INTO profile_field (usr, name, value, pos) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (usr, name) DO UPDATE SET value = excluded.value, pos = excluded.pos",
        (usr, name.encode(), value, pos),
    )
    txn.announce(Change(pos, "profile", user=usr))
    return pos


def delete(txn: Txn, usr: int, name: str) -> bool:
    """Remove one field; False when it was not set."""
    gone = txn.run("DELETE FROM profile_field WHERE usr = ? AND name = ?", (usr, name.encode())) > 0
    if gone:
        txn.announce(Change(txn.position(), "profile", user=usr))
    return gone


def delete_all(txn: Txn, usr: int) -> None:
    txn.run("DELETE FROM profile_field WHERE usr = ?", (usr,))
