# SPDX-License-Identifier: Apache-2.0
"""How an event from another server gets into its room when what it builds on is not here: that is asked for.

https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore

from federation.inbound.admission import Admission, cited, standing
from federation.outbound.client import Client, segment
from federation.together import together
from homeserver.protocol.errors import MissingEvents
from homeserver.protocol.events import Event, StateKey
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure
from homeserver.services.rooms.assess import Verdict
from homeserver.services.rooms.locks import Held, RoomLocks
from homeserver.services.rooms.receive import Received, Receiver
from storage import federation_history, federation_rooms, names

_log = logging.getLogger(__name__)

MOST_MISSING = 20
MOST_STATE = 200_000
MOST_BY_ONE = 100
AT_ONCE = 8
LARGEST_STATE = 128 << 20
SECONDS = 60.0
MOST_SECONDS = 90.0


class Unplaceable(Exception):
    """The event cannot be put into its room; the text says why."""


class Gaps:
    """Puts events into rooms in order, with what they build on fetched from who sent them."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        locks: RoomLocks,
        receiver: Receiver,
        admission: Admission,
        client: Client,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._locks = locks
        self._receiver = receiver
        self._admission = admission
        self._client = client
        # Who fetches for a room holds this; the room itself is locked for moments only.
        self._feeds = RoomLocks()

    async def take(self, server: str, room_id: str, found: Sequence[Event]) -> dict[str, str | None]:
        """Event id → why it was not accepted, None for those that were (or were known)."""
        results: dict[str, str | None] = {}
        async with self._feeds.lock(room_id):
            until = self._runtime.monotonic() + MOST_SECONDS
            for event in found:
                results[event.event_id] = await self._take_one(server, event, until)
        return results

    async def _take_one(self, server: str, event: Event, until: float) -> str | None:
        try:
            received = await self._placed(server, event, until)
        except Unplaceable as error:
            return str(error)
        except RemoteFailure as failure:
            return f"what it builds on cannot be had: {failure.reason}"
        if received.verdict is Verdict.REJECTED:
            return received.reason or "rejected"
        return None  # "soft failed" events are not an error to who sent them

    async def _placed(self, server: str, event: Event, until: float) -> Received:
        missing = await self._try(event)
        if isinstance(missing, Received):
            return missing
        if self._runtime.monotonic() > until:
            # Others wait for the room, too: a server that is slow to tell what is missing does not keep them.
            raise Unplaceable("what it builds on did not come in time")
        if missing & set(event.prev_event_ids):
            await self._fetch_between(server, event)
            missing = await self._try(event)
            if isinstance(missing, Received):
                return missing
        return await self._with_state(server, event, missing)

    async def _try(self, event: Event) -> Received | frozenset[str]:
        """What became of the event, or what it misses."""
        async with self._locks.lock(event.room_id) as held:
            try:
                return await self._receiver.receive(held, event)
            except MissingEvents as missing:
                return missing.ids
            except LookupError as error:
                raise Unplaceable(str(error)) from None

    # ---- events between ours and theirs ----

    async def _fetch_between(self, server: str, event: Event) -> None:
        room = await self._db.point(names.room_nid, event.room_id)
        assert room is not None
        heads = await self._db.point(federation_history.heads, room)
        body = {
            "limit": MOST_MISSING,
            "min_depth": 0,
            "earliest_events": heads[:MOST_MISSING],
            "latest_events": [event.event_id],
        }
        path = f"/_matrix/federation/v1/get_missing_events/{segment(event.room_id)}"
        try:
            answer = await self._client.call(server, "POST", path, (), body, seconds=SECONDS)
        except RemoteFailure as failure:
            _log.info("%s does not tell what is before %s: %s", server, event.event_id, failure.reason)
            return
        pdus = answer.get("events") if isinstance(answer, dict) else None
        given = pdus[:MOST_MISSING] if isinstance(pdus, list) else []
        admitted = await self._admission.admit(event.version, given, event.room_id)
        for one in in_order(admitted.events.values()):
            if one.event_id == event.event_id:
                continue
            missing = await self._try(one)
            if not isinstance(missing, Received):
                try:
                    await self._with_state(server, one, missing)
                except (Unplaceable, RemoteFailure) as error:
                    _log.info("%s cannot be placed: %s", one.event_id, error)

    # ---- the state before an event, as another server tells it ----

    async def _with_state(self, server: str, event: Event, missing: frozenset[str]) -> Received:
        if not missing & frozenset(event.prev_event_ids):
            await self._fetch_auth(server, event)
            again = await self._try(event)
            if isinstance(again, Received):
                return again
            raise Unplaceable("its auth events cannot be had")
        keys = await self.state_before(server, event)
        async with self._locks.lock(event.room_id) as held:
            try:
                return await self._receiver.receive(held, event, state=keys)
            except MissingEvents:
                raise Unplaceable("its auth events cannot be had") from None

    async def state_before(self, server: str, event: Event) -> dict[StateKey, str]:
        """The state before an event as a server tells it, all its events stored. Raises Unplaceable, RemoteFailure."""
        path = f"/_matrix/federation/v1/state_ids/{segment(event.room_id)}"
        answer = await self._client.get(server, path, [("event_id", event.event_id)], seconds=SECONDS)
        state, chain = ids_in(answer, "pdu_ids"), ids_in(answer, "auth_chain_ids")
        wanted = await self._db.read(federation_rooms.unknown, [*state, *chain, *event.auth_event_ids])
        wanted.discard(event.event_id)
        found = await self._fetched(server, event, wanted)
        async with self._locks.lock(event.room_id) as held:
            await self._store(held, found)
        keys = await self._db.read(federation_history.state_keys, state)
        if len(keys) < len(state) * 0.9 or ("m.room.create", "") not in keys:
            raise Unplaceable("the state before it cannot be had")
        return keys

    async def _fetch_auth(self, server: str, event: Event) -> None:
        path = f"/_matrix/federation/v1/event_auth/{segment(event.room_id)}/{segment(event.event_id)}"
        answer = await self._client.get(server, path, seconds=SECONDS, largest=LARGEST_STATE)
        pdus = answer.get("auth_chain") if isinstance(answer, dict) else None
        given = pdus if isinstance(pdus, list) else []
        admitted = await self._admission.admit(event.version, given, event.room_id)
        new = await self._db.read(federation_rooms.unknown, list(admitted.events))
        async with self._locks.lock(event.room_id) as held:
            await self._store(held, [one for one in admitted.events.values() if one.event_id in new])

    async def _fetched(self, server: str, event: Event, wanted: Collection[str]) -> list[Event]:
        """The wanted events: one by one when they are few, else the whole state at once."""
        if len(wanted) > MOST_BY_ONE:
            path = f"/_matrix/federation/v1/state/{segment(event.room_id)}"
            answer = await self._client.get(
                server, path, [("event_id", event.event_id)], seconds=180, largest=LARGEST_STATE
            )
            pdus: list[object] = []
            for name in ("pdus", "auth_chain"):
                given = answer.get(name) if isinstance(answer, dict) else None
                pdus += given if isinstance(given, list) else []
        else:
            turns = DeferredSemaphore(AT_ONCE)

            async def one(event_id: str) -> object:
                return await turns.run(_started, self._one(server, event_id))

            pdus = [found for found in await together(one(event_id) for event_id in wanted) if found is not None]
        admitted = await self._admission.admit(event.version, pdus, event.room_id)
        return [one for one in admitted.events.values() if one.event_id in wanted]

    async def _one(self, server: str, event_id: str) -> object:
        try:
            answer = await self._client.get(server, f"/_matrix/federation/v1/event/{segment(event_id)}", seconds=20)
        except RemoteFailure:
            return None
        pdus = answer.get("pdus") if isinstance(answer, dict) else None
        return pdus[0] if isinstance(pdus, list) and pdus else None

    async def _store(self, held: Held, found: Iterable[Event]) -> None:
        """Stores what has all its auth events; the rest hangs in the air and is left out."""
        given = {event.event_id: event for event in found}
        missing = await self._db.read(federation_rooms.unknown, sorted(cited(given)))
        left = standing(given, missing)
        if left:
            await self._receiver.store_outliers(held, list(left.values()))


def in_order(found: Iterable[Event]) -> list[Event]:
    """Events before those that cite them, as their depths say."""
    return sorted(found, key=lambda event: (event.depth, event.event_id))


def ids_in(answer: object, name: str) -> list[str]:
    """A list of event ids in an answer. Raises Unplaceable for one that is none, or is too long."""
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) > MOST_STATE or not all(isinstance(one, str) for one in found):
        raise Unplaceable("the state before it cannot be had")
    return list(dict.fromkeys(found))


def _started(work: Any) -> "Deferred[object]":
    return Deferred.fromCoroutine(work)
