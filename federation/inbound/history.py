# SPDX-License-Identifier: Apache-2.0
"""What other servers may read of rooms that they are in: events, state, history.

https://spec.matrix.org/v1.19/server-server-api/#retrieving-events
"""

from collections.abc import Sequence
from typing import Any

import orjson

from federation.inbound.acl import ServerAcls
from federation.inbound.admission import as_object
from homeserver.http.endpoint import Call, Server, endpoint
from homeserver.protocol.errors import bad_json, forbidden, invalid_param, missing_param, not_found
from homeserver.protocol.ids import parse_room_id
from homeserver.protocol.visibility import server_can_see, visibility_in
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from storage import events, federation_history, federation_rooms, names, timeline
from storage.federation_history import Seen
from storage.txn import Txn

MOST_BACKFILLED, MOST_MISSING = 100, 20
MOST_STARTS = 50


class HistoryPages:
    """Reading rooms, for servers whose users are in them."""

    def __init__(self, server_name: str, runtime: Runtime, db: Database, acls: ServerAcls) -> None:
        self._server_name = server_name
        self._runtime = runtime
        self._db = db
        self._acls = acls

    @endpoint("GET", "/_matrix/federation/v1/event/{eventId}", limit="federation")
    async def event(self, caller: Server, call: Call) -> dict[str, Any]:
        room_id = await self._db.point(_room_of, call.params["eventId"])
        if room_id is None:
            raise not_found("Event not found")
        room = await self._readable(caller, room_id)
        found = await self._db.read(_shown, room, caller.name, [call.params["eventId"]])
        if not found:
            raise not_found("Event not found")
        return self._transaction(found)

    @endpoint("GET", "/_matrix/federation/v1/backfill/{roomId}", limit="federation")
    async def backfill(self, caller: Server, call: Call) -> dict[str, Any]:
        room = await self._readable(caller, call.params["roomId"])
        starts = call.query.all("v")[:MOST_STARTS]
        if not starts:
            raise missing_param("v is missing")
        limit = min(call.query.int("limit", MOST_BACKFILLED), MOST_BACKFILLED)
        nids = await self._db.read(federation_history.walk, room, starts, (), limit, 0)
        return self._transaction(await self._db.read(_shown_nids, room, caller.name, nids))

    @endpoint("POST", "/_matrix/federation/v1/get_missing_events/{roomId}", limit="federation")
    async def missing(self, caller: Server, call: Call) -> dict[str, Any]:
        room = await self._readable(caller, call.params["roomId"])
        body = as_object(caller.content)
        earliest, latest = _ids(body, "earliest_events"), _ids(body, "latest_events")
        limit, least = body.get("limit", 10), body.get("min_depth", 0)
        if type(limit) is not int or type(least) is not int:
            raise bad_json("limit and min_depth must be integers")
        limit = min(max(limit, 0), MOST_MISSING)
        found = await self._db.read(_between, room, latest, earliest, limit, least)
        shown = await self._db.read(_shown_nids, room, caller.name, found)
        return {"events": [orjson.Fragment(pdu) for pdu in shown]}

    @endpoint("GET", "/_matrix/federation/v1/state/{roomId}", limit="federation")
    async def state(self, caller: Server, call: Call) -> dict[str, Any]:
        snapshot = await self._snapshot(caller, call)
        state = await self._db.read(federation_rooms.pdus_of, snapshot.state)
        chain = await self._db.read(federation_rooms.pdus_of, snapshot.auth)
        return {
            "pdus": [orjson.Fragment(pdu) for pdu in state],
            "auth_chain": [orjson.Fragment(pdu) for pdu in chain],
        }

    @endpoint("GET", "/_matrix/federation/v1/state_ids/{roomId}", limit="federation")
    async def state_ids(self, caller: Server, call: Call) -> dict[str, Any]:
        snapshot = await self._snapshot(caller, call)
        return {
            "pdu_ids": await self._db.read(federation_rooms.ids_of, snapshot.state),
            "auth_chain_ids": await self._db.read(federation_rooms.ids_of, snapshot.auth),
        }

    async def _snapshot(self, caller: Server, call: Call) -> federation_rooms.Snapshot:
        await self._readable(caller, call.params["roomId"])
        event_id = call.query.get("event_id")
        if event_id is None:
            raise missing_param("event_id is missing")
        found = await self._db.read(federation_rooms.state_before, call.params["roomId"], event_id)
        if found is None:
            raise not_found("Event not found")
        return found

    @endpoint("GET", "/_matrix/federation/v1/event_auth/{roomId}/{eventId}", limit="federation")
    async def event_auth(self, caller: Server, call: Call) -> dict[str, Any]:
        await self._readable(caller, call.params["roomId"])
        found = await self._db.read(federation_rooms.auth_chain_of, call.params["roomId"], call.params["eventId"])
        if found is None:
            raise not_found("Event not found")
        return {"auth_chain": [orjson.Fragment(pdu) for pdu in await self._db.read(federation_rooms.pdus_of, found)]}

    @endpoint("GET", "/_matrix/federation/v1/timestamp_to_event/{roomId}", limit="federation")
    async def at_time(self, caller: Server, call: Call) -> dict[str, Any]:
        room = await self._readable(caller, call.params["roomId"])
        direction = call.query.get("dir")
        if call.query.get("ts") is None or direction not in ("f", "b"):
            raise invalid_param("ts must be a time and dir one of f and b")
        ts = call.query.int("ts", 0)
        up_to = self._db.published << events.ORD_SHIFT
        found = await self._db.read(_nearest, room, ts, direction == "f", up_to)
        if found is None:
            raise not_found("There is no such event")
        return {"event_id": found[0], "origin_server_ts": found[1]}

    async def _readable(self, caller: Server, room_id: str) -> int:
        """The number of a room that both servers are in. Raises M_NOT_FOUND and M_FORBIDDEN."""
        room = await self._db.point(federation_rooms.resident, parse_room_id(room_id))
        if room is None:
            raise not_found("This server is not in the room")
        await self._acls.require(room_id, caller.name)
        if not await self._db.read(federation_rooms.has_member_of, room_id, caller.name):
            raise forbidden("Your server is not in the room")
        return room

    def _transaction(self, pdus: Sequence[bytes]) -> dict[str, Any]:
        return {
            "origin": self._server_name,
            "origin_server_ts": self._runtime.now_ms(),
            "pdus": [orjson.Fragment(pdu) for pdu in pdus],
        }


