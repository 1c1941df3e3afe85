# SPDX-License-Identifier: Apache-2.0
"""Knows which rooms stopped wanting guests, and has them leave."""

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from homeserver.protocol.errors import MatrixError
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.join_rules import GUEST_ACCESS
from homeserver.services.rooms.membership import Membership
from homeserver.services.rooms.read import current_content
from storage import accounts, names, participation
from storage.db import Change
from storage.txn import Txn

log = logging.getLogger(__name__)

Background = Callable[[str, Coroutine[Deferred[Any], Any, object]], None]


class GuestEviction:
    """Follows changes of state.

    "If the m.room.guest_access event is changed to stop this from being the case, the server MUST set those users'
    m.room.member state to leave."
    """

    def __init__(self, db: Database, membership: Membership, background: Background) -> None:
        self._db = db
        self._membership = membership
        self._background = background

    def follow(self, position: int, changes: Sequence[Change]) -> None:
        """Take in one commit."""
        rooms = {change.room for change in changes if change.stream == "state" and change.room is not None}
        for room in rooms:
            self._background("letting guests go", self._check(room))

    async def _check(self, room: int) -> None:
        guests = await self._db.point(_unwanted_guests, room)
        if guests:
            room_id = await self._db.point(names.room_id, room)
            for guest in guests:
                try:
                    await self._membership.leave(guest, room_id)
                except MatrixError as refused:
                    log.warning("the guest %s could not leave %s: %s", guest.user_id, room_id, refused)


def _unwanted_guests(txn: Txn, room: int) -> list[User]:
    """The guests in a room that wants none."""
    usrs = participation.guests_in(txn, room, accounts.GUEST)
    if not usrs:
        return []
    content = current_content(txn, room, GUEST_ACCESS)
    if content is not None and content.get("guest_access") == "can_join":
        return []
    return [User(user_id, usr, None, 0, is_guest=True) for usr, user_id in names.user_ids(txn, usrs).items()]
