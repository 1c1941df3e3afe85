# SPDX-License-Identifier: Apache-2.0
"""The form of an event on the wire: required fields, their types, and all sizes.

https://spec.matrix.org/v1.18/client-server-api/#size-limits and https://spec.matrix.org/v1.18/server-server-api/#pdus
"""

from collections.abc import Mapping
from typing import Any

from homeserver.protocol.errors import too_large
from homeserver.protocol.ids import MAX_ID_BYTES, fits

MAX_EVENT_BYTES = 65536
MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10


def check_draft(pdu: Mapping[str, Any]) -> None:
    """Raise M_TOO_LARGE when a field of an event of our own is longer than 255 bytes."""
    for name in ("type", "sender", "state_key", "room_id", "event_id"):
        value = pdu.get(name)
        if value is not None and not fits(value):
            raise too_large(f"{name} has more than {MAX_ID_BYTES} bytes")
