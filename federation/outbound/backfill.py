# SPDX-License-Identifier: Apache-2.0
"""How the history of a room before this server came into it is fetched, a stretch at a time, when somebody reads it.

https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence

from federation.inbound.admission import Admission
from federation.inbound.gaps import Gaps, Unplaceable, in_order
from federation.outbound.client import Client, segment
from homeserver.protocol.errors import MatrixError, MissingEvents
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import lookup
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure
from homeserver.services.rooms.assess import Verdict
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.receive import Receiver
from storage import federation_rooms, gaps, membership
from storage.gaps import Gap

_log = logging.getLogger(__name__)

MOST_SERVERS = 3
SECONDS = 20.0
REST_MS = 60_000
REMEMBERED = 2_000
DONE = (Verdict.ACCEPTED, Verdict.KNOWN)


class Backfill:
    """Fills holes. One that nothing can be had for is left alone for a minute."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        locks: RoomLocks,
        receiver: Receiver,
        admission: Admission,
        client: Client,
        own: str,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._locks = locks
        self._receiver = receiver
        self._admission = admission
        self._client = client
        self._own = own
        self._gaps = Gaps(runtime, db, locks, receiver, admission, client)
        self._failed: OrderedDict[int, int] = OrderedDict()
        # One fetches for a room at a time; the room itself is locked for moments only.
        self._turns = RoomLocks()

    async def fetch_before(self, room_id: str, gap: Gap, limit: int) -> bool:
        """Fetch events into a hole; whether some came."""
        if self._failed.get(gap.nid, 0) > self._runtime.now_ms():
            return False
        async with self._turns.lock(room_id):
            now = await self._db.point(gaps.newest, gap.room, gap.next_ord)
            if now != gap:
                return True  # somebody else has fetched meanwhile
            for server in await self._servers(gap.room):
                try:
                    if await self._fetch(server, room_id, gap, limit):
                        return True
                except (RemoteFailure, MatrixError, Unplaceable) as error:
                    _log.info("%s gives no history of %s: %s", server, room_id, error)
        self._failed[gap.nid] = self._runtime.now_ms() + REST_MS
        while len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
        return False

    async def _servers(self, room: int) -> list[str]:
        present = await self._db.read(membership.servers_of_room, room)
        by_size = sorted(present, key=lambda server: (-present[server], server))
        return [server for server in by_size if server != self._own][:MOST_SERVERS]

    async def _fetch(self, server: str, room_id: str, gap: Gap, limit: int) -> bool:
        version = lookup(await self._db.point(federation_rooms.version_of, room_id))
        if version is None:
            return False
        query = [*(("v", one) for one in gap.missing), ("limit", str(limit))]
        path = f"/_matrix/federation/v1/backfill/{segment(room_id)}"
        answer = await self._client.get(server, path, query, seconds=SECONDS)
        pdus = answer.get("pdus") if isinstance(answer, dict) else None
        given = pdus[:limit] if isinstance(pdus, list) else []
        admitted = await self._admission.admit(version, given, room_id)
        return await self._place(server, gap, in_order(admitted.events.values()))

    async def _place(self, server: str, gap: Gap, found: Sequence[Event]) -> bool:
        """Puts events, the oldest first, into the places below the hole; narrows the hole to what is still missing."""
        if not found:
            return False
        places = [gap.next_ord]
        for _ in found[1:]:
            places.append(gaps.below(places[-1]))
        placed: list[Event] = []
        for event, ord_ in zip(found, reversed(places), strict=True):
            if await self._place_one(server, event, ord_):
                placed.append(event)
        cited = {one for event in placed for one in event.prev_event_ids} | set(gap.missing)
        missing = await self._db.read(gaps.without_place, sorted(cited))
        if not placed and missing:
            return False
        await self._db.write(gaps.narrow, gap, gaps.below(places[-1]), missing)
        return True

    async def _place_one(self, server: str, event: Event, ord_: int) -> bool:
        try:
            async with self._locks.lock(event.room_id) as held:
                return (await self._receiver.backfill(held, event, ord_)).verdict in DONE
        except MissingEvents:
            pass
        try:
            state = await self._gaps.state_before(server, event)
            async with self._locks.lock(event.room_id) as held:
                return (await self._receiver.backfill(held, event, ord_, state=state)).verdict in DONE
        except (MissingEvents, Unplaceable, RemoteFailure) as error:
            _log.info("%s of the history of %s cannot be placed: %s", event.event_id, event.room_id, error)
            return False
