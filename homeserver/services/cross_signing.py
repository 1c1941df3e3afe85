# SPDX-License-Identifier: Apache-2.0
"""How a user's cross-signing keys are replaced, and whose signature on which key is accepted.

https://spec.matrix.org/v1.18/client-server-api/#cross-signing
"""

from collections.abc import Mapping
from typing import Any

import orjson

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError, bad_json, forbidden, invalid_param, missing_param
from homeserver.protocol.signing import BadSignature, VerifyKey, verify_signed
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.uia import InteractiveAuth, UiaResult
from storage import cross_signing, device_keys, device_lists
from storage.cross_signing import CrossSigningKey, Usage
from storage.txn import Txn

#: What cross-signing keys a user has.
Keys = Mapping[Usage, CrossSigningKey]


class CrossSigning:
    """Upload of a user's three cross-signing keys."""

    def __init__(self, database: Database, auth: InteractiveAuth) -> None:
        self._database = database
        self._auth = auth

    async def upload(self, user: User, body: Mapping[str, Any], ip: str) -> None:
        """Replace those of the caller's keys that the body has.

        "User-Interactive Authentication MUST be performed for regular clients, except in these cases: there is no
        existing master signing key […], or […] the request contains no new keys." (v1.19). Raises M_INVALID_SIGNATURE,
        M_MISSING_PARAM without a master key, M_FORBIDDEN for a key that is the id of a device.
        """
        offered = parse_keys(user.user_id, body)
        bound = {"operation": "device_signing/upload", "keys": sorted(key.public for key in offered.values())}
        proof: UiaResult | None = None
        replaced = False
        while not replaced:
            stored = await self._database.point(cross_signing.keys_of_user, user.usr)
            check_signatures(user.user_id, offered, stored)
            new = {usage: key for usage, key in offered.items() if not _is_same(key, stored.get(usage))}
            if not new:
                break
            await self._refuse_device_ids(user.usr, new)
            if Usage.MASTER in stored and proof is None:
                proof = await self._auth.require(user, body.get("auth"), bound, ip=ip)
            # False when another request was faster: what it stored is what there is to compare with now.
            replaced = await self._database.write(replace_keys, user.usr, new, stored)
        if proof is not None:
            await self._auth.finish(proof)

    async def _refuse_device_ids(self, usr: int, new: Keys) -> None:
        if await self._database.point(device_keys.device_numbers, usr, [key.public for key in new.values()]):
            raise forbidden("A cross-signing key is the same as the id of one of your devices")


def parse_keys(user_id: str, body: Mapping[str, Any]) -> dict[Usage, CrossSigningKey]:
    """The keys of an upload, not yet with their owner's number; raises M_BAD_JSON or M_INVALID_PARAM."""
    found = {}
    for usage in Usage:
        value = body.get(f"{usage.word}_key")
        if value is not None:
            found[usage] = _parse_key(user_id, usage, value)
    return found


def _parse_key(user_id: str, usage: Usage, value: object) -> CrossSigningKey:
    field = f"{usage.word}_key"
    if not isinstance(value, dict):
        raise bad_json(f"{field} must be an object")
    usages, keys, signatures = value.get("usage"), value.get("keys"), value.get("signatures", {})
    if value.get("user_id") != user_id:
        raise invalid_param(f"{field}.user_id is not the user who is signed in")
    if not isinstance(usages, list) or usage.word not in usages:
        raise invalid_param(f"{field}.usage must contain {usage.word!r}")
    # "The object must have exactly one property, whose name is in the form `<algorithm>:<unpadded_base64_public_key>`,
    # and whose value is the unpadded base64 public key."
    if not isinstance(keys, dict) or len(keys) != 1:
        raise invalid_param(f"{field}.keys must have exactly one key")
    key_id, public = next(iter(keys.items()))
    if not isinstance(public, str) or key_id != f"ed25519:{public}":
        raise invalid_param(f"{field}.keys must be of the form 'ed25519:' with the key itself as its name")
    try:
        VerifyKey.parse(key_id, public)
    except ValueError as error:
        raise invalid_param(f"{field}: {error}") from None
    if not isinstance(signatures, dict) or not all(isinstance(one, dict) for one in signatures.values()):
        raise bad_json(f"{field}.signatures must be an object of objects")
    kept = {name: part for name, part in value.items() if name not in ("signatures", "unsigned")}
    if user_id in signatures:
        kept["signatures"] = {user_id: signatures[user_id]}
    return CrossSigningKey(0, usage, public, canonical_json.encode(kept))


def check_signatures(user_id: str, offered: Keys, stored: Keys) -> None:
    """The other keys must be signed by the master key that they come with, else by the stored one."""
    others = [key for usage, key in offered.items() if usage is not Usage.MASTER]
    if not others:
        return
    master = offered.get(Usage.MASTER) or stored.get(Usage.MASTER)
    if master is None:
        raise missing_param("No master signing key is available")
    for key in others:
        if not is_signed(orjson.loads(key.keys), user_id, master.key_id, master.public):
            raise MatrixError(400, "M_INVALID_SIGNATURE", f"The {key.usage.word} key is not signed by the master key")


def is_signed(value: Mapping[str, Any], signer: str, key_id: str, public: str) -> bool:
    """Whether the object bears a signature of `signer` by the key with this id that fits the public key."""
    try:
        verify_signed(value, signer, {key_id: VerifyKey.parse(key_id, public)})
    except (BadSignature, ValueError):
        return False
    return True


def unsigned_bytes(keys: bytes | Mapping[str, Any]) -> bytes:
    """What of a key object signatures cover, for comparing two of them."""
    value = orjson.loads(keys) if isinstance(keys, bytes) else keys
    return canonical_json.encode({name: one for name, one in value.items() if name not in ("signatures", "unsigned")})


def _is_same(offered: CrossSigningKey, stored: CrossSigningKey | None) -> bool:
    return stored is not None and unsigned_bytes(offered.keys) == unsigned_bytes(stored.keys)


def replace_keys(txn: Txn, usr: int, new: Keys, seen: Keys) -> bool:
    """Store the new keys; False, and nothing done, when the stored ones are not those `seen` by who decided this.

    With another master key, keys that it has not signed go, and so do signatures of keys that are replaced.
    """
    stored = cross_signing.keys_of_user(txn, usr)
    if {usage: key.keys for usage, key in stored.items()} != {usage: key.keys for usage, key in seen.items()}:
        return False
    pos = device_lists.record(txn, usr)
    for usage, old in stored.items():
        if usage in new or Usage.MASTER in new:
            cross_signing.delete_signatures_on(txn, usr, old.public)
            cross_signing.delete_signatures_by(txn, usr, old.key_id)
            cross_signing.delete_key(txn, usr, usage)
    for key in new.values():
        cross_signing.put_key(txn, CrossSigningKey(usr, key.usage, key.public, key.keys), pos)
    return True
