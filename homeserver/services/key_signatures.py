# SPDX-License-Identifier: Apache-2.0
"""Which signatures a user may add to which keys after they were published.

A device's keys are signed by its owner's self-signing key, a master key by its owner's devices and by other users'
user-signing keys; everything else is refused, key by key.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import MatrixError, bad_json, invalid_param, not_found
from homeserver.protocol.ids import is_user_id
from homeserver.services.callers import User
from homeserver.services.cross_signing import Keys, is_signed, unsigned_bytes
from homeserver.services.database import Database
from storage import cross_signing, device_keys, device_lists, names
from storage.cross_signing import CrossSigningKey, Signature, Usage
from storage.txn import Txn

#: user id → device id or public key → signed object
SignedObjects = Mapping[str, Mapping[str, Any]]


@attrs.frozen(slots=True)
class Signers:
    """What a user signs with: cross-signing keys, and the identity keys of devices by device id."""

    usr: int
    user_id: str
    keys: Keys
    devices: Mapping[str, bytes]


@attrs.frozen(slots=True)
class Known:
    """What is stored of everything an upload names: the signer's own keys, and other users' master keys by user id."""

    signers: Signers
    masters: Mapping[str, CrossSigningKey]


class KeySignatures:
    """Upload of signatures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user: User, body: SignedObjects) -> dict[str, dict[str, dict[str, Any]]]:
        """Store the signatures that are valid; the failures of the others: user id → key → error."""
        if not all(is_user_id(user_id) and isinstance(objects, dict) for user_id, objects in body.items()):
            raise bad_json("The body must be a map of user ids to objects")
        known = await self._database.read(load, user.usr, user.user_id, list(body))
        accepted: list[Signature] = []
        failures: dict[str, dict[str, dict[str, Any]]] = {}
        for user_id, objects in body.items():
            for target, signed in objects.items():
                try:
                    accepted += examine(known, user_id, target, signed)
                except MatrixError as error:
                    failures.setdefault(user_id, {})[target] = error.body()
        if accepted:
            await self._database.write(store, user.usr, accepted)
        return failures


def load(txn: Txn, usr: int, user_id: str, user_ids: list[str]) -> Known:
    numbers = names.user_nids(txn, user_ids)
    others = {nid: name for name, nid in numbers.items() if nid != usr}
    masters = {others[key.usr]: key for key in cross_signing.keys_of(txn, list(others)) if key.usage is Usage.MASTER}
    devices = {one.device_id: one.keys for one in device_keys.of_users(txn, [usr])}
    return Known(Signers(usr, user_id, cross_signing.keys_of_user(txn, usr), devices), masters)


def examine(known: Known, user_id: str, target: str, signed: object) -> list[Signature]:
    """The signatures to store from one object; raises the error to report for it."""
    if not isinstance(signed, dict):
        raise invalid_param("The signed key must be an object")
    own = known.signers
    if user_id != own.user_id:
        return _on_other_master(known, user_id, target, signed)
    master = own.keys.get(Usage.MASTER)
    if master is not None and target == master.public:
        return _on_own_master(own, master, signed)
    if target in own.devices:
        return _on_own_device(own, target, signed)
    raise not_found("There is no such key")


def _on_own_device(own: Signers, device_id: str, signed: Mapping[str, Any]) -> list[Signature]:
    _require_match(own.devices[device_id], signed)
    return [_signature(own, own.keys.get(Usage.SELF_SIGNING), own.usr, device_id, signed)]


def _on_other_master(known: Known, user_id: str, target: str, signed: Mapping[str, Any]) -> list[Signature]:
    master = known.masters.get(user_id)
    if master is None or master.public != target:
        raise not_found("There is no such master key")
    _require_match(master.keys, signed)
    own = known.signers
    return [_signature(own, own.keys.get(Usage.USER_SIGNING), master.usr, target, signed)]


def _on_own_master(own: Signers, master: CrossSigningKey, signed: Mapping[str, Any]) -> list[Signature]:
    _require_match(master.keys, signed)
    found = []
    for key_id, signature in _signatures_by(own.user_id, signed).items():
        device_id = key_id.removeprefix("ed25519:")
        if device_id not in own.devices:
            continue
        public = orjson.loads(own.devices[device_id])["keys"].get(key_id)
        if public is None or not is_signed(signed, own.user_id, key_id, public):
            raise _invalid_signature()
        found.append(Signature(own.usr, master.public, own.usr, key_id, signature))
    if not found:
        raise _invalid_signature()
    return found


def _signature(
    own: Signers, key: CrossSigningKey | None, target_usr: int, target: str, signed: Mapping[str, Any]
) -> Signature:
    """The signature by one cross-signing key of the uploader."""
    if key is None or not is_signed(signed, own.user_id, key.key_id, key.public):
        raise _invalid_signature()
    return Signature(target_usr, target, own.usr, key.key_id, _signatures_by(own.user_id, signed)[key.key_id])


def _signatures_by(user_id: str, signed: Mapping[str, Any]) -> Mapping[str, str]:
    signatures = signed.get("signatures")
    own = signatures.get(user_id) if isinstance(signatures, dict) else None
    if not isinstance(own, dict):
        return {}
    return {key_id: one for key_id, one in own.items() if key_id.startswith("ed25519:") and isinstance(one, str)}


def _require_match(stored: bytes, signed: Mapping[str, Any]) -> None:
    # "The signed JSON object must match the key previously uploaded or retrieved for the given key ID, with the
    # exception of the signatures property" (v1.19)
    if unsigned_bytes(stored) != unsigned_bytes(signed):
        raise invalid_param("The signed key is not the one that is published")


def _invalid_signature() -> MatrixError:
    return MatrixError(400, "M_INVALID_SIGNATURE", "There is no valid signature that you may add to this key")


def store(txn: Txn, usr: int, accepted: list[Signature]) -> None:
    """Keep the signatures that are new. What the user signed of others is news to the user's own devices only."""
    changed = set()
    for signature in accepted:
        stored = cross_signing.stored_signatures(txn, signature.target_usr, signature.target, usr)
        if stored.get(signature.key_id) != signature.signature:
            cross_signing.add_signature(txn, signature)
            changed.add(signature.target_usr)
    for target_usr in sorted(changed):
        device_lists.record(txn, target_usr, device_lists.EVERYBODY if target_usr == usr else usr)
