# SPDX-License-Identifier: Apache-2.0
"""The form of an event on the wire: required fields, their types, and all sizes.

https://spec.matrix.org/v1.18/client-server-api/#size-limits and https://spec.matrix.org/v1.18/server-server-api/#pdus
"""

from collections.abc import Mapping
from typing import Any, Final

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError, bad_json, too_large
from homeserver.protocol.ids import MAX_ID_BYTES, fits, is_event_id, is_room_id, is_user_id
from homeserver.protocol.room_versions import RoomVersion

# "The complete event MUST NOT be larger than 65536 bytes, when formatted with the federation event format, including
# any signatures, and encoded as Canonical JSON."
MAX_EVENT_BYTES: Final = 65536
MAX_PREV_EVENTS: Final = 20
MAX_AUTH_EVENTS: Final = 10

_LIMITED_FIELDS: Final = ("type", "sender", "state_key", "room_id", "event_id")


def check_draft(pdu: Mapping[str, Any]) -> None:
    """Raise M_TOO_LARGE when a field of an event of our own is longer than 255 bytes."""
    for name in _LIMITED_FIELDS:
        value = pdu.get(name)
        if isinstance(value, str) and not fits(value):
            raise too_large(f"{name} has more than {MAX_ID_BYTES} bytes")


def check_pdu(version: RoomVersion, pdu: object) -> dict[str, Any]:
    """The event of another server, if it has the format of the room version; raises M_BAD_JSON or M_TOO_LARGE."""
    if not isinstance(pdu, dict):
        raise bad_json("An event is an object")
    if version.strict_json:
        canonical_json.check_strict(pdu)
    _check_types(pdu)
    check_draft(pdu)
    if not is_user_id(pdu["sender"]):
        raise bad_json("sender is not a user id")
    _check_ids(version, pdu)
    depth, timestamp = pdu["depth"], pdu["origin_server_ts"]
    if type(depth) is not int or not 0 <= depth <= version.max_depth:
        raise bad_json("depth is out of range")
    # Times are stored in 64 bits.
    if type(timestamp) is not int or not -(2**63) <= timestamp < 2**63:
        raise bad_json("origin_server_ts is not an integer")
    _check_references(version, "prev_events", pdu.get("prev_events"), MAX_PREV_EVENTS)
    _check_references(version, "auth_events", pdu.get("auth_events"), MAX_AUTH_EVENTS)
    size = len(canonical_json.encode(pdu))
    if size > MAX_EVENT_BYTES:
        raise too_large(f"The event has {size} bytes, {MAX_EVENT_BYTES} are allowed")
    return pdu


def is_valid_pdu(version: RoomVersion, pdu: object) -> bool:
    """Whether `check_pdu` passes."""
    try:
        check_pdu(version, pdu)
    except MatrixError:
        return False
    return True


def _check_types(pdu: Mapping[str, Any]) -> None:
    for name in ("type", "sender"):
        if not isinstance(pdu.get(name), str):
            raise bad_json(f"{name} is not a string")
    if "state_key" in pdu and not isinstance(pdu["state_key"], str):
        raise bad_json("state_key is not a string")
    if not isinstance(pdu.get("content"), dict):
        raise bad_json("content is not an object")
    for name in ("depth", "origin_server_ts"):
        if name not in pdu:
            raise bad_json(f"{name} is missing")
    hashes = pdu.get("hashes")
    if not isinstance(hashes, dict) or not isinstance(hashes.get("sha256"), str):
        raise bad_json("hashes has no sha256")
    signatures = pdu.get("signatures")
    if not isinstance(signatures, dict) or not all(isinstance(by_server, dict) for by_server in signatures.values()):
        raise bad_json("signatures is not an object of objects")
    if not isinstance(pdu.get("unsigned", {}), dict):
        raise bad_json("unsigned is not an object")


def _check_ids(version: RoomVersion, pdu: Mapping[str, Any]) -> None:
    if version.sends_event_id:
        event_id = pdu.get("event_id")
        if not is_event_id(event_id) or ":" not in str(event_id):
            raise bad_json("event_id is not an event id")
    # The create event of room version 12 has no room id; that it has none is a matter of the authorization rules.
    if version.room_id_is_create_hash and pdu["type"] == "m.room.create" and pdu.get("state_key") == "":
        return
    if not is_room_id(pdu.get("room_id")):
        raise bad_json("room_id is not a room id")


def _check_references(version: RoomVersion, name: str, references: object, limit: int) -> None:
    if not isinstance(references, list):
        raise bad_json(f"{name} is not a list")
    if len(references) > limit:
        raise bad_json(f"{name} has {len(references)} entries, {limit} are allowed")
    for reference in references:
        if version.references_carry_hashes:
            if not (isinstance(reference, list) and len(reference) == 2 and isinstance(reference[1], dict)):
                raise bad_json(f"{name} is not a list of pairs of event id and hashes")
            reference = reference[0]
        if not (isinstance(reference, str) and reference.startswith("$") and fits(reference)):
            raise bad_json(f"{name} holds something that is not an event id")
