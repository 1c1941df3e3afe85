# SPDX-License-Identifier: Apache-2.0
"""How users of other servers come into this server's rooms and leave them: the make_ and send_ handshakes.

https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import orjson

from federation.inbound.acl import ServerAcls
from federation.inbound.admission import Admission, well_formed
from federation.inbound.templates import AUTHORIZER, MEMBER, Templates
from homeserver.http.endpoint import Call, Server, endpoint
from homeserver.protocol.errors import (
    MissingEvents,
    bad_json,
    forbidden,
    incompatible_room_version,
    invalid_param,
    not_found,
)
from homeserver.protocol.events import Event
from homeserver.protocol.hashing import signed_bytes
from homeserver.protocol.ids import parse_room_id, parse_user_id, server_of
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.protocol.signing import Signer
from homeserver.services.database import Database
from homeserver.services.rooms.assess import Verdict
from homeserver.services.rooms.join_rules import DECIDING
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.receive import Receiver
from homeserver.services.rooms.stage import STRIPPED_KEYS
from homeserver.services.rooms.state import RoomState
from storage import federation_rooms, membership, names
from storage.txn import Txn

Relayed = Callable[[str], Awaitable[None]]


@attrs.frozen
class RoomDoors:
    """The parts of rooms through which events come in."""

    db: Database
    locks: RoomLocks
    state: RoomState
    receiver: Receiver


class Handshakes:
    """Checks and takes membership events that other servers made from templates."""

    def __init__(
        self,
        signer: Signer,
        rooms: RoomDoors,
        templates: Templates,
        admission: Admission,
        acls: ServerAcls,
        relay: Relayed,
    ) -> None:
        self._signer = signer
        self._rooms = rooms
        self._templates = templates
        self._admission = admission
        self._acls = acls
        self._relay = relay

    async def template(
        self, origin: str, room_id: str, user_id: str, kind: str, versions: Sequence[str] | None
    ) -> dict[str, Any]:
        """The answer to make_join, make_leave and make_knock. `versions` are those that the asker knows."""
        parse_room_id(room_id)
        if parse_user_id(user_id).server != origin:
            raise forbidden("The user is not of your server")
        version = await self.version(room_id)
        await self._acls.require(room_id, origin)
        if versions is not None and version.id not in versions:
            raise incompatible_room_version(version.id)
        version, pdu = await self._templates.make(room_id, user_id, kind)
        return {"room_version": version.id, "event": pdu}

    async def version(self, room_id: str) -> RoomVersion:
        """The version of a room that this server is in; raises M_NOT_FOUND."""
        room = await self._rooms.db.point(federation_rooms.resident, room_id)
        named = None if room is None else await self._rooms.db.point(federation_rooms.version_of, room_id)
        version = lookup(named)
        if version is None:
            raise not_found("This server is not in the room")
        return version

    async def take(self, origin: str, room_id: str, event_id: str, pdu: object, kind: str) -> Event:
        """The event that stands after a send_ request, checked in every way and stored.

        Raises M_BAD_JSON, M_INVALID_PARAM, M_FORBIDDEN and such; then nothing is changed.
        """
        version = await self.version(parse_room_id(room_id))
        await self._acls.require(room_id, origin)
        event = well_formed(version, pdu, room_id)
        if event.event_id != event_id:
            raise invalid_param("The event's id is not that of the path")
        check_own(event, kind, origin)
        if kind == "join":
            event = await self._vouched(event)
        event = await self._admission.one(version, event.pdu, room_id)
        async with self._rooms.locks.lock(room_id) as held:
            try:
                received = await self._rooms.receiver.receive(held, event)
            except MissingEvents:
                raise bad_json("The event does not cite what its template did") from None
        if received.verdict not in (Verdict.ACCEPTED, Verdict.KNOWN):
            raise forbidden(received.reason or "The room does not take this event")
        if received.verdict is Verdict.ACCEPTED:
            await self._relay(event.event_id)
        return event

    async def _vouched(self, event: Event) -> Event:
        """A join in the name of one of our users, with our signature; others as they are."""
        authorizer = event.content.get(AUTHORIZER)
        if not isinstance(authorizer, str) or server_of(authorizer) != self._signer.server_name:
            return event
        current = await self._rooms.state.current(event.room_id, [*DECIDING, (MEMBER, event.sender)])
        if await self._templates.authorizer(event.sender, current) is None:
            return event
        return self.signed(event)

    def signed(self, event: Event) -> Event:
        """The event with this server's signature added."""
        signature = self._signer.sign(signed_bytes(event.version, event.pdu))
        given = event.pdu["signatures"]
        own = {**given.get(self._signer.server_name, {}), self._signer.key.key_id: signature}
        pdu = {**event.pdu, "signatures": {**given, self._signer.server_name: own}}
        return Event(event.version, pdu, event.event_id)

    async def joined(self, event: Event) -> bytes:
        """What who joins is given: the state before the join, and what permits it."""
        return await self._rooms.db.read(_room_of, event.room_id, event, self._signer.server_name)

    async def stripped(self, room_id: str) -> list[dict[str, Any]]:
        """What who knocks may see of the room."""
        found = await self._rooms.state.current(room_id, STRIPPED_KEYS)
        return [event.pdu for event in found.values()]


