# SPDX-License-Identifier: Apache-2.0
"""What is left of an event when it is redacted, per room version, and when a redaction takes effect.

https://spec.matrix.org/v1.18/rooms/v11/#redactions
"""

from collections.abc import Mapping
from typing import Any

from homeserver.protocol.room_versions import RoomVersion

_KEYS_OF_V11 = frozenset(
    (
        "event_id",
        "type",
        "room_id",
        "sender",
        "state_key",
        "content",
        "hashes",
        "signatures",
        "depth",
        "prev_events",
        "auth_events",
        "origin_server_ts",
    )
)
_KEYS_OF_V1 = _KEYS_OF_V11 | {"prev_state", "origin", "membership"}
_POWER_LEVEL_KEYS = (
    "ban",
    "events",
    "events_default",
    "kick",
    "redact",
    "state_default",
    "users",
    "users_default",
)
# Types whose content survives at least in part in some version.
_PROTECTED_TYPES = frozenset(
    (
        "m.room.member",
        "m.room.create",
        "m.room.join_rules",
        "m.room.power_levels",
        "m.room.history_visibility",
        "m.room.aliases",
        "m.room.redaction",
    )
)


def redact(version: RoomVersion, pdu: Mapping[str, Any]) -> dict[str, Any]:
    """The redacted form of an event; nested values are shared with the original. `unsigned` is gone."""
    kept = _KEYS_OF_V11 if version.redaction_of_v11 else _KEYS_OF_V1
    redacted = {key: value for key, value in pdu.items() if key in kept}
    redacted["content"] = redact_content(version, pdu.get("type"), pdu.get("content"))
    return redacted


def redact_content(version: RoomVersion, event_type: object, content: object) -> dict[str, Any]:
    """The part of the content that survives."""
    if event_type not in _PROTECTED_TYPES or not isinstance(content, dict):
        return {}
    if event_type == "m.room.create" and version.redaction_of_v11:
        return content
    redacted = {key: content[key] for key in _content_keys(version, event_type) if key in content}
    if event_type == "m.room.member" and version.redaction_of_v11:
        # "Additionally, it allows the `signed` key of the `third_party_invite` key."
        invite = content.get("third_party_invite")
        if isinstance(invite, dict):
            redacted["third_party_invite"] = {"signed": invite["signed"]} if "signed" in invite else {}
    return redacted


def applies(sender_level: float, redact_level: int, redaction_sender: str, original_sender: str) -> bool:
    """Whether a redaction that both sides have and allow takes effect (room version 3 and later).

    https://spec.matrix.org/v1.18/rooms/v3/#handling-redactions
    """
    # "1. The power level of the redaction event's sender is greater than or equal to the redact level."
    # "2. The domain of the redaction event's sender matches that of the original event's sender."
    return sender_level >= redact_level or redaction_sender.partition(":")[2] == original_sender.partition(":")[2]


def _content_keys(version: RoomVersion, event_type: object) -> tuple[str, ...]:
    match event_type:
        case "m.room.member":
            if version.redaction_keeps_authorizing_user:
                return ("membership", "join_authorised_via_users_server")
            return ("membership",)
        case "m.room.create":
            return ("creator",)
        case "m.room.join_rules":
            return ("join_rule", "allow") if version.redaction_keeps_allow else ("join_rule",)
        case "m.room.power_levels":
            return (*_POWER_LEVEL_KEYS, "invite") if version.redaction_of_v11 else _POWER_LEVEL_KEYS
        case "m.room.history_visibility":
            return ("history_visibility",)
        case "m.room.aliases":
            return ("aliases",) if version.aliases_are_special else ()
        case "m.room.redaction":
            return ("redacts",) if version.redaction_of_v11 else ()
    return ()
