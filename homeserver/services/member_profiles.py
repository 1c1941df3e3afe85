# SPDX-License-Identifier: Apache-2.0
"""How a change of a profile reaches the rooms that the person is in."""

import logging
from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, gatherResults

from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.profiles import Profiles
from homeserver.services.rooms.membership import Case, MemberWriter
from storage import accounts, membership, names
from storage.txn import Change, Txn

AT_ONCE = 16
PATIENCE = 2.0
SHOWN = ("displayname", "avatar_url")

_log = logging.getLogger(__name__)


class MemberProfiles:
    """Follows the stream of profile changes and writes the member events that differ from the profile.

    Changes that come while a person's rooms are being written are taken together in the next round.
    """

    def __init__(self, database: Database, runtime: Runtime, profiles: Profiles, writer: MemberWriter) -> None:
        self._database = database
        self._runtime = runtime
        self._profiles = profiles
        self._writer = writer
        self._changed: dict[int, None] = {}
        self._waiting: dict[int, list[Deferred[None]]] = {}
        self._running: int | None = None

    def follow(self, position: int, changes: Sequence[Change]) -> None:
        """Take in one commit."""
        for change in changes:
            if change.stream == "profile" and change.user is not None:
                self._changed[change.user] = None
        if self._changed and self._running is None:
            self._running = next(iter(self._changed))
            self._runtime.background("telling rooms of a profile", self._run())

    async def told(self, usr: int) -> None:
        """Wait until the person's rooms have their latest profile, but not longer than PATIENCE seconds."""
        if usr not in self._changed and usr != self._running:
            return
        done: Deferred[None] = Deferred()
        self._waiting.setdefault(usr, []).append(done)
        enough = self._runtime.call_later(PATIENCE, self._let_go, usr)
        await done
        if enough.active():
            enough.cancel()

    async def _run(self) -> None:
        try:
            while self._changed:
                self._running = usr = next(iter(self._changed))
                del self._changed[usr]
                await self._update(usr)
                if usr not in self._changed:
                    self._let_go(usr)
        finally:
            self._running = None
            for usr in list(self._waiting):
                self._let_go(usr)

    def _let_go(self, usr: int) -> None:
        for one in self._waiting.pop(usr, ()):
            one.callback(None)

    async def _update(self, usr: int) -> None:
        user, rooms = await self._database.read(_rooms_of, usr)
        if user is None:
            return
        for first in range(0, len(rooms), AT_ONCE):
            chunk = rooms[first : first + AT_ONCE]
            await gatherResults([Deferred.fromCoroutine(self._tell(user, room_id)) for room_id in chunk])

    async def _tell(self, user: User, room_id: str) -> None:
        async def decide(case: Case) -> Mapping[str, object] | None:
            before = case.before
            if before is None or case.membership != "join":
                return None
            wanted = await self._profiles.for_member(user.user_id)
            if all(before.content.get(name) == wanted.get(name) for name in SHOWN):
                return None
            return {"membership": "join", **wanted}

        try:
            await self._writer.change(user, room_id, user.user_id, decide)
        except MatrixError as refused:
            _log.info("the room %s does not take a profile change: %s", room_id, refused)


def _rooms_of(txn: Txn, usr: int) -> tuple[User | None, list[str]]:
    """An open account as a caller, and the rooms it is joined to."""
    account = accounts.by_usr(txn, usr)
    if account is None or account.deactivated:
        return None, []
    rooms = [names.room_id(txn, room) for room in membership.rooms_of_user(txn, usr)]
    return User(account.user_id, usr, None, 0), rooms
