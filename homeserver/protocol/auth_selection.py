# SPDX-License-Identifier: Apache-2.0
"""Which entries of the room state give an event its permission.

https://spec.matrix.org/v1.18/server-server-api/#auth-events-selection
"""

from collections.abc import Mapping
from typing import Any, Final

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion

CREATE: Final = ("m.room.create", "")
POWER_LEVELS: Final = ("m.room.power_levels", "")
JOIN_RULES: Final = ("m.room.join_rules", "")


def auth_keys(
    version: RoomVersion, event_type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[StateKey]:
    """The (type, state key) pairs whose current events belong in `auth_events`; none for the create event."""
    if event_type == "m.room.create":
        return []
    # "Depending on the room version, the m.room.create event."
    keys: list[StateKey] = [CREATE, POWER_LEVELS] if version.create_in_auth_events else [POWER_LEVELS]
    keys.append(("m.room.member", sender))
    if event_type == "m.room.member" and state_key is not None:
        keys += _member_keys(version, sender, state_key, content)
    return keys


def auth_keys_of(event: Event) -> list[StateKey]:
    """`auth_keys` of an event."""
    return auth_keys(event.version, event.type, event.sender, event.state_key, event.content)


def deciding_keys(event: Event) -> list[StateKey]:
    """The keys that the authorization rules look at: the selected ones, and always the create event."""
    keys = auth_keys_of(event)
    return keys if event.version.create_in_auth_events else [CREATE, *keys]


def _member_keys(version: RoomVersion, sender: str, target: str, content: Mapping[str, Any]) -> list[StateKey]:
    keys: list[StateKey] = []
    if target != sender:
        keys.append(("m.room.member", target))
    membership = content.get("membership")
    if membership in ("join", "invite", "knock"):
        keys.append(JOIN_RULES)
    if membership == "invite":
        # "the current m.room.third_party_invite event with state_key matching
        # content.third_party_invite.signed.token"
        invite = content.get("third_party_invite")
        signed = invite.get("signed") if isinstance(invite, dict) else None
        token = signed.get("token") if isinstance(signed, dict) else None
        if isinstance(token, str):
            keys.append(("m.room.third_party_invite", token))
    if membership == "join" and version.restricted_joins:
        authorizer = content.get("join_authorised_via_users_server")
        if isinstance(authorizer, str) and authorizer not in (sender, target):
            keys.append(("m.room.member", authorizer))
    return keys