def _ids(body: dict[str, Any], name: str) -> list[str]:
    found = body.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise bad_json(f"{name} must be an array of event ids")
    return found[:MOST_STARTS]


def _room_of(txn: Txn, event_id: str) -> str | None:
    found = events.by_id(txn, event_id)
    return None if found is None else names.room_id(txn, found.room)


def _between(txn: Txn, room: int, latest: Sequence[str], earliest: Sequence[str], limit: int, least: int) -> list[int]:
    """What is between, without both ends, the oldest first."""
    ends = {nid for nid, _ in events.load_by_ids(txn, latest).values()}
    found = federation_history.walk(txn, room, latest, earliest, limit + len(ends), least)
    return [nid for nid in reversed(found) if nid not in ends][:limit]


def _shown(txn: Txn, room: int, server: str, event_ids: Sequence[str]) -> list[bytes]:
    loaded = events.load_by_ids(txn, event_ids)
    return _shown_nids(txn, room, server, [nid for nid, _ in loaded.values()])


def _shown_nids(txn: Txn, room: int, server: str, nids: Sequence[int]) -> list[bytes]:
    """PDUs as a server may see them: what it may not is redacted."""
    stored = events.pdus(txn, nids)
    return [stored[one.nid] if sees(one) else _bare(one) for one in federation_history.seen_by(txn, room, server, nids)]


def sees(one: Seen) -> bool:
    """Whether a server in the room may see the event; state is needed by all."""
    return one.event.is_state or server_can_see(visibility_in(one.visibility), one.memberships)


def _bare(one: Seen) -> bytes:
    return orjson.dumps(one.event.redacted().pdu)


def _nearest(txn: Txn, room: int, ts: int, forward: bool, up_to: int) -> tuple[str, int] | None:
    nids = timeline.nearest(txn, room, ts, forward=forward, up_to=up_to)
    found = events.by_nids(txn, nids[:1])
    return next(((one.event_id, one.ts) for one in found.values()), None)
