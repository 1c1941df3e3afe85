# SPDX-License-Identifier: Apache-2.0
"""How users of other servers invite users of this one.

https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room
"""

from typing import Any, Protocol

import orjson

from federation.inbound.acl import ServerAcls
from federation.inbound.admission import Admission, as_object, well_formed
from federation.inbound.membership import Handshakes, RoomDoors
from homeserver.http.endpoint import Call, Server, endpoint
from homeserver.protocol.errors import (
    MatrixError,
    bad_json,
    forbidden,
    incompatible_room_version,
    invalid_param,
    not_found,
)
from homeserver.protocol.events import Event
from homeserver.protocol.ids import parse_room_id, server_of
from homeserver.protocol.room_versions import RoomVersion, lookup
from storage import accounts, events, federation_rooms, membership, names
from storage.txn import Txn

MEMBER = "m.room.member"
NOT_THERE = "This server is not in the room"
MOST_STRIPPED = 100
STRIPPED_FIELDS = ("type", "state_key", "sender", "content", "origin_server_ts")


class InvitePolicy(Protocol):
    """Raises M_INVITE_BLOCKED when `invitee` does not want invites from `inviter`."""

    async def check(self, inviter: str, invitee: str) -> None: ...


class Invites:
    """Takes invites: checked, signed as seen, and shown to who is invited."""

    def __init__(
        self,
        server_name: str,
        rooms: RoomDoors,
        admission: Admission,
        acls: ServerAcls,
        handshakes: Handshakes,
        policy: InvitePolicy,
    ) -> None:
        self._server_name = server_name
        self._rooms = rooms
        self._admission = admission
        self._acls = acls
        self._handshakes = handshakes
        self._policy = policy

    async def take(
        self, origin: str, room_id: str, event_id: str, version: RoomVersion, pdu: object, state: object
    ) -> Event:
        """The invite with our signature. Raises M_BAD_JSON, M_FORBIDDEN, M_INVITE_BLOCKED and such."""
        event = well_formed(version, pdu, parse_room_id(room_id))
        if event.event_id != event_id:
            raise invalid_param("The event's id is not that of the path")
        self._check(event, origin)
        invitee = event.state_key
        assert invitee is not None
        account = await self._rooms.db.point(accounts.find, invitee)
        if account is None or account.deactivated:
            raise not_found("There is no such user")
        event = await self._admission.one(version, event.pdu, room_id)
        await self._policy.check(event.sender, invitee)
        resident = await self._rooms.db.point(federation_rooms.resident, room_id)
        signed = self._handshakes.signed(event)
        if resident is not None:
            # The event comes with the others; the room's rules look at it then.
            await self._acls.require(room_id, origin)
            return signed
        shown = [*stripped(state), stripped_event(event)]
        async with self._rooms.locks.lock(room_id) as held:
            if not await self._is_stored(event_id):
                await self._rooms.receiver.note_membership(
                    held, version, signed, invitee, "invite", orjson.dumps(shown)
                )
        return signed

    async def withdrawn(self, origin: str, room_id: str, version: RoomVersion, pdu: object) -> str | None:
        """The inviter's server takes an invite back to a room that this server is not in; why not, if it cannot."""
        try:
            event = well_formed(version, pdu, room_id)
            invitee = event.state_key
            kind = event.content.get("membership")
            if event.type != MEMBER or invitee is None or kind not in ("leave", "ban") or invitee == event.sender:
                return NOT_THERE
            invite = await self._rooms.db.read(_invite_of, room_id, invitee)
            if invite is None or not server_of(event.sender) == server_of(invite.sender) == origin:
                return NOT_THERE
            event = await self._admission.one(version, event.pdu, room_id)
        except MatrixError as error:
            return error.message
        async with self._rooms.locks.lock(room_id) as held:
            if not await self._is_stored(event.event_id):
                await self._rooms.receiver.note_membership(held, version, event, invitee, "leave", None)
        return None

    async def _is_stored(self, event_id: str) -> bool:
        return not await self._rooms.db.point(federation_rooms.unknown, [event_id])

    def _check(self, event: Event, origin: str) -> None:
        if event.type != MEMBER or event.state_key is None:
            raise bad_json("The event is not a membership event")
        if event.content.get("membership") != "invite":
            raise bad_json("The membership is not invite")
        if server_of(event.state_key) != self._server_name:
            raise invalid_param("The user is not of this server")
        if server_of(event.sender) != origin:
            raise forbidden("The sender is not of your server")


def _invite_of(txn: Txn, room_id: str, user_id: str) -> Event | None:
    """The invite of a local user that waits for an answer."""
    room, usr = names.room_nid(txn, room_id), names.user_nid(txn, user_id)
    own = None if room is None or usr is None else membership.of(txn, usr, room)
    if own is None or own.kind != membership.INVITE:
        return None
    return events.load(txn, [own.event]).get(own.event)


class InvitePages:
    """Both versions of the endpoint."""

    def __init__(self, invites: Invites) -> None:
        self._invites = invites

    @endpoint("PUT", "/_matrix/federation/v2/invite/{roomId}/{eventId}", limit="federation")
    async def invite(self, caller: Server, call: Call) -> dict[str, Any]:
        body = as_object(caller.content)
        named = body.get("room_version")
        version = lookup(named)
        if version is None:
            if not isinstance(named, str):
                raise bad_json("room_version is missing")
            raise incompatible_room_version(named[:64])
        event = await self._take(caller, call, version, body.get("event"), body.get("invite_room_state"))
        return {"event": event.pdu}

    @endpoint("PUT", "/_matrix/federation/v1/invite/{roomId}/{eventId}", limit="federation")
    async def invite_v1(self, caller: Server, call: Call) -> list[Any]:
        body = as_object(caller.content)
        unsigned = body.get("unsigned")
        state = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
        version = lookup("1" if "event_id" in body and ":" in str(body["event_id"]) else "2")
        assert version is not None
        event = await self._take(caller, call, version, body, state)
        return [200, {"event": event.pdu}]

    async def _take(self, caller: Server, call: Call, version: RoomVersion, pdu: object, state: object) -> Event:
        room_id, event_id = call.params["roomId"], call.params["eventId"]
        return await self._invites.take(caller.name, room_id, event_id, version, pdu, state)


def stripped(state: object) -> list[dict[str, Any]]:
    """What of the given room state a client may be shown: events cut down to what they show; the rest is left out."""
    found = []
    for one in (state if isinstance(state, list) else [])[:MOST_STRIPPED]:
        if not isinstance(one, dict) or not isinstance(one.get("content"), dict):
            continue
        if all(isinstance(one.get(name), str) for name in ("type", "state_key", "sender")):
            found.append({name: one[name] for name in STRIPPED_FIELDS if name in one})
    return found


def stripped_event(event: Event) -> dict[str, Any]:
    """The event itself, as clients are shown it among the stripped state."""
    return {
        "type": event.type,
        "state_key": event.state_key,
        "sender": event.sender,
        "content": event.content,
        "origin_server_ts": event.origin_server_ts,
    }
