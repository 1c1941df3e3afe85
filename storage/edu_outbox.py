# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent to other servers besides events, and must not get lost."""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from storage.txn import Change, Txn


@attrs.frozen(slots=True)
class Waiting:
    """An EDU at its place: `content` is JSON."""

    pos: int
    n: int
    kind: str
    content: bytes


def add(txn: Txn, server: str, kind: str, content: Mapping[str, Any]) -> None:
    """Keeps an EDU for a server. Announces "edu_outbox"."""
    pos = txn.position()
    txn.put(
        "INSERT INTO edu_outbox (server, pos, n, kind, content) VALUES (?, ?, 0, ?, ?)",
        (server.encode(), pos, kind.encode(), orjson.dumps(content)),
    )
    txn.announce(Change(pos, "edu_outbox"))


def waiting(txn: Txn, server: str, limit: int) -> list[Waiting]:
    """The oldest EDUs that wait for a server."""
    rows = txn.all(
        "SELECT pos, n, kind, content FROM edu_outbox WHERE server = ? ORDER BY pos, n LIMIT ?",
        (server.encode(), limit),
    )
    return [Waiting(pos, n, kind.decode(), bytes(content)) for pos, n, kind, content in rows]


def servers_after(txn: Txn, pos: int) -> list[str]:
    """Servers for which something came to wait after a position."""
    return [row[0].decode() for row in txn.all("SELECT DISTINCT server FROM edu_outbox WHERE pos > ?", (pos,))]


def sent(txn: Txn, server: str, up_to: int) -> None:
    """The server has what was kept for it up to a position."""
    txn.run("DELETE FROM edu_outbox WHERE server = ? AND pos <= ?", (server.encode(), up_to))
