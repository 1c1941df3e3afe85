# SPDX-License-Identifier: Apache-2.0
"""What other servers' transactions were answered, for when they are sent again."""

from storage.txn import Txn

KEPT_MS = 86_400_000


def find(txn: Txn, server: str, name: str) -> bytes | None:
    """The answer to a transaction, as JSON; None when it is new."""
    row = txn.one("SELECT answer FROM federation_answer WHERE server = ? AND txn = ?", (server.encode(), name.encode()))
    return None if row is None else bytes(row[0])


def keep(txn: Txn, server: str, name: str, answer: bytes, now: int) -> None:
    """Keeps an answer for a day."""
    txn.put(
        "INSERT INTO federation_answer (server, txn, at, answer) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (server.encode(), name.encode(), now, answer),
    )


def forget_older(txn: Txn, now: int) -> None:
    """Forgets answers that are a day old."""
    txn.run("DELETE FROM federation_answer WHERE at < ?", (now - KEPT_MS,))
