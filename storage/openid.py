# SPDX-License-Identifier: Apache-2.0
"""Which OpenID tokens prove whom to third parties."""

from storage.txn import Txn


def add(txn: Txn, token_hash: bytes, usr: int, now: int, expires: int) -> None:
    txn.run("DELETE FROM openid_token WHERE usr = ? AND expires <= ?", (usr, now))
    txn.put("INSERT INTO openid_token (hash, usr, expires) VALUES (?, ?, ?)", (token_hash, usr, expires))


def owner(txn: Txn, token_hash: bytes, now: int) -> str | None:
    """The user id that a token proves, None when unknown, expired or deactivated."""
    row = txn.one(
        "SELECT u.id FROM openid_token t JOIN usr u ON u.nid = t.usr JOIN account a ON a.usr = t.usr"
        " WHERE t.hash = ? AND t.expires > ? AND a.deactivated = 0",
        (token_hash, now),
    )
    return None if row is None else row[0].decode()


def delete_of_user(txn: Txn, usr: int) -> None:
    txn.run("DELETE FROM openid_token WHERE usr = ?", (usr,))
