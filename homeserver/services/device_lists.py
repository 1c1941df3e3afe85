# SPDX-License-Identifier: Apache-2.0
"""How users learn that somebody's devices changed, or that there is somebody new or nobody any more to track.

Sync calls `await device_lists.changed(usr, since, upto)` for `device_lists` of an incremental answer.
"""

from homeserver.services.database import Database
from storage import device_lists, names
from storage.txn import Txn


class DeviceLists:
    """What changed between two positions, for one user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changed(self, usr: int, since: int, upto: int) -> tuple[list[str], list[str]]:
        """User ids of `changed` and of `left` for this user, by what happened in (since, upto]."""
        if since >= upto:
            return [], []
        return await self._database.snapshot(_changed, usr, since, upto)


def _changed(txn: Txn, usr: int, since: int, upto: int) -> tuple[list[str], list[str]]:
    changed, left = device_lists.changed(txn, usr, since, upto)
    user_ids = names.user_ids(txn, [*changed, *left])
    return [user_ids[one] for one in changed], [user_ids[one] for one in left]
