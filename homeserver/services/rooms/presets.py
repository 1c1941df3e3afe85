# SPDX-License-Identifier: Apache-2.0
"""Which events a new room starts with, in which order, for which wishes.

https://spec.matrix.org/v1.18/client-server-api/#post_matrixclientv3createroom
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from homeserver.protocol.auth_selection import POWER_LEVELS
from homeserver.protocol.errors import bad_json
from homeserver.protocol.events import Draft, StateKey
from homeserver.protocol.room_versions import RoomVersion
from homeserver.services.rooms.contents import check_power_levels

Content = Mapping[str, Any]

PRIVATE = "private_chat"
TRUSTED = "trusted_private_chat"
PUBLIC = "public_chat"
TOMBSTONE_OF_CREATORS = 150


@attrs.frozen
class Preset:
    """What a preset means."""

    join_rule: str
    guest_access: str
    invite_level: int
    invitees_are_equal: bool = False


PRESETS: Mapping[str, Preset] = {
    PRIVATE: Preset("invite", "can_join", 0),
    TRUSTED: Preset("invite", "can_join", 0, invitees_are_equal=True),
    PUBLIC: Preset("public", "forbidden", 50),
}


@attrs.frozen
class InitialState:
    """One entry of `initial_state`."""

    type: str
    state_key: str
    content: Content

    @property
    def key(self) -> StateKey:
        return (self.type, self.state_key)


@attrs.frozen(kw_only=True)
class Wishes:
    """What a room is asked to be; `preset` is decided already, `alias` is the whole alias."""

    preset: str = PRIVATE
    alias: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: Sequence[str] = ()
    creation_content: Content = attrs.field(factory=dict)
    initial_state: Sequence[InitialState] = ()
    is_direct: bool = False
    power_levels: Content | None = None
    """Laid over the default power levels."""


def create_content(version: RoomVersion, creator: str, wishes: Wishes) -> dict[str, Any]:
    """The content of `m.room.create`."""
    # "The server will overwrite the following keys: creator, room_version."
    content = {key: value for key, value in wishes.creation_content.items() if key not in ("creator", "room_version")}
    content["room_version"] = version.id
    if version.creator_in_content:
        content["creator"] = creator
    if version.creators_are_privileged and PRESETS[wishes.preset].invitees_are_equal:
        # "the server SHOULD combine additional_creators specified here and the invite array [...] deduplicating"
        given = content.get("additional_creators", [])
        if not isinstance(given, list):
            raise bad_json("additional_creators must be a list of user ids")
        together = [user for user in dict.fromkeys([*map(str, given), *wishes.invite]) if user != creator]
        if together:
            content["additional_creators"] = together
    return content


def power_level_content(version: RoomVersion, creator: str, wishes: Wishes) -> dict[str, Any]:
    """The default power levels with the wished ones laid over."""
    preset = PRESETS[wishes.preset]
    users: dict[str, int] = {}
    if not version.creators_are_privileged:
        users[creator] = 100
        if preset.invitees_are_equal:
            users |= dict.fromkeys(wishes.invite, 100)
    content: dict[str, Any] = {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            # "the power level for sending m.room.tombstone events MUST explicitly be higher than state_default"
            "m.room.tombstone": TOMBSTONE_OF_CREATORS if version.creators_are_privileged else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": preset.invite_level,
        "historical": 100,
    }
    return {**content, **(wishes.power_levels or {})}


def initial_drafts(version: RoomVersion, creator: str, profile: Content, wishes: Wishes) -> list[Draft]:
    """The events of a new room before its invites, in the specification's order."""
    given = {state.key: state.content for state in wishes.initial_state}
    drafts = [
        Draft("m.room.create", create_content(version, creator, wishes), creator, ""),
        Draft("m.room.member", {"membership": "join", **profile}, creator, creator),
    ]

    def add(event_type: str, content: Content) -> None:
        drafts.append(Draft(event_type, dict(content), creator, ""))

    levels = given.pop(POWER_LEVELS, None)
    levels = levels if levels is not None else power_level_content(version, creator, wishes)
    check_power_levels(levels)
    add("m.room.power_levels", levels)
    if wishes.alias is not None and ("m.room.canonical_alias", "") not in given:
        add("m.room.canonical_alias", {"alias": wishes.alias})
    preset = PRESETS[wishes.preset]
    defaults: tuple[tuple[str, Content], ...] = (
        ("m.room.join_rules", {"join_rule": preset.join_rule}),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.guest_access", {"guest_access": preset.guest_access}),
    )
    for event_type, content in defaults:
        if (event_type, "") not in given:  # "Takes precedence over events set by preset"
            add(event_type, content)
    # "but gets overridden by name and topic keys"
    if wishes.name is not None:
        given.pop(("m.room.name", ""), None)
    if wishes.topic is not None:
        given.pop(("m.room.topic", ""), None)
    drafts += [Draft(event_type, dict(content), creator, key) for (event_type, key), content in given.items()]
    if wishes.name is not None:
        add("m.room.name", {"name": wishes.name})
    if wishes.topic is not None:
        add("m.room.topic", topic_content(wishes.topic))
    return drafts


def topic_content(topic: str) -> dict[str, Any]:
    """ "an m.room.topic event with a text/plain mimetype" """
    return {"topic": topic, "m.topic": {"m.text": [{"body": topic, "mimetype": "text/plain"}]}}
