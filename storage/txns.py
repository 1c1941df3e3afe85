# SPDX-License-Identifier: Apache-2.0
"""Which event a client's transaction id stands for, for a day.

The key is (device number, hash of the request's path and transaction id, see `homeserver.services.rooms.scopes`).
"""

from storage.txn import Txn

KEPT_SECONDS = 24 * 3600


def record(txn: Txn, device: int, scope: bytes, event: int, now_s: int) -> None:
    """Notes what was sent. Raises `Duplicate` at the commit when the id was used before."""
    txn.bulk("INSERT INTO txn (device, scope, event, at) VALUES {rows}", (device, scope, event, now_s))


def event_of(txn: Txn, device: int, scope: bytes) -> int | None:
    """The nid of the event sent under this id."""
    row = txn.one("SELECT event FROM txn WHERE device = ? AND scope = ?", (device, scope))
    return None if row is None else int(row[0])


def forget_older(txn: Txn, now_s: int) -> int:
    """Deletes what is older than a day; gives the number of rows."""
    return txn.run("DELETE FROM txn WHERE at < ?", (now_s - KEPT_SECONDS,))
