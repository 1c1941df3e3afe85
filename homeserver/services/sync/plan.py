# SPDX-License-Identifier: Apache-2.0
"""The values that a sync's answer is made from: who asks, between which points, and about which rooms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from homeserver.protocol.filters import Filter
from homeserver.protocol.ignoring import InvitePolicy
from homeserver.services.callers import User
from homeserver.services.sync.tokens import SyncToken
from storage.sync_reads import EventRow, Membership


@attrs.frozen(slots=True)
class Request:
    """One `/sync` request as its client sent it; `timeout` in seconds."""

    user: User
    filter: Filter
    since: SyncToken | None = None
    timeout: float = 0.0
    full_state: bool = False
    state_after: bool = False
    set_presence: str = "online"


@attrs.frozen(slots=True)
class Plan:
    """What to answer: everything in (since, upto] that concerns the user and the device.

    `rooms` are the joined rooms with something new, None when memory does not know; the flags say which other parts
    may have changed, `state_rooms` and `receipt_rooms` the rooms where state or receipts did. `typing` is who types in
    the rooms where somebody does, `typing_changed` where that changed. `standings` are those to the joined rooms, as
    far as they are known.
    """

    request: Request
    since: SyncToken | None
    upto: SyncToken
    rooms: frozenset[int] | None
    memberships: bool
    own: bool
    private_reads: bool
    device_lists: bool
    ignored: frozenset[str]
    invites: InvitePolicy
    typing: Mapping[int, list[str]]
    typing_changed: frozenset[int]
    standings: Mapping[int, Membership] = attrs.field(factory=dict)
    state_rooms: frozenset[int] | None = None
    receipt_rooms: frozenset[int] | None = None

    @property
    def after(self) -> int:
        """The position that the client has, 0 when it has nothing."""
        return 0 if self.since is None else self.since.pos

    @property
    def usr(self) -> int:
        return self.request.user.usr


@attrs.frozen(slots=True)
class RoomAsk:
    """One room to answer about: its events in (after, upto], `after` None for a client that knows nothing of it.

    `full` asks for the whole state; `newly` says that the user joined since the last answer. For a room that the user
    has left, `upto` is where the user left.
    """

    room: int
    room_id: str
    standing: Membership
    after: int | None
    upto: int
    full: bool
    joined: bool = True
    newly: bool = False


@attrs.frozen(slots=True)
class Timeline:
    """The events of a room for one answer, oldest first; `start` is the point in the room's order before them.

    `sifted` says that something in between is not shown. `frames` keeps events as they were rendered for one member,
    while the next ones ask for the same.
    """

    rows: tuple[EventRow, ...]
    limited: bool
    start: int
    sifted: bool = False
    frames: dict[int, tuple[int, Any]] = attrs.field(factory=dict, eq=False)
