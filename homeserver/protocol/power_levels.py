# SPDX-License-Identifier: Apache-2.0
"""How a power level is written, what it defaults to, and who is above all levels.

https://spec.matrix.org/v1.18/client-server-api/#mroompower_levels
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER
from homeserver.protocol.errors import Rejected
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import RoomVersion

CREATOR_LEVEL: Final = math.inf
# The creator's level while there is no power level event, before creators were privileged.
FIRST_CREATOR_LEVEL: Final = 100

DEFAULTS: Final[Mapping[str, int]] = {
    "users_default": 0,
    "events_default": 0,
    "state_default": 50,
    "ban": 50,
    "redact": 50,
    "kick": 50,
    "invite": 0,
}
DEFAULT_NOTIFICATION_LEVEL: Final = 50

# "a single base 10 integer ... optionally with any number of leading zeroes", "optionally prefixed with a single - or
# +"
_INTEGER_TEXT = re.compile(r"[+-]?[0-9]+")
_NO_LEVELS: Final[Mapping[str, Any]] = {}


def parse_level(version: RoomVersion, value: object) -> int | None:
    """The level that a JSON value stands for in this room version; None when it stands for none.

    https://spec.matrix.org/v1.18/rooms/v1/#mroompower_levels-events-accept-values-as-floats
    """
    if type(value) is int:
        return value
    if isinstance(value, str) and version.string_levels:
        text = value.strip()
        if not _INTEGER_TEXT.fullmatch(text):
            return None
        try:
            level = int(text)
        except ValueError:  # more digits than Python reads
            return None
        return level if not version.strict_json or abs(level) <= MAX_SAFE_INTEGER else None
    if isinstance(value, float) and version.float_levels and math.isfinite(value):
        return int(value)
    return None


def creators_of(version: RoomVersion, create_event: Event) -> frozenset[str]:
    """Who created the room; from version 12 on with the additional creators."""
    if version.creators_are_privileged:
        additional = create_event.content.get("additional_creators")
        listed = (user for user in additional if isinstance(user, str)) if isinstance(additional, list) else ()
        return frozenset((create_event.sender, *listed))
    creator = create_event.content.get("creator") if version.creator_in_content else create_event.sender
    return frozenset((creator,)) if isinstance(creator, str) else frozenset()


class PowerLevels:
    """The levels in force in a room at some moment. Immutable: keep one per power level event and ask it often.

    Levels are integers, or CREATOR_LEVEL for privileged creators. A value of the event that is no level raises
    Rejected when it is asked for, which can happen only in versions before 10.
    """

    __slots__ = ("_content", "_events", "_users", "creators", "event", "version")

    def __init__(self, version: RoomVersion, creators: frozenset[str], event: Event | None) -> None:
        self.version: Final = version
        self.creators: Final = creators
        self.event: Final = event
        self._content: Final[Mapping[str, Any]] = _NO_LEVELS if event is None else event.content
        self._users: Final = self._content.get("users", _NO_LEVELS)
        self._events: Final = self._content.get("events", _NO_LEVELS)

    @classmethod
    def of(cls, version: RoomVersion, create_event: Event | None, power_level_event: Event | None) -> "PowerLevels":
        """The levels that follow from the create event and the power level event, if there is one."""
        creators = frozenset() if create_event is None else creators_of(version, create_event)
        return cls(version, creators, power_level_event)

    def user(self, user_id: str) -> float:
        """The level of a user, who need not be in the room."""
        if user_id in self.creators:
            if self.version.creators_are_privileged:
                return CREATOR_LEVEL
            if self.event is None:
                return FIRST_CREATOR_LEVEL
        users = self._users
        if type(users) is not dict:
            if self.event is not None and users is not _NO_LEVELS:
                raise Rejected("10.3", "The power levels of users are not an object")
            return self._named("users_default")
        value = users.get(user_id)
        if type(value) is int:
            return value
        return self._named("users_default") if value is None else self._level(f"users.{user_id}", value)

    def for_event(self, event_type: str, is_state: bool) -> int:
        """The level required to send an event of this type."""
        events = self._events
        if events is not _NO_LEVELS:
            if type(events) is not dict:
                raise Rejected("8", "The power levels of events are not an object")
            value = events.get(event_type)
            if value is not None:
                return value if type(value) is int else self._level(f"events.{event_type}", value)
        return self._named("state_default" if is_state else "events_default")

    @property
    def ban(self) -> int:
        """The level required to ban and to unban."""
        return self._named("ban")

    @property
    def kick(self) -> int:
        """The level required to kick."""
        return self._named("kick")

    @property
    def invite(self) -> int:
        """The level required to invite."""
        return self._named("invite")

    @property
    def redact(self) -> int:
        """The level required to redact the events of others."""
        return self._named("redact")

    @property
    def users_default(self) -> int:
        """The level of users that are not listed."""
        return self._named("users_default")

    @property
    def events_default(self) -> int:
        """The level required for message events that are not listed."""
        return self._named("events_default")

    @property
    def state_default(self) -> int:
        """The level required for state events that are not listed."""
        return self._named("state_default")

    def notification(self, kind: str) -> int:
        """The level required to trigger a notification of this kind, such as `room`; 50 where nothing valid is said."""
        notifications = self._content.get("notifications")
        value = notifications.get(kind) if isinstance(notifications, dict) else None
        level = None if value is None else parse_level(self.version, value)
        return DEFAULT_NOTIFICATION_LEVEL if level is None else level

    def may_send(self, user_id: str, event_type: str, is_state: bool) -> bool:
        """Whether the user's level suffices for an event of this type."""
        return self.user(user_id) >= self.for_event(event_type, is_state)

    def listed_users(self) -> Mapping[str, float]:
        """Every user whose level is stated: creators that are privileged, and the valid entries of `users`."""
        users = self._users if isinstance(self._users, dict) else {}
        levels: dict[str, float] = {}
        for user_id, value in users.items():
            level = parse_level(self.version, value)
            if level is not None:
                levels[user_id] = level
        if self.version.creators_are_privileged or self.event is None:
            for creator in self.creators:
                levels[creator] = self.user(creator)
        return levels

    def _named(self, name: str) -> int:
        value = self._content.get(name)
        if type(value) is int:
            return value
        return DEFAULTS[name] if value is None else self._level(name, value)

    def _level(self, name: str, value: object) -> int:
        level = parse_level(self.version, value)
        if level is None:
            raise Rejected("8", f"The power level {name} is not valid")
        return level
