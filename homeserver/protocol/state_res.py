# SPDX-License-Identifier: Apache-2.0
"""Which algorithm settles a fork in which room version."""

from collections.abc import Container, Mapping, Sequence

from homeserver.protocol import state_res_v1, state_res_v2
from homeserver.protocol.conflicts import StateIds
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion, StateResolution


def resolve(
    version: RoomVersion, state_sets: Sequence[StateIds], events: Mapping[str, Event], rejected: Container[str] = ()
) -> dict[StateKey, str]:
    """The resolution of room states by the room's algorithm; raises MissingEvents.

    `events` needs the states' auth chains (room version 1: the conflicted events and those that authorize them).
    """
    if version.state_resolution is StateResolution.V1:
        return state_res_v1.resolve(version, state_sets, events)
    return state_res_v2.resolve(version, state_sets, events, rejected)
