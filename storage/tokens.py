# SPDX-License-Identifier: Apache-2.0
"""How access, refresh and login tokens are kept: as hashes, each bound to an account and a device."""

import hashlib

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class TokenOwner:
    """What one access token stands for, with the state of its account."""

    token: int
    usr: int
    user_id: str
    device: int
    device_id: str | None
    expires: int | None
    unsettled: int | None
    """The refresh token to settle when this access token is used for the first time."""
    kind: int
    admin: bool
    locked: bool
    suspended: bool
    appservice: str | None


@attrs.frozen(slots=True)
class RefreshToken:
    nid: int
    usr: int
    device: int
    expires: int | None
    locked: bool


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def find(txn: Txn, token_hash: bytes) -> TokenOwner | None:
    row = txn.one(
        "SELECT t.nid, t.usr, u.id, t.device, d.id, t.expires, CASE WHEN r.parent IS NULL THEN NULL ELSE r.nid END,"
        " a.kind, a.admin, a.locked, a.suspended, a.appservice"
        " FROM access_token t JOIN usr u ON u.nid = t.usr JOIN account a ON a.usr = t.usr"
        " LEFT JOIN device d ON d.nid = t.device LEFT JOIN refresh_token r ON r.nid = t.refresh WHERE t.hash = ?",
        (token_hash,),
    )
    if row is None:
        return None
    return TokenOwner(
        token=row[0],
        usr=row[1],
        user_id=row[2].decode(),
        device=row[3],
        device_id=None if row[4] is None else row[4].decode(),
        expires=row[5],
        unsettled=row[6],
        kind=row[7],
        admin=bool(row[8]),
        locked=bool(row[9]),
        suspended=bool(row[10]),
        appservice=None if row[11] is None else row[11].decode(),
    )


def add_access(
    txn: Txn, token_hash: bytes, usr: int, device: int, now: int, expires: int | None, refresh: int | None
) -> int:
    nid = txn.position()
    txn.put(
        "INSERT INTO access_token (nid, hash, usr, device, created, expires, refresh) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (nid, token_hash, usr, device, now, expires, refresh),
    )
    return nid


def add_refresh(
    txn: Txn, token_hash: bytes, usr: int, device: int, now: int, expires: int | None, parent: int | None
) -> int:
    nid = txn.position()
    txn.put(
        "INSERT INTO refresh_token (nid, hash, usr, device, created, expires, parent) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (nid, token_hash, usr, device, now, expires, parent),
    )
    return nid


def find_refresh(txn: Txn, token_hash: bytes) -> RefreshToken | None:
    row = txn.one(
        "SELECT r.nid, r.usr, r.device, r.expires, a.locked FROM refresh_token r JOIN account a ON a.usr = r.usr"
        " WHERE r.hash = ?",
        (token_hash,),
    )
    return None if row is None else RefreshToken(row[0], row[1], row[2], row[3], bool(row[4]))


def settle(txn: Txn, refresh: int) -> None:
    """The tokens of `refresh` were used: revoke what they replaced, and other answers to the same exchange.

    "The old refresh token remains valid until the new access token or refresh token is used, at which point the old
    refresh token is revoked." (v1.19, Refreshing access tokens)
    """
    row = txn.one("SELECT parent FROM refresh_token WHERE nid = ?", (refresh,))
    if row is None or row[0] is None:
        return
    parent = row[0]
    txn.run(
        "DELETE FROM access_token WHERE refresh = ?"
        " OR refresh IN (SELECT nid FROM refresh_token WHERE parent = ? AND nid <> ?)",
        (parent, parent, refresh),
    )
    txn.run("DELETE FROM refresh_token WHERE nid = ? OR (parent = ? AND nid <> ?)", (parent, parent, refresh))
    txn.run("UPDATE refresh_token SET parent = NULL WHERE nid = ?", (refresh,))


def delete_of_device(txn: Txn, usr: int, device: int) -> None:
    txn.run("DELETE FROM access_token WHERE usr = ? AND device = ?", (usr, device))
    txn.run("DELETE FROM refresh_token WHERE usr = ? AND device = ?", (usr, device))


def delete_one(txn: Txn, token: int) -> None:
    """Delete an access token that has no device."""
    txn.run("DELETE FROM access_token WHERE nid = ?", (token,))


def delete_of_user(txn: Txn, usr: int, *, except_device: int | None = None) -> None:
    keep = -1 if except_device is None else except_device
    txn.run("DELETE FROM access_token WHERE usr = ? AND device <> ?", (usr, keep))
    txn.run("DELETE FROM refresh_token WHERE usr = ? AND device <> ?", (usr, keep))
    txn.run("DELETE FROM login_token WHERE usr = ?", (usr,))


def add_login(txn: Txn, token_hash: bytes, usr: int, expires: int) -> None:
    txn.put("INSERT INTO login_token (hash, usr, expires) VALUES (?, ?, ?)", (token_hash, usr, expires))


def use_login(txn: Txn, token_hash: bytes, now: int) -> int | None:
    """The account of a login token, which is gone afterwards; None when unknown or expired."""
    row = txn.one("SELECT usr, expires FROM login_token WHERE hash = ?", (token_hash,))
    txn.run("DELETE FROM login_token WHERE hash = ? OR expires <= ?", (token_hash, now))
    return None if row is None or row[1] <= now else int(row[0])
