# SPDX-License-Identifier: Apache-2.0
"""The server-default push rules of client-server API v1.19 and of polls (MSC3930), in order of importance."""

from collections.abc import Mapping, Sequence

Json = Mapping[str, object]
#: rule id, conditions, actions; in a condition `None` stands for the user's id.
Definition = tuple[str, Sequence[Json], Sequence[object]]

MASTER = ".m.rule.master"

_SOUND: Json = {"set_tweak": "sound", "value": "default"}
_RING: Json = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT: Json = {"set_tweak": "highlight"}
_ONE_TO_ONE: Json = {"kind": "room_member_count", "is": "2"}
_POLL_START = "org.matrix.msc3381.poll.start"
_POLL_END = "org.matrix.msc3381.poll.end"
_POLL_RESPONSE = "org.matrix.msc3381.poll.response"


def _match(key: str, pattern: str | None) -> Json:
    return {"kind": "event_match", "key": key, "pattern": pattern}


OVERRIDE: tuple[Definition, ...] = (
    (MASTER, (), ()),
    (".m.rule.suppress_notices", (_match("content.msgtype", "m.notice"),), ()),
    (
        ".m.rule.invite_for_me",
        (_match("type", "m.room.member"), _match("content.membership", "invite"), _match("state_key", None)),
        ("notify", _SOUND),
    ),
    (".m.rule.member_event", (_match("type", "m.room.member"),), ()),
    (
        ".m.rule.is_user_mention",
        ({"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": None},),
        ("notify", _SOUND, _HIGHLIGHT),
    ),
    (
        ".m.rule.is_room_mention",
        (
            {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True},
            {"kind": "sender_notification_permission", "key": "room"},
        ),
        ("notify", _HIGHLIGHT),
    ),
    (".m.rule.tombstone", (_match("type", "m.room.tombstone"), _match("state_key", "")), ("notify", _HIGHLIGHT)),
    (".m.rule.reaction", (_match("type", "m.reaction"),), ()),
    (".m.rule.room.server_acl", (_match("type", "m.room.server_acl"), _match("state_key", "")), ()),
    (
        ".m.rule.suppress_edits",
        ({"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"},),
        (),
    ),
    (".org.matrix.msc3930.rule.poll_response", (_match("type", _POLL_RESPONSE),), ()),
)

UNDERRIDE: tuple[Definition, ...] = (
    (".m.rule.call", (_match("type", "m.call.invite"),), ("notify", _RING)),
    (".m.rule.encrypted_room_one_to_one", (_ONE_TO_ONE, _match("type", "m.room.encrypted")), ("notify", _SOUND)),
    (".m.rule.room_one_to_one", (_ONE_TO_ONE, _match("type", "m.room.message")), ("notify", _SOUND)),
    (".m.rule.message", (_match("type", "m.room.message"),), ("notify",)),
    (".m.rule.encrypted", (_match("type", "m.room.encrypted"),), ("notify",)),
    (".org.matrix.msc3930.rule.poll_start_one_to_one", (_ONE_TO_ONE, _match("type", _POLL_START)), ("notify", _SOUND)),
    (".org.matrix.msc3930.rule.poll_start", (_match("type", _POLL_START),), ("notify",)),
    (".org.matrix.msc3930.rule.poll_end_one_to_one", (_ONE_TO_ONE, _match("type", _POLL_END)), ("notify", _SOUND)),
    (".org.matrix.msc3930.rule.poll_end", (_match("type", _POLL_END),), ("notify",)),
)

DEFAULTS: Mapping[str, tuple[Definition, ...]] = {"override": OVERRIDE, "underride": UNDERRIDE}

NOTIFYING_TYPES = frozenset({"m.call.invite", "m.room.message", "m.room.encrypted", _POLL_START, _POLL_END})


def names_user(definition: Definition) -> bool:
    """Whether a default rule's conditions hold the user's id."""
    return any(value is None for condition in definition[1] for value in condition.values())


def conditions_for(definition: Definition, user_id: str) -> tuple[Json, ...]:
    """A default rule's conditions with the user's id filled in."""
    return tuple({name: user_id if value is None else value for name, value in c.items()} for c in definition[1])