def check_own(event: Event, kind: str, origin: str) -> None:
    """Raises M_BAD_JSON unless it is a membership event of this kind by a user of the server about themself."""
    if event.type != MEMBER or event.state_key is None:
        raise bad_json("The event is not a membership event")
    if event.content.get("membership") != kind:
        raise bad_json(f"The membership is not {kind}")
    if event.sender != event.state_key:
        raise bad_json("The event is not by the user whom it is about")
    if server_of(event.sender) != origin:
        raise forbidden("The user is not of your server")


def _room_of(txn: Txn, room_id: str, event: Event, server_name: str) -> bytes:
    snapshot = federation_rooms.state_before(txn, room_id, event.event_id)
    room = names.room_nid(txn, room_id)
    if snapshot is None or room is None:
        raise not_found("The event is not known")
    present = membership.servers_of_room(txn, room)
    return orjson.dumps(
        {
            "origin": server_name,
            "members_omitted": False,
            "servers_in_room": sorted(present),
            "event": event.pdu,
            "state": [orjson.Fragment(one) for one in federation_rooms.pdus_of(txn, snapshot.state)],
            "auth_chain": [orjson.Fragment(one) for one in federation_rooms.pdus_of(txn, snapshot.auth)],
        }
    )


class HandshakePages:
    """The endpoints of joins, knocks and leaves."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    @endpoint("GET", "/_matrix/federation/v1/make_join/{roomId}/{userId}", limit="federation")
    async def make_join(self, caller: Server, call: Call) -> dict[str, Any]:
        return await self._make(caller, call, "join", call.query.all("ver") or ["1"])

    @endpoint("GET", "/_matrix/federation/v1/make_leave/{roomId}/{userId}", limit="federation")
    async def make_leave(self, caller: Server, call: Call) -> dict[str, Any]:
        return await self._make(caller, call, "leave", None)

    @endpoint("GET", "/_matrix/federation/v1/make_knock/{roomId}/{userId}", limit="federation")
    async def make_knock(self, caller: Server, call: Call) -> dict[str, Any]:
        return await self._make(caller, call, "knock", call.query.all("ver"))

    async def _make(self, caller: Server, call: Call, kind: str, versions: Sequence[str] | None) -> dict[str, Any]:
        return await self._handshakes.template(
            caller.name, call.params["roomId"], call.params["userId"], kind, versions
        )

    @endpoint("PUT", "/_matrix/federation/v2/send_join/{roomId}/{eventId}", limit="federation")
    async def send_join(self, caller: Server, call: Call) -> bytes:
        return await self._handshakes.joined(await self._take(caller, call, "join"))

    @endpoint("PUT", "/_matrix/federation/v1/send_join/{roomId}/{eventId}", limit="federation")
    async def send_join_v1(self, caller: Server, call: Call) -> bytes:
        return b"[200," + await self._handshakes.joined(await self._take(caller, call, "join")) + b"]"

    @endpoint("PUT", "/_matrix/federation/v2/send_leave/{roomId}/{eventId}", limit="federation")
    async def send_leave(self, caller: Server, call: Call) -> dict[str, Any]:
        await self._take(caller, call, "leave")
        return {}

    @endpoint("PUT", "/_matrix/federation/v1/send_leave/{roomId}/{eventId}", limit="federation")
    async def send_leave_v1(self, caller: Server, call: Call) -> list[Any]:
        await self._take(caller, call, "leave")
        return [200, {}]

    @endpoint("PUT", "/_matrix/federation/v1/send_knock/{roomId}/{eventId}", limit="federation")
    async def send_knock(self, caller: Server, call: Call) -> dict[str, Any]:
        event = await self._take(caller, call, "knock")
        return {"knock_room_state": await self._handshakes.stripped(event.room_id)}

    async def _take(self, caller: Server, call: Call, kind: str) -> Event:
        room_id, event_id = call.params["roomId"], call.params["eventId"]
        return await self._handshakes.take(caller.name, room_id, event_id, caller.content, kind)
