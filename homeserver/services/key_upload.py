# SPDX-License-Identifier: Apache-2.0
"""What a device may publish: the shape of identity keys, one-time keys and fallback keys."""

from collections.abc import Mapping
from typing import Any

import attrs

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import bad_json, invalid_param, too_large
from storage import cross_signing, device_keys, device_lists, one_time_keys
from storage.one_time_keys import Key, KeyCounts
from storage.txn import Change, Txn

#: Names of keys and algorithms are parts of database keys, which must not be long.
LONGEST_NAME = 255
#: Clients keep about a hundred one-time keys here.
MOST_KEYS = 1_000


@attrs.frozen(slots=True)
class KeyUpload:
    """What one call publishes; `device_keys` is the JSON of the identity keys, None when the call has none."""

    device_keys: bytes | None
    one_time: tuple[Key, ...]
    fallback: tuple[Key, ...]

    @property
    def is_empty(self) -> bool:
        return self.device_keys is None and not self.one_time and not self.fallback


def parse(user_id: str, device_id: str, body: Mapping[str, Any]) -> KeyUpload:
    """Read the body of an upload by this device; raises M_BAD_JSON or M_INVALID_PARAM."""
    identity = body.get("device_keys")
    fallback = _keys(body, "fallback_keys")
    algorithms = [key.algorithm for key in fallback]
    # "There can only be at most one key per algorithm uploaded" (v1.19, POST /keys/upload)
    if len(algorithms) != len(set(algorithms)):
        raise invalid_param("fallback_keys may have one key for each algorithm")
    return KeyUpload(
        None if identity is None else _identity(user_id, device_id, identity), _keys(body, "one_time_keys"), fallback
    )


def _identity(user_id: str, device_id: str, identity: object) -> bytes:
    if not isinstance(identity, dict):
        raise bad_json("device_keys must be an object")
    if identity.get("user_id") != user_id:
        raise bad_json("device_keys.user_id is not the user who is signed in")
    if identity.get("device_id") != device_id:
        raise bad_json("device_keys.device_id is not the device that is signed in")
    algorithms = identity.get("algorithms")
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise bad_json("device_keys.algorithms must be a list of strings")
    if not _is_string_map(identity.get("keys")):
        raise bad_json("device_keys.keys must be an object of strings")
    signatures = identity.get("signatures")
    if not isinstance(signatures, dict) or not all(_is_string_map(of_user) for of_user in signatures.values()):
        raise bad_json("device_keys.signatures must be an object of objects of strings")
    return canonical_json.encode({name: value for name, value in identity.items() if name != "unsigned"})


def _is_string_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _keys(body: Mapping[str, Any], field: str) -> tuple[Key, ...]:
    keys = body.get(field)
    if keys is None:
        return ()
    if not isinstance(keys, dict):
        raise bad_json(f"{field} must be an object")
    if len(keys) > MOST_KEYS:
        raise too_large(f"{field} may have {MOST_KEYS} keys in one request")
    return tuple(_key(field, name, value) for name, value in keys.items())


def _key(field: str, name: str, value: object) -> Key:
    algorithm, colon, key_id = name.partition(":")
    if not (algorithm and colon and key_id):
        raise invalid_param(f"{field}: {name[:LONGEST_NAME]!r} is not of the form algorithm:key_id")
    if len(name.encode()) > LONGEST_NAME:
        raise invalid_param(f"{field}: the name of a key may have {LONGEST_NAME} bytes")
    if not isinstance(value, str) and not (isinstance(value, dict) and isinstance(value.get("key"), str)):
        raise bad_json(f"{field}: {name!r} must be a string or an object with a string 'key'")
    return Key(algorithm, key_id, canonical_json.encode(value))


def store(txn: Txn, usr: int, device: int, device_id: str, upload: KeyUpload) -> KeyCounts:
    """Publish everything of `upload` or, raising M_INVALID_PARAM, nothing; what the device has afterwards.

    Announces "keys" with user and device where its keys to claim changed, "device_list" where its identity did.
    """
    before = device_keys.of_device(txn, device)
    is_other_device = before is not None and _replaces_identity(before, upload.device_keys)
    if is_other_device:
        one_time_keys.drop_unclaimed(txn, device)
        cross_signing.delete_signatures_on(txn, usr, device_id)
    else:
        _refuse_changed_keys(upload, one_time_keys.stored(txn, device, upload.one_time))
    if upload.device_keys is not None and upload.device_keys != before:
        device_keys.publish(txn, usr, device, upload.device_keys)
        device_lists.record(txn, usr)
    changed = is_other_device
    if upload.one_time:
        changed = one_time_keys.add(txn, device, upload.one_time, txn.position()) > 0 or changed
    for key in upload.fallback:
        changed = one_time_keys.put_fallback(txn, device, key) or changed
    if changed:
        txn.announce(Change(txn.position(), "keys", user=usr, device=device))
    return one_time_keys.counts(txn, device)


def _refuse_changed_keys(upload: KeyUpload, stored: Mapping[str, bytes]) -> None:
    """A key that others may be about to use is not replaced. Clients look for this wording."""
    for key in upload.one_time:
        old = stored.get(key.name)
        if old is not None and old != key.key:
            raise invalid_param(
                f"One time key {key.name} already exists. Old key: {old.decode()}; new key: {key.key.decode()}"
            )


def _replaces_identity(before: bytes, after: bytes | None) -> bool:
    """Whether other identity keys are published under the same device id: then its other keys are of no use."""
    if after is None or after == before:
        return False
    old, new = canonical_json.decode(before, False), canonical_json.decode(after, False)
    return bool(old["keys"] != new["keys"])
