# SPDX-License-Identifier: Apache-2.0
"""Knows which rooms a user is in, from memory, and who must wake when a user's devices, presence or profile change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import attrs

from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier
from homeserver.services.streams import SHARED, Change
from storage.sync_reads import Membership, joined_standings

CACHED = 20_000


@attrs.frozen(slots=True)
class Joined:
    """The rooms that one user is joined to, and how the user stands to each."""

    rooms: frozenset[int]
    standings: Mapping[int, Membership]


class JoinedRooms:
    """The rooms each recently seen user is joined to, as of the published position."""

    def __init__(self, runtime: Runtime, db: Database, notifier: Notifier) -> None:
        self._runtime = runtime
        self._db = db
        self._notifier = notifier
        self._rooms: OrderedDict[int, Joined] = OrderedDict()
        self._loading: dict[int, int] = {}
        self._version = 0
        notifier.subscribe(self._published)
        db.on_reset(self._forget)

    async def of(self, usr: int) -> frozenset[int]:
        """The numbers of the rooms that the user is joined to."""
        return (await self.standings(usr)).rooms

    async def standings(self, usr: int) -> Joined:
        """The same with how the user stands to them."""
        known = self._rooms.get(usr)
        if known is not None:
            self._rooms.move_to_end(usr)
            return known
        while True:
            version = self._loading.setdefault(usr, self._version)
            found = await self._db.point(joined_standings, usr)
            if self._loading.get(usr) == version:
                break
        self._loading.pop(usr, None)
        joined = self._rooms[usr] = Joined(frozenset(found), found)
        if len(self._rooms) > CACHED:
            self._rooms.popitem(last=False)
        return joined

    def known(self, usr: int) -> frozenset[int] | None:
        """The same when it is in memory, else None."""
        joined = self._rooms.get(usr)
        return None if joined is None else joined.rooms

    def _published(self, _position: int, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.user is None:
                continue
            if change.stream == "membership":
                self._rooms.pop(change.user, None)
                if change.user in self._loading:
                    self._version += 1
                    self._loading[change.user] = self._version
            elif change.stream in SHARED:
                self._wake_neighbors(change.user)

    def _wake_neighbors(self, usr: int) -> None:
        rooms = self.known(usr)
        if rooms is not None:
            self._notifier.wake_rooms(rooms)
        else:
            self._runtime.background("waking those who share a room", self._wake_when_loaded(usr))

    async def _wake_when_loaded(self, usr: int) -> None:
        self._notifier.wake_rooms(await self.of(usr))

    def _forget(self) -> None:
        self._rooms.clear()
