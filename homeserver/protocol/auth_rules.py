# SPDX-License-Identifier: Apache-2.0
"""The authorization rules in the specification's order: whether a room state allows an event.

Rules are numbered as in room version 12, https://spec.matrix.org/v1.18/rooms/v12/#authorisation-rules, and those that
version 12 no longer has as in version 1 with a prefix, https://spec.matrix.org/v1.18/rooms/v1/#authorisation-rules.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from homeserver.protocol.auth_member import check_member
from homeserver.protocol.auth_power_levels import check_power_levels
from homeserver.protocol.auth_selection import CREATE, POWER_LEVELS, auth_keys_of
from homeserver.protocol.errors import Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.ids import is_user_id, server_of
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion, lookup


def authorize(
    version: RoomVersion,
    event: Event,
    state: Mapping[StateKey, Event],
    levels: PowerLevels | None = None,
) -> None:
    """Raise Rejected unless `state` allows the event.

    `state` needs the keys of `auth_selection.deciding_keys`, the create event always among them. `levels`, when
    given, are those of `state`: a caller that keeps them spares the parsing. Rule 3 is `check_auth_events`; the
    signatures of rule 5.2 belong to those an event must carry to be admitted (`event_signatures`).
    """
    if event.type == "m.room.create":
        _check_create(version, event)
        return
    create = state.get(CREATE)
    if create is None:
        raise Rejected("3.4", "There is no create event")
    # "2. If the event's room_id is not an event ID for an accepted (not rejected) m.room.create event, with the sigil !
    # instead of $, reject."
    if version.room_id_is_create_hash and event.room_id[1:] != create.event_id[1:]:
        raise Rejected("2", "The room id is not that of the create event")
    # "4. If the content of the m.room.create event in the room state has the property m.federate set to false, and the
    # sender domain of the event does not match the sender domain of the create event, reject."
    if create.content.get("m.federate") is False and server_of(event.sender) != server_of(create.sender):
        raise Rejected("4", "This room is not federated")
    # "v1: 4. If type is m.room.aliases"
    if event.type == "m.room.aliases" and version.aliases_are_special:
        _check_aliases(event)
        return
    if levels is None:
        levels = PowerLevels.of(version, create, state.get(POWER_LEVELS))
    # "5. If type is m.room.member"
    if event.type == "m.room.member":
        check_member(version, event, state, create, levels)
        return
    _check_other(version, event, state, create, levels)


def _check_other(
    version: RoomVersion, event: Event, state: Mapping[StateKey, Event], create: Event, levels: PowerLevels
) -> None:
    sender = event.sender
    # "6. If the sender's current membership state is not join, reject."
    member = state.get(("m.room.member", sender))
    if member is None or member.content.get("membership") != "join":
        raise Rejected("6", f"{sender} is not in the room")
    level = levels.user(sender)
    # "7. If type is m.room.third_party_invite: Allow if and only if sender's current power level is greater than or
    # equal to the invite level."
    if event.type == "m.room.third_party_invite":
        if level < levels.invite:
            raise Rejected("7.1", f"{sender} may not invite")
        return
    # "8. If the event type's required power level is greater than the sender's power level, reject."
    state_key = event.state_key
    required = levels.for_event(event.type, state_key is not None)
    if required > level:
        raise Rejected("8", f"{event.type} needs power level {required}, {sender} has {level}")
    # "9. If the event has a state_key that starts with an @ and does not match the sender, reject."
    if state_key is not None and state_key.startswith("@") and state_key != sender:
        raise Rejected("9", "The state key is the id of another user")
    # "10. If type is m.room.power_levels"
    if event.type == "m.room.power_levels":
        check_power_levels(version, event, create, levels)
    # "v1: 11. If type is m.room.redaction"
    elif event.type == "m.room.redaction" and version.redaction_is_auth_rule:
        _check_redaction(event, level, levels)


def check_auth_events(
    version: RoomVersion, event: Event, auth_events: Iterable[Event], rejected: Container[str] = ()
) -> None:
    """Rule 3: raise Rejected unless an event's auth events are the right ones.

    `auth_events` are the events that it cites; `rejected` holds the ids of those that were themselves rejected.
    """
    if event.type == "m.room.create":
        return
    allowed = set(auth_keys_of(event))
    seen: set[StateKey | None] = set()
    for auth_event in auth_events:
        key = auth_event.key
        # "3.1 If there are duplicate entries for a given type and state_key pair, reject."
        if key in seen:
            raise Rejected("3.1", f"Two auth events for {key}")
        seen.add(key)
        # "3.2 If there are entries whose type and state_key don't match those specified by the auth events selection
        # algorithm described in the server specification, reject."
        if key not in allowed:
            raise Rejected("3.2", f"{auth_event.event_id} is not an auth event of this event")
        # "3.3 If there are entries which were themselves rejected under the checks performed on receipt of a PDU,
        # reject."
        if auth_event.event_id in rejected:
            raise Rejected("3.3", f"The auth event {auth_event.event_id} was rejected")
        # "3.5 If any event in auth_events has a room_id which does not match that of the event being authorised,
        # reject."
        if auth_event.room_id != event.room_id:
            raise Rejected("3.5", f"The auth event {auth_event.event_id} is of another room")
    # "v1: 2.4 If there is no m.room.create event among the entries, reject."
    if version.create_in_auth_events and CREATE not in seen:
        raise Rejected("v1:2.4", "The create event is not among the auth events")


def _check_create(version: RoomVersion, event: Event) -> None:
    # "1.1 If it has any prev_events, reject."
    if event.prev_event_ids:
        raise Rejected("1.1", "A create event follows no other event")
    if version.room_id_is_create_hash:
        # "1.2 If the event has a room_id, reject."
        if "room_id" in event.pdu:
            raise Rejected("1.2", "The create event has a room id")
    # "v1: 1.2 If the domain of the room_id does not match the domain of the sender, reject."
    elif server_of(event.room_id) != server_of(event.sender):
        raise Rejected("v1:1.2", "The room id is of another server than the sender")
    # "1.3 If content.room_version is present and is not a recognised version, reject."
    content = event.content
    if "room_version" in content and lookup(content["room_version"]) is None:
        raise Rejected("1.3", "Unknown room version")
    # "v1: 1.4 If content has no creator property, reject."
    if version.creator_in_content and "creator" not in content:
        raise Rejected("v1:1.4", "The create event names no creator")
    # "1.4 If additional_creators is present in content and is not an array of strings where each string passes the same
    # user ID validation applied to sender, reject."
    if version.creators_are_privileged and "additional_creators" in content:
        _check_additional_creators(content["additional_creators"])


def _check_additional_creators(creators: Any) -> None:
    if not isinstance(creators, list) or not all(is_user_id(creator) for creator in creators):
        raise Rejected("1.4", "additional_creators is not a list of user ids")


def _check_aliases(event: Event) -> None:
    # "v1: 4.1 If event has no state_key, reject."
    if event.state_key is None:
        raise Rejected("v1:4.1", "An aliases event is a state event")
    # "v1: 4.2 If sender's domain doesn't match state_key, reject."
    if server_of(event.sender) != event.state_key:
        raise Rejected("v1:4.2", "The aliases are of another server than the sender")


def _check_redaction(event: Event, level: float, levels: PowerLevels) -> None:
    # "v1: 11.1 If the sender's power level is greater than or equal to the redact level, allow."
    if level >= levels.redact:
        return
    # "v1: 11.2 If the domain of the event_id of the event being redacted is the same as the domain of the event_id of
    # the m.room.redaction, allow."
    if event.redacts is not None and server_of(event.redacts) == server_of(event.event_id):
        return
    raise Rejected("v1:11.3", f"{event.sender} may not redact")
