# SPDX-License-Identifier: Apache-2.0
"""How a closed account gets out of its rooms, however often the server stops meanwhile."""

import logging
from collections.abc import Sequence

from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.membership import Membership
from storage import account_removal, accounts, membership, names
from storage.txn import Change, Txn

_log = logging.getLogger(__name__)


class Departures:
    """Follows the closing of accounts: leaves rooms, rejects invites, takes knocks back, then deletes what was kept."""

    def __init__(self, database: Database, runtime: Runtime, members: Membership) -> None:
        self._database = database
        self._runtime = runtime
        self._members = members
        self._under_way: set[int] = set()

    def follow(self, position: int, changes: Sequence[Change]) -> None:
        """Take in one commit."""
        for change in changes:
            if change.stream == "account" and change.user is not None:
                self._runtime.background("closing an account", self._depart(change.user))

    async def resume(self) -> None:
        """Go on with what a stop interrupted."""
        for usr, _ in await self._database.read(accounts.leaving):
            self._runtime.background("closing an account", self._depart(usr))

    async def _depart(self, usr: int) -> None:
        if usr in self._under_way:
            return
        self._under_way.add(usr)
        try:
            user, rooms = await self._database.read(_rooms_of, usr)
            if user is None:
                return
            for room_id in rooms:
                try:
                    await self._members.leave(user, room_id)
                except MatrixError as refused:
                    _log.warning("the closed account %s could not leave %s: %s", user.user_id, room_id, refused)
            await self._database.write(account_removal.forget_data, usr)
        finally:
            self._under_way.discard(usr)


def _rooms_of(txn: Txn, usr: int) -> tuple[User | None, list[str]]:
    """A closed account that may still be in rooms, as a caller, and those rooms."""
    account = accounts.by_usr(txn, usr)
    if account is None or not account.deactivated:
        return None, []
    kinds = (membership.JOIN, membership.INVITE, membership.KNOCK)
    rooms = [names.room_id(txn, one.room) for one in membership.of_user(txn, usr, kinds)]
    return User(account.user_id, usr, None, 0), rooms
