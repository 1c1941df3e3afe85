# SPDX-License-Identifier: Apache-2.0
"""Knows, without a query, whether anything happened that a waiting client is to be told of, and of which kind."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from homeserver.services.streams import Streams
from homeserver.services.sync.joined import JoinedRooms
from homeserver.services.sync.tokens import SyncToken
from homeserver.services.typing import Typing


@attrs.frozen(slots=True)
class News:
    """What may have changed for one device since a token.

    `rooms` are those with any news, `moved` those of them where people came or went, `state_rooms` and `receipt_rooms`
    those (of all) with such news; None when memory does not reach back.
    """

    rooms: frozenset[int] | None
    memberships: bool
    own: bool
    private_reads: bool
    device_lists: bool
    presence: bool
    typing_changed: frozenset[int]
    backlog: bool
    state_rooms: frozenset[int] | None = None
    receipt_rooms: frozenset[int] | None = None
    moved: frozenset[int] | None = frozenset()

    def __bool__(self) -> bool:
        return bool(
            self.rooms is None
            or self.rooms
            or self.own
            or self.device_lists
            or self.presence
            or self.typing_changed
            or self.backlog
        )


class Newsroom:
    """Compares tokens with the memory of recent changes."""

    def __init__(self, streams: Streams, joined: JoinedRooms, typing: Typing) -> None:
        self._streams = streams
        self._joined = joined
        self._typing = typing

    def since(self, usr: int, device: int, since: SyncToken, rooms: frozenset[int]) -> News:
        """What may have changed for a user who is joined to `rooms`."""
        streams = self._streams
        changed = streams.rooms_since(since.pos)
        memberships = streams.membership_changed(usr, since.pos)
        moved = streams.movements_since(since.pos)
        if moved is not None:
            moved &= rooms
        return News(
            rooms=None if changed is None else changed & rooms,
            memberships=memberships,
            own=streams.own_changed(usr, device, since.pos),
            private_reads=streams.unread_changed(usr, since.pos),
            device_lists=memberships
            or moved is None
            or bool(moved)
            or self._neighbor_changed("device_list", usr, since.pos, rooms),
            presence=moved is None or bool(moved) or self._neighbor_changed("presence", usr, since.pos, rooms),
            typing_changed=self._typing_changed(since, rooms),
            backlog=since.to_device is not None,
            state_rooms=streams.rooms_with("state", since.pos),
            receipt_rooms=streams.rooms_with("receipt", since.pos),
            moved=moved,
        )

    def everything(self, rooms: frozenset[int]) -> News:
        """What to tell a client that starts."""
        return News(None, True, True, True, False, True, self._typing.active_rooms() & rooms, False)

    def typing_in(self, rooms: Collection[int]) -> dict[int, list[str]]:
        return self._typing.in_rooms(rooms)

    def active_typing(self, rooms: frozenset[int]) -> frozenset[int]:
        """The rooms of these in which somebody types now."""
        return self._typing.active_rooms() & rooms

    def _typing_changed(self, since: SyncToken, rooms: frozenset[int]) -> frozenset[int]:
        changed = self._streams.typing_since(since.ephemeral)
        if changed is not None:
            return changed & rooms if changed else changed
        # A token of an earlier run: whoever typed then does not any more.
        return rooms if since.typing else self._typing.active_rooms() & rooms

    def _neighbor_changed(self, stream: str, usr: int, since: int, rooms: frozenset[int]) -> bool:
        """Whether somebody who may share a room with the user changed in a shared stream."""
        changed = self._streams.users_since(stream, since)
        if changed is None:
            return True
        for other in changed:
            theirs = self._joined.known(other)
            if other == usr or theirs is None or not theirs.isdisjoint(rooms):
                return True
        return False
