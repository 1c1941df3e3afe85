# SPDX-License-Identifier: Apache-2.0
"""What other servers send: transactions of events and EDUs, each taken once and answered event by event.

https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import orjson
from twisted.internet.defer import Deferred

from federation.inbound.acl import ServerAcls
from federation.inbound.admission import Admission, as_object, claimed_id
from federation.inbound.gaps import Gaps
from federation.together import together
from homeserver.http.endpoint import Call, Server, endpoint
from homeserver.protocol.errors import MatrixError, bad_json
from homeserver.protocol.ids import is_room_id
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from storage import federation_answers, federation_rooms

_log = logging.getLogger(__name__)

MOST_PDUS, MOST_EDUS = 50, 100
LONGEST_NAME = 255


class Edus(Protocol):
    """Takes what is no event."""

    async def take(self, origin: str, edu: Mapping[str, Any]) -> None: ...


class Withdrawals(Protocol):
    """Takes what is sent about rooms that this server is not in: an invite may be taken back."""

    async def withdrawn(self, origin: str, room_id: str, version: RoomVersion, pdu: object) -> str | None: ...


@attrs.frozen
class Takers:
    """Who takes what transactions bring."""

    gaps: Gaps
    edus: Edus
    invites: Withdrawals


class Transactions:
    """The endpoint; what is inside goes its own ways."""

    def __init__(self, runtime: Runtime, db: Database, admission: Admission, acls: ServerAcls, takers: Takers) -> None:
        self._runtime = runtime
        self._db = db
        self._admission = admission
        self._acls = acls
        self._takers = takers
        self._running: dict[tuple[str, str], list[Deferred[bytes]]] = {}

    @endpoint("PUT", "/_matrix/federation/v1/send/{txnId}", limit=None)
    async def send(self, caller: Server, call: Call) -> bytes:
        body = as_object(caller.content)
        pdus, edus = body.get("pdus", []), body.get("edus", [])
        if not isinstance(pdus, list) or not isinstance(edus, list):
            raise bad_json("pdus and edus must be arrays")
        if len(pdus) > MOST_PDUS or len(edus) > MOST_EDUS:
            raise bad_json(f"A transaction has at most {MOST_PDUS} PDUs and {MOST_EDUS} EDUs")
        if body.get("origin", caller.name) != caller.name:
            raise MatrixError(403, "M_FORBIDDEN", "The transaction is of another server")
        name = call.params["txnId"][:LONGEST_NAME]
        return await self._once(caller.name, name, pdus, edus)

    async def _once(self, origin: str, name: str, pdus: Sequence[object], edus: Sequence[object]) -> bytes:
        others = self._running.get((origin, name))
        if others is not None:
            waiting: Deferred[bytes] = Deferred()
            others.append(waiting)
            return await waiting
        self._running[(origin, name)] = []
        try:
            answer = await self._db.point(federation_answers.find, origin, name)
            if answer is None:
                answer = orjson.dumps({"pdus": await self._take(origin, pdus, edus)})
                await self._db.write(federation_answers.keep, origin, name, answer, self._runtime.now_ms())
        except BaseException as error:
            for one in self._running.pop((origin, name)):
                one.errback(error if isinstance(error, Exception) else MatrixError(500, "M_UNKNOWN", "Interrupted"))
            raise
        for one in self._running.pop((origin, name)):
            one.callback(answer)
        return answer

    async def _take(self, origin: str, pdus: Sequence[object], edus: Sequence[object]) -> dict[str, Any]:
        by_room: dict[str, list[object]] = {}
        results: dict[str, Any] = {}
        for pdu in pdus:
            room_id = room_of(pdu)
            if room_id is None:
                _log.info("%s sends an event without a room", origin)
            else:
                by_room.setdefault(room_id, []).append(pdu)
        for answered in await together(self._take_room(origin, room, found) for room, found in by_room.items()):
            results |= answered
        for edu in edus:
            if isinstance(edu, dict):
                try:
                    await self._takers.edus.take(origin, edu)
                except MatrixError as error:
                    _log.debug("an EDU of %s was dropped: %s", origin, error)
        return results

    async def _take_room(self, origin: str, room_id: str, pdus: Sequence[object]) -> dict[str, Any]:
        """Event id → {} or {"error": why}."""
        resident = await self._db.point(federation_rooms.resident, room_id)
        named = await self._db.point(federation_rooms.version_of, room_id)
        version = lookup(named)
        if version is None:
            return {}
        if resident is None:
            return await self._take_outside(origin, room_id, version, pdus)
        if not await self._acls.permits(room_id, origin):
            return _all(version, pdus, "Your server is denied by the room's server ACL")
        admitted = await self._admission.admit(version, pdus, room_id)
        results: dict[str, Any] = {event_id: {"error": why} for event_id, why in admitted.refused.items()}
        taken = await self._takers.gaps.take(origin, room_id, list(admitted.events.values()))
        for event_id, why in taken.items():
            results[event_id] = {} if why is None else {"error": why}
        return results

    async def _take_outside(
        self, origin: str, room_id: str, version: RoomVersion, pdus: Sequence[object]
    ) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for pdu in pdus:
            event_id = claimed_id(version, pdu)
            if event_id is not None:
                why = await self._takers.invites.withdrawn(origin, room_id, version, pdu)
                results[event_id] = {} if why is None else {"error": why}
        return results


def room_of(pdu: object) -> str | None:
    """The room that a PDU says to be of."""
    room_id = pdu.get("room_id") if isinstance(pdu, dict) else None
    return room_id if isinstance(room_id, str) and is_room_id(room_id) else None


def _all(version: RoomVersion, pdus: Sequence[object], why: str) -> dict[str, Any]:
    named = (claimed_id(version, pdu) for pdu in pdus)
    return {event_id: {"error": why} for event_id in named if event_id is not None}
