# SPDX-License-Identifier: Apache-2.0
"""Hashes of events and the ids made of them.

https://spec.matrix.org/v1.18/server-server-api/#calculating-the-content-hash-for-an-event
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from homeserver.protocol import canonical_json
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import EventIdFormat, RoomVersion

_NOT_HASHED = frozenset(("unsigned", "signatures", "hashes"))


def unpadded(data: bytes) -> str:
    """Unpadded standard base64."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def unpadded_urlsafe(data: bytes) -> str:
    """Unpadded URL-safe base64."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Bytes of base64 with or without padding, of either alphabet; raises ValueError."""
    if not text.isascii():
        raise ValueError("not base64")
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def content_hash(pdu: Mapping[str, Any]) -> str:
    """SHA-256 of the event without `unsigned`, `signatures` and `hashes`, as unpadded base64."""
    hashed = {key: value for key, value in pdu.items() if key not in _NOT_HASHED}
    return unpadded(hashlib.sha256(canonical_json.encode(hashed)).digest())


def content_hash_matches(pdu: Mapping[str, Any]) -> bool:
    """Whether `hashes.sha256` is the content hash. Where it is not, the redacted form is used instead."""
    hashes = pdu.get("hashes")
    claimed = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(claimed, str):
        return False
    try:
        claimed_bytes = decode_base64(claimed)
    except ValueError:
        return False
    return hmac.compare_digest(claimed_bytes, decode_base64(content_hash(pdu)))


def signed_bytes(version: RoomVersion, pdu: Mapping[str, Any]) -> bytes:
    """What servers sign and what the reference hash is made of: the redacted event without signatures."""
    redacted = redact(version, pdu)
    redacted.pop("signatures", None)
    return canonical_json.encode(redacted)


def reference_hash(version: RoomVersion, pdu: Mapping[str, Any]) -> bytes:
    """SHA-256 over `signed_bytes`."""
    return hashlib.sha256(signed_bytes(version, pdu)).digest()


def event_id(version: RoomVersion, pdu: Mapping[str, Any]) -> str:
    """The id of an event: the field in versions 1 and 2, else made of the reference hash."""
    if version.sends_event_id:
        return str(pdu["event_id"])
    return id_of_hash(version, reference_hash(version, pdu))


def id_of_hash(version: RoomVersion, digest: bytes) -> str:
    """`$` and the reference hash in the alphabet of the room version (3 and later)."""
    if version.event_id_format is EventIdFormat.HASH:
        return "$" + unpadded(digest)
    return "$" + unpadded_urlsafe(digest)
