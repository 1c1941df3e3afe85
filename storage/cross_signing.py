# SPDX-License-Identifier: Apache-2.0
"""How cross-signing keys, and signatures that came after the object they are on, are kept."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import attrs

from storage.txn import Txn


class Usage(IntEnum):
    """What a cross-signing key is for; the values are stored."""

    MASTER = 1
    SELF_SIGNING = 2
    USER_SIGNING = 3

    @property
    def word(self) -> str:
        """The specification's word."""
        return self.name.lower()


@attrs.frozen(slots=True)
class CrossSigningKey:
    """`public` is unpadded base64, `keys` the JSON object as uploaded."""

    usr: int
    usage: Usage
    public: str
    keys: bytes

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.public}"


@attrs.frozen(slots=True)
class Signature:
    """`target` is a device id or a public key of `target_usr`; `key_id` is `ed25519:…` of `signer`."""

    target_usr: int
    target: str
    signer: int
    key_id: str
    signature: str


def keys_of(txn: Txn, usrs: Sequence[int]) -> list[CrossSigningKey]:
    if not usrs:
        return []
    condition, params = txn.any("usr", usrs)
    rows = txn.all(f"SELECT usr, usage, public, keys FROM cross_signing_key WHERE {condition}", params)
    return [CrossSigningKey(row[0], Usage(row[1]), row[2].decode(), bytes(row[3])) for row in rows]


def keys_of_user(txn: Txn, usr: int) -> dict[Usage, CrossSigningKey]:
    return {key.usage: key for key in keys_of(txn, [usr])}


def is_public_key(txn: Txn, usr: int, device_id: str) -> bool:
    """Whether a device may not have this id, because key ids of devices and of cross-signing keys share a namespace."""
    row = txn.one("SELECT 1 FROM cross_signing_key WHERE usr = ? AND public = ?", (usr, device_id.encode()))
    return row is not None


def put_key(txn: Txn, key: CrossSigningKey, pos: int) -> None:
    txn.put(
        "INSERT INTO cross_signing_key (usr, usage, pos, public, keys) VALUES (?, ?, ?, ?, ?) ON CONFLICT (usr, usage)"
        " DO UPDATE SET pos = excluded.pos, public = excluded.public, keys = excluded.keys",
        (key.usr, int(key.usage), pos, key.public.encode(), key.keys),
    )


def delete_key(txn: Txn, usr: int, usage: Usage) -> None:
    txn.run("DELETE FROM cross_signing_key WHERE usr = ? AND usage = ?", (usr, int(usage)))


def add_signature(txn: Txn, signature: Signature) -> None:
    txn.put(
        "INSERT INTO key_signature (target_usr, target, signer, key_id, signature) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (target_usr, target, signer, key_id) DO UPDATE SET signature = excluded.signature",
        (
            signature.target_usr,
            signature.target.encode(),
            signature.signer,
            signature.key_id.encode(),
            signature.signature.encode(),
        ),
    )


def signatures_on(txn: Txn, usrs: Sequence[int], viewer: int) -> list[Signature]:
    """The signatures on keys of `usrs` that `viewer` may see: those by the keys' owner and the viewer's own.

    "Users will not be able to see signatures made by other users' user-signing keys." (v1.19, Key and signature
    security)
    """
    if not usrs:
        return []
    condition, params = txn.any("target_usr", usrs)
    rows = txn.all(
        "SELECT target_usr, target, signer, key_id, signature FROM key_signature"
        f" WHERE {condition} AND (signer = target_usr OR signer = ?)",
        (*params, viewer),
    )
    return [Signature(row[0], row[1].decode(), row[2], row[3].decode(), row[4].decode()) for row in rows]


def stored_signatures(txn: Txn, target_usr: int, target: str, signer: int) -> Mapping[str, str]:
    """The signatures of `signer` on one object: key id → signature."""
    rows = txn.all(
        "SELECT key_id, signature FROM key_signature WHERE target_usr = ? AND target = ? AND signer = ?",
        (target_usr, target.encode(), signer),
    )
    return {row[0].decode(): row[1].decode() for row in rows}


def delete_signatures_on(txn: Txn, target_usr: int, target: str) -> None:
    """The object is gone or another one now: what was signed is no longer there."""
    txn.run("DELETE FROM key_signature WHERE target_usr = ? AND target = ?", (target_usr, target.encode()))


def delete_signatures_by(txn: Txn, usr: int, key_id: str) -> None:
    """The user's key is replaced: its signatures on the user's own objects mean nothing now."""
    txn.run("DELETE FROM key_signature WHERE target_usr = ? AND signer = ? AND key_id = ?", (usr, usr, key_id.encode()))


def delete_user(txn: Txn, usr: int) -> bool:
    """Forget the user's cross-signing keys and every signature on or by them; whether there were keys."""
    txn.run("DELETE FROM key_signature WHERE target_usr = ?", (usr,))
    txn.run("DELETE FROM key_signature WHERE signer = ?", (usr,))
    return txn.run("DELETE FROM cross_signing_key WHERE usr = ?", (usr,)) > 0
