# SPDX-License-Identifier: Apache-2.0
"""Knows how a point in time, and a point in a room, are written in the tokens that clients hold."""

from __future__ import annotations

import attrs

from homeserver.protocol.errors import invalid_param

ORD_BITS = 20
LARGEST = 2**62


@attrs.frozen
class SyncToken:
    """Everything up to `pos` has been delivered, and typing up to the number `ephemeral`.

    Where not all to-device messages fitted, those after `to_device` still wait. `typing` says that somebody was typing
    in a room of the user's, which a server that restarted would not know.
    """

    pos: int
    ephemeral: int = 0
    to_device: int | None = None
    typing: bool = False

    def __str__(self) -> str:
        written = f"s{self.pos}_{self.ephemeral}"
        if self.to_device is not None:
            written = f"{written}_{self.to_device}"
        return written + "t" if self.typing else written

    @property
    def to_device_pos(self) -> int:
        return self.pos if self.to_device is None else self.to_device


def parse_sync_token(text: str) -> SyncToken:
    """Read `s<pos>_<ephemeral>[_<to_device>][t]`; raises M_INVALID_PARAM."""
    parts = text[1:].removesuffix("t").split("_") if text.startswith("s") else []
    if len(parts) not in (2, 3) or not all(_is_number(part) for part in parts):
        raise invalid_param("Invalid sync token")
    numbers = [int(part) for part in parts]
    return SyncToken(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None, text.endswith("t"))


def room_token(ord_: int) -> str:
    """The token of the point just before the event with this order in its room."""
    return f"t{ord_}"


def parse_room_token(text: str) -> int:
    """The order of a point in a room: events below it lie before it. Raises M_INVALID_PARAM.

    Takes the tokens of sync and the positions of sliding sync too, which begin with one.
    """
    if text.startswith("s"):
        return point_after(parse_sync_token(text.partition(".")[0]).pos)
    digits = text[2:] if text.startswith("t-") else text[1:]
    if not text.startswith("t") or not _is_number(digits):
        raise invalid_param("Invalid pagination token")
    return int(text[1:])


def point_after(pos: int) -> int:
    """The point in a room's order just after everything that arrived up to `pos`."""
    return (pos << ORD_BITS) + 1


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < LARGEST
