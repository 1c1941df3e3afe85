# SPDX-License-Identifier: Apache-2.0
"""How sliding sync connections outlive a restart: each as one document, written when the server stops."""

from __future__ import annotations

from collections.abc import Iterable

from storage.txn import Txn

KEPT_MS = 30 * 24 * 3600 * 1000


def save_all(txn: Txn, connections: Iterable[tuple[int, int, str, bytes]], now_ms: int) -> None:
    """Save connections as (user, device, name, document), and forget those not heard of for a month."""
    txn.run("DELETE FROM sliding_connection WHERE saved < ?", (now_ms - KEPT_MS,))
    txn.many(
        "INSERT INTO sliding_connection (usr, device, name, document, saved) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (usr, device, name) DO UPDATE SET document = excluded.document, saved = excluded.saved",
        [
            (usr, device, name.encode("utf-8", "surrogatepass"), document, now_ms)
            for usr, device, name, document in connections
        ],
    )


def saved(txn: Txn, usr: int, device: int, name: str) -> bytes | None:
    """The document of a connection."""
    row = txn.one(
        "SELECT document FROM sliding_connection WHERE usr = ? AND device = ? AND name = ?",
        (usr, device, name.encode("utf-8", "surrogatepass")),
    )
    return None if row is None else bytes(row[0])
