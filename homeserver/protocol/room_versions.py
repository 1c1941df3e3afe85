# SPDX-License-Identifier: Apache-2.0
"""What a room version decides; each version is a difference to the one before.

https://spec.matrix.org/v1.18/rooms/
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import attrs

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER


class EventIdFormat(Enum):
    """Where an event's id comes from."""

    SENT = "sent"  # the `event_id` field of the event
    HASH = "hash"  # reference hash in standard base64
    URLSAFE_HASH = "urlsafe hash"  # reference hash in URL-safe base64


class StateResolution(Enum):
    """The algorithm that settles forks."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


@attrs.frozen(kw_only=True, eq=False)
class RoomVersion:
    """The switches of one room version. Code asks for a switch, never for the version's name."""

    id: str
    event_id_format: EventIdFormat
    # `prev_events` and `auth_events` are pairs of event id and {"sha256": reference hash}
    references_carry_hashes: bool
    state_resolution: StateResolution
    redaction_is_auth_rule: bool
    event_id_server_signs: bool
    key_validity_enforced: bool
    aliases_are_special: bool
    notifications_levels_protected: bool
    strict_json: bool
    max_depth: int
    float_levels: bool
    string_levels: bool
    knocking: bool
    restricted_joins: bool
    knock_restricted_joins: bool
    redaction_keeps_allow: bool
    redaction_keeps_authorizing_user: bool
    creator_in_content: bool
    redacts_in_content: bool
    redaction_of_v11: bool
    creators_are_privileged: bool
    room_id_is_create_hash: bool
    create_in_auth_events: bool

    @property
    def integer_levels(self) -> bool:
        """Power levels are integers and nothing else."""
        return not self.string_levels

    @property
    def sends_event_id(self) -> bool:
        """Events carry their id in the field `event_id`."""
        return self.event_id_format is EventIdFormat.SENT


V1 = RoomVersion(
    id="1",
    event_id_format=EventIdFormat.SENT,
    references_carry_hashes=True,
    state_resolution=StateResolution.V1,
    redaction_is_auth_rule=True,
    event_id_server_signs=True,
    key_validity_enforced=False,
    aliases_are_special=True,
    notifications_levels_protected=False,
    strict_json=False,
    max_depth=2**63 - 1,
    float_levels=True,
    string_levels=True,
    knocking=False,
    restricted_joins=False,
    knock_restricted_joins=False,
    redaction_keeps_allow=False,
    redaction_keeps_authorizing_user=False,
    creator_in_content=True,
    redacts_in_content=False,
    redaction_of_v11=False,
    creators_are_privileged=False,
    room_id_is_create_hash=False,
    create_in_auth_events=True,
)
V2 = attrs.evolve(V1, id="2", state_resolution=StateResolution.V2)
V3 = attrs.evolve(
    V2,
    id="3",
    event_id_format=EventIdFormat.HASH,
    references_carry_hashes=False,
    redaction_is_auth_rule=False,
    event_id_server_signs=False,
)
V4 = attrs.evolve(V3, id="4", event_id_format=EventIdFormat.URLSAFE_HASH)
V5 = attrs.evolve(V4, id="5", key_validity_enforced=True)
V6 = attrs.evolve(
    V5,
    id="6",
    aliases_are_special=False,
    notifications_levels_protected=True,
    strict_json=True,
    max_depth=MAX_SAFE_INTEGER,
    float_levels=False,
)
V7 = attrs.evolve(V6, id="7", knocking=True)
V8 = attrs.evolve(V7, id="8", restricted_joins=True, redaction_keeps_allow=True)
V9 = attrs.evolve(V8, id="9", redaction_keeps_authorizing_user=True)
V10 = attrs.evolve(V9, id="10", knock_restricted_joins=True, string_levels=False)
V11 = attrs.evolve(V10, id="11", creator_in_content=False, redacts_in_content=True, redaction_of_v11=True)
V12 = attrs.evolve(
    V11,
    id="12",
    state_resolution=StateResolution.V2_1,
    creators_are_privileged=True,
    room_id_is_create_hash=True,
    create_in_auth_events=False,
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {version.id: version for version in (V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12)}
)
DEFAULT = V12.id


def lookup(version_id: object) -> RoomVersion | None:
    """The known version with this id."""
    return ROOM_VERSIONS.get(version_id) if isinstance(version_id, str) else None
