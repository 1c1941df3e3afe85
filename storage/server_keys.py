# SPDX-License-Identifier: Apache-2.0
"""The public keys of other servers, as they were last told."""

from collections.abc import Sequence

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class StoredKey:
    """One key: `valid_until` is what its server says, `fetched` when it said so, both in ms."""

    key_id: str
    public: bytes
    valid_until: int
    fetched: int


def of_server(txn: Txn, server: str) -> list[StoredKey]:
    """Every key known of a server, old ones included."""
    rows = txn.all("SELECT key_id, public, valid_until, fetched FROM server_key WHERE server = ?", (server.encode(),))
    return [StoredKey(key_id.decode(), bytes(public), valid, fetched) for key_id, public, valid, fetched in rows]


def put(txn: Txn, server: str, keys: Sequence[StoredKey]) -> None:
    """Keeps keys; what is told later counts. A key id never changes its key."""
    txn.many(
        "INSERT INTO server_key (server, key_id, public, valid_until, fetched) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (server, key_id) DO UPDATE SET valid_until = excluded.valid_until, fetched = excluded.fetched "
        "WHERE server_key.public = excluded.public",
        [(server.encode(), key.key_id.encode(), key.public, key.valid_until, key.fetched) for key in keys],
    )
