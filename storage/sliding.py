# SPDX-License-Identifier: Apache-2.0
"""How sliding sync connections outlive a restart: each as one document, written when the server stops."""

from __future__ import annotations

from collections.abc import Iterable

from storage.txn import Txn


def save_all(txn: Txn, connections: Iterable[tuple[int, int, str, bytes]]) -> None:
    """Replace everything saved by these connections (user, device, name, document)."""
    txn.run("DELETE FROM sliding_connection")
    txn.many(
        "INSERT INTO sliding_connection (usr, device, name, document) VALUES (?, ?, ?, ?)",
        [(usr, device, name.encode("utf-8", "surrogatepass"), document) for usr, device, name, document in connections],
    )


def saved(txn: Txn, usr: int, device: int, name: str) -> bytes | None:
    """The document of a connection."""
    row = txn.one(
        "SELECT document FROM sliding_connection WHERE usr = ? AND device = ? AND name = ?",
        (usr, device, name.encode("utf-8", "surrogatepass")),
    )
    return None if row is None else bytes(row[0])
