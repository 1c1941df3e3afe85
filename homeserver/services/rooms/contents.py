# SPDX-License-Identifier: Apache-2.0
"""Which contents the rules of some room version let pass and this server still does not write for its users."""

from collections.abc import Mapping
from typing import Any

from homeserver.protocol.errors import bad_json
from homeserver.protocol.events import Draft
from homeserver.protocol.power_levels import DEFAULTS

TABLES = ("users", "events", "notifications")


def check_content(draft: Draft) -> None:
    """Raises M_BAD_JSON for a second create event, and for power levels that are not integers."""
    if draft.type == "m.room.create":
        # "A client must not be able to send a second m.room.create."
        raise bad_json("A room has one create event, made with it")
    if draft.type == "m.room.power_levels" and draft.state_key == "":
        check_power_levels(draft.content)


def check_power_levels(content: Mapping[str, Any]) -> None:
    """ "A server must never itself write levels as strings or floats", also where old room versions take them."""
    for name in DEFAULTS:
        if name in content and type(content[name]) is not int:
            raise bad_json(f"{name} must be an integer")
    for table in TABLES:
        levels = content.get(table, {})
        if not isinstance(levels, dict):
            raise bad_json(f"{table} must be an object")
        for name, level in levels.items():
            if type(level) is not int:
                raise bad_json(f"{table}.{name} must be an integer")
