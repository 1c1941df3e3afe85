# SPDX-License-Identifier: Apache-2.0
"""How far each interactive authentication has come."""

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class UiaSession:
    """`completed` and `params` are JSON objects by stage; `usr` is 0 where nobody was signed in."""

    id: str
    operation: str
    usr: int
    created: int
    completed: bytes
    params: bytes


def find(txn: Txn, session: str) -> UiaSession | None:
    row = txn.one(
        "SELECT operation, usr, created, completed, params FROM uia_session WHERE id = ?",
        (session.encode("utf-8", "replace"),),
    )
    if row is None:
        return None
    return UiaSession(session, row[0].decode(), row[1], row[2], bytes(row[3]), bytes(row[4]))


def add(txn: Txn, session: UiaSession, forget_before: int) -> None:
    """Keep a new session, and forget those made before `forget_before`."""
    txn.run("DELETE FROM uia_session WHERE created < ?", (forget_before,))
    txn.put(
        "INSERT INTO uia_session (id, operation, usr, created, completed, params) VALUES (?, ?, ?, ?, ?, ?)",
        (
            session.id.encode(),
            session.operation.encode(),
            session.usr,
            session.created,
            session.completed,
            session.params,
        ),
    )


def set_completed(txn: Txn, session: str, completed: bytes) -> None:
    txn.run("UPDATE uia_session SET completed = ? WHERE id = ?", (completed, session.encode()))


def delete(txn: Txn, session: str) -> bool:
    """End a session; False when it had ended already, so that what it allowed happens once."""
    return txn.run("DELETE FROM uia_session WHERE id = ?", (session.encode("utf-8", "replace"),)) > 0
