# SPDX-License-Identifier: Apache-2.0
"""What a membership event must look like to be taken: the templates that other servers fill in and sign.

https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from collections.abc import Mapping
from typing import Any

from homeserver.protocol.auth_rules import authorize
from homeserver.protocol.auth_selection import auth_keys
from homeserver.protocol.errors import MatrixError, Rejected, forbidden
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.hashing import unpadded
from homeserver.protocol.room_versions import RoomVersion
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.join_rules import DECIDING, CannotGrant, JoinRules
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.snapshot import Snapshot, Snapshots
from homeserver.services.rooms.summary import allowed_rooms
from storage import federation_rooms, names

MEMBER = "m.room.member"
MOST_PREVS = 20
AUTHORIZER = "join_authorised_via_users_server"


class Templates:
    """Makes templates on the rooms as they are now."""

    def __init__(
        self, runtime: Runtime, db: Database, locks: RoomLocks, snapshots: Snapshots, rules: JoinRules
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._locks = locks
        self._snapshots = snapshots
        self._rules = rules

    async def make(self, room_id: str, user_id: str, kind: str) -> tuple[RoomVersion, dict[str, Any]]:
        """An unsigned membership event that the room would take from the user now. Raises M_FORBIDDEN and such."""
        async with self._locks.lock(room_id):
            snapshot = await self._snapshots.get(room_id, [*DECIDING, (MEMBER, user_id)])
            if snapshot is None:
                raise MatrixError(404, "M_NOT_FOUND", "This server is not in the room")
            content: dict[str, Any] = {"membership": kind}
            if kind == "join":
                authorizer = await self.authorizer(user_id, _state(snapshot))
                if authorizer is not None:
                    content[AUTHORIZER] = authorizer
            return snapshot.version, await self._filled(snapshot, user_id, content)

    async def _filled(self, snapshot: Snapshot, user_id: str, content: dict[str, Any]) -> dict[str, Any]:
        version = snapshot.version
        keys = auth_keys(version, MEMBER, user_id, user_id, content)
        await self._snapshots.need(snapshot, keys)
        entries = [entry for key in keys if (entry := snapshot.entries[key]) is not None]
        prevs = [snapshot.refs[head.event] for head in snapshot.heads[-MOST_PREVS:]]
        auth = [entry.event.ref() for entry in entries]

        def cited(refs: list[Any]) -> list[Any]:
            if not version.references_carry_hashes:
                return [ref.event_id for ref in refs]
            return [[ref.event_id, {"sha256": unpadded(ref.reference_hash)}] for ref in refs]

        pdu = {
            "type": MEMBER,
            "sender": user_id,
            "state_key": user_id,
            "room_id": snapshot.room_id,
            "content": content,
            "prev_events": cited(prevs),
            "auth_events": cited(auth),
            "depth": min(snapshot.depth + 1, version.max_depth),
            "origin_server_ts": self._runtime.now_ms(),
        }
        state = {**_state(snapshot), **{entry.event.key: entry.event for entry in entries if entry.event.key}}
        try:
            authorize(version, Event(version, pdu, "$template"), state)
        except Rejected as refused:
            raise forbidden(refused.reason) from refused
        return pdu

    async def authorizer(self, user_id: str, current: Mapping[StateKey, Event]) -> str | None:
        """The local user in whose name a join is allowed; None where none is needed.

        Raises M_FORBIDDEN, M_UNABLE_TO_AUTHORISE_JOIN when this server cannot tell, and M_UNABLE_TO_GRANT_JOIN.
        """
        before = current.get((MEMBER, user_id))
        standing = before.content.get("membership") if before is not None else "leave"
        usr = await self._db.point(names.user_nid, user_id)
        user = User(user_id, -1 if usr is None else usr, None, 0)
        try:
            return await self._rules.authorizer(user, current, standing if isinstance(standing, str) else "leave")
        except MatrixError as error:
            raise await self._as_told(error, current) from None

    async def _as_told(self, error: MatrixError, current: Mapping[StateKey, Event]) -> MatrixError:
        rule = current.get(("m.room.join_rules", ""))
        allowed = allowed_rooms(rule.content.get("allow")) if rule is not None else []
        if isinstance(error, CannotGrant):
            return MatrixError(400, "M_UNABLE_TO_GRANT_JOIN", "Nobody on this server can let the user in")
        for room_id in allowed:
            if await self._db.point(federation_rooms.resident, room_id) is not None:
                return error
        return MatrixError(400, "M_UNABLE_TO_AUTHORISE_JOIN", "This server is in none of the rooms that let users in")


def _state(snapshot: Snapshot) -> dict[StateKey, Event]:
    return {key: entry.event for key, entry in snapshot.entries.items() if entry is not None}
