# SPDX-License-Identifier: Apache-2.0
"""Rule 10 of the authorization rules: who may change which power level.

Rules are numbered as in room version 12, https://spec.matrix.org/v1.18/rooms/v12/#authorisation-rules.
"""

from collections.abc import Mapping
from typing import Any

from homeserver.protocol.errors import Rejected
from homeserver.protocol.events import Event
from homeserver.protocol.ids import is_user_id
from homeserver.protocol.power_levels import DEFAULTS, PowerLevels, creators_of, parse_level
from homeserver.protocol.room_versions import RoomVersion


def check_power_levels(version: RoomVersion, event: Event, create: Event, current: PowerLevels) -> None:
    """Raise Rejected unless the sender may put these power levels in place of the current ones."""
    content = event.content
    if version.integer_levels:
        _check_integers(content)
    _check_users(version, content)
    # "10.4 If the users property in content contains the sender of the m.room.create event or any of the
    # additional_creators array (if present) from the content of the m.room.create event, reject."
    if version.creators_are_privileged:
        users = content.get("users", {})
        if any(creator in users for creator in creators_of(version, create)):
            raise Rejected("10.4", "The level of a creator cannot be stated")
    # "10.5 If there is no previous m.room.power_levels event in the room, allow."
    if current.event is None:
        return
    old = current.event.content
    level = current.user(event.sender)
    # "10.6 For the properties users_default, events_default, state_default, ban, redact, kick, invite check if they
    # were added, changed or removed."
    _check_changes(version, "10.6", _named_levels(old), _named_levels(content), level)
    # "10.7 For each entry being changed in, or removed from, the events or notifications properties"
    # "10.8 For each entry being added to, or changed in, the events or notifications properties"
    _check_changes(version, "10.7", _object(old, "events"), _object(content, "events"), level)
    if version.notifications_levels_protected:
        _check_changes(version, "10.7", _object(old, "notifications"), _object(content, "notifications"), level)
    _check_user_changes(version, event.sender, _object(old, "users"), _object(content, "users"), level)


def _check_integers(content: Mapping[str, Any]) -> None:
    # "10.1 If any of the properties users_default, events_default, state_default, ban, redact, kick, or invite in
    # content are present and not an integer, reject."
    for name in DEFAULTS:
        if name in content and type(content[name]) is not int:
            raise Rejected("10.1", f"{name} is not an integer")
    # "10.2 If either of the properties events or notifications in content are present and not an object with values
    # that are integers, reject."
    for name in ("events", "notifications"):
        if name in content:
            levels = content[name]
            if not isinstance(levels, dict) or any(type(level) is not int for level in levels.values()):
                raise Rejected("10.2", f"{name} is not an object of integers")


def _check_users(version: RoomVersion, content: Mapping[str, Any]) -> None:
    # "10.3 If the users property in content is not an object with keys that are valid user IDs with values that are
    # integers, reject." In older versions a level may also be a string, and in the oldest a float.
    users = content.get("users", {})
    if not isinstance(users, dict):
        raise Rejected("10.3", "users is not an object")
    for user_id, level in users.items():
        if type(level) is not int and parse_level(version, level) is None:
            raise Rejected("10.3", f"The level of {user_id} is not an integer")
        if not is_user_id(user_id):
            raise Rejected("10.3", f"{user_id!r} is not a user id")


def _check_changes(
    version: RoomVersion, rule: str, old: Mapping[str, Any], new: Mapping[str, Any], sender_level: float
) -> None:
    """No value that is added, changed or removed may be above the sender, before or after."""
    for name, before, after in _changes(version, old, new):
        # "If the current value is higher than the sender's current power level, reject."
        # "If the new value is higher than the sender's current power level, reject."
        if before is not None and before > sender_level:
            raise Rejected(rule, f"The current level of {name} is above that of the sender")
        if after is not None and after > sender_level:
            raise Rejected(rule, f"The new level of {name} is above that of the sender")


def _check_user_changes(
    version: RoomVersion, sender: str, old: Mapping[str, Any], new: Mapping[str, Any], sender_level: float
) -> None:
    for user_id, before, after in _changes(version, old, new):
        # "10.9 For each entry being changed in, or removed from, the users property, other than the sender's own entry:
        # If the current value is greater than or equal to the sender's current power level, reject."
        if before is not None and user_id != sender and before >= sender_level:
            raise Rejected("10.9", f"The level of {user_id} is not below that of the sender")
        # "10.10 For each entry being added to, or changed in, the users property: If the new value is greater than the
        # sender's current power level, reject."
        if after is not None and after > sender_level:
            raise Rejected("10.10", f"The new level of {user_id} is above that of the sender")


def _changes(
    version: RoomVersion, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, int | None, int | None]]:
    """(name, level before, level after) of what differs; None where there is no entry."""
    changes = []
    for name in {**old, **new}:
        value, other = old.get(name), new.get(name)
        if value is other or (type(value) is int and type(other) is int and value == other):
            continue
        before, after = _level(version, name, value), _level(version, name, other)
        if before != after:
            changes.append((name, before, after))
    return changes


def _level(version: RoomVersion, name: str, value: object) -> int | None:
    if value is None:
        return None
    level = parse_level(version, value)
    if level is None:
        raise Rejected("10.3", f"The level of {name} is not an integer")
    return level


def _named_levels(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content[name] for name in DEFAULTS if name in content}


def _object(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise Rejected("10.2", f"{name} is not an object")
    return value
