# SPDX-License-Identifier: Apache-2.0
"""How an invite to an address becomes one to a user when inviter and invited are on different servers.

https://spec.matrix.org/v1.19/server-server-api/#third-party-invites
"""

import logging
from collections.abc import Mapping
from typing import Any

from federation.inbound.acl import ServerAcls
from federation.inbound.admission import as_object
from federation.inbound.membership import RoomDoors
from federation.outbound.client import Client, segment
from homeserver.http.endpoint import Anyone, Call, Server, endpoint
from homeserver.protocol.errors import MatrixError, bad_json, forbidden, not_found
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import is_room_id, is_user_id, parse_room_id, server_of
from homeserver.services.callers import User
from homeserver.services.ports import RemoteFailure
from homeserver.services.rooms.membership import RemoteMembership
from homeserver.services.rooms.send import Sender
from storage import accounts, federation_rooms, names

_log = logging.getLogger(__name__)

MEMBER, OFFER = "m.room.member", "m.room.third_party_invite"
MOST_INVITES = 50


class Exchange:
    """Turns signed third-party invites into invites. The room's rules check that a key of the offer has signed."""

    def __init__(
        self, rooms: RoomDoors, acls: ServerAcls, sender: Sender, remote: RemoteMembership, client: Client, own: str
    ) -> None:
        self._rooms = rooms
        self._acls = acls
        self._sender = sender
        self._remote = remote
        self._client = client
        self._own = own

    async def exchange(self, origin: str, room_id: str, body: Mapping[str, Any]) -> None:
        """A server asks for the invite of a user of its own, by who made the offer. Raises M_FORBIDDEN and such."""
        if await self._rooms.db.point(federation_rooms.resident, parse_room_id(room_id)) is None:
            raise not_found("This server is not in the room")
        await self._acls.require(room_id, origin)
        invitee, signed = body.get("state_key"), signed_of(body.get("content"))
        if body.get("type") != MEMBER or body.get("room_id") != room_id or signed is None:
            raise bad_json("The body is not a third-party invite to the room")
        if not isinstance(invitee, str) or not is_user_id(invitee) or signed.get("mxid") != invitee:
            raise bad_json("The invite is not for whom it was signed")
        if server_of(invitee) != origin:
            raise forbidden("The user is not of your server")
        await self._invite(room_id, invitee, signed)

    async def bound(self, body: Mapping[str, Any]) -> None:
        """An identity server tells that an address belongs to a user of ours now: what waited for it goes to them."""
        invites, mxid = body.get("invites"), body.get("mxid")
        if not isinstance(invites, list) or not isinstance(mxid, str) or not is_user_id(mxid):
            raise bad_json("invites must be an array, mxid a user id")
        account = await self._rooms.db.point(accounts.find, mxid) if server_of(mxid) == self._own else None
        if account is None or account.deactivated:
            raise not_found("There is no such user")
        for invite in invites[:MOST_INVITES]:
            if isinstance(invite, dict):
                try:
                    await self._claim(mxid, invite)
                except (MatrixError, RemoteFailure) as error:
                    _log.info("a third-party invite was not taken: %s", error)

    async def _claim(self, mxid: str, invite: Mapping[str, Any]) -> None:
        room_id, inviter = invite.get("room_id"), invite.get("sender")
        signed = signed_of({"third_party_invite": {"signed": invite.get("signed")}})
        if not is_room_id(room_id) or not is_user_id(inviter) or signed is None or signed.get("mxid") != mxid:
            raise bad_json("The invite is malformed")
        if server_of(str(inviter)) == self._own:
            await self._invite(str(room_id), mxid, signed)
            return
        content = {"membership": "invite", "third_party_invite": {"display_name": mxid, "signed": signed}}
        body = {"type": MEMBER, "room_id": room_id, "sender": inviter, "state_key": mxid, "content": content}
        path = f"/_matrix/federation/v1/exchange_third_party_invite/{segment(str(room_id))}"
        await self._client.call(server_of(str(inviter)), "PUT", path, (), body)

    async def _invite(self, room_id: str, invitee: str, signed: Mapping[str, Any]) -> None:
        key = (OFFER, str(signed["token"]))
        offer = (await self._rooms.state.current(room_id, [key])).get(key)
        if offer is None or server_of(offer.sender) != self._own:
            raise forbidden("There is no such third-party invite by a user of this server")
        shown = {"display_name": offer.content.get("display_name", ""), "signed": dict(signed)}
        content = {"membership": "invite", "third_party_invite": shown}
        if server_of(invitee) != self._own:
            usr = await self._rooms.db.point(names.user_nid, offer.sender)
            await self._remote.invite(User(offer.sender, usr or 0, None, 0), room_id, invitee, content)
            return
        async with self._rooms.locks.lock(room_id) as held:
            await self._sender.append_in(held, [Draft(MEMBER, content, offer.sender, invitee)])


def signed_of(content: object) -> dict[str, Any] | None:
    """The signed part of a third-party invite, cut down to what it consists of; None for what is none."""
    invite = content.get("third_party_invite") if isinstance(content, dict) else None
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict) or not isinstance(signed.get("signatures"), dict):
        return None
    if not isinstance(signed.get("token"), str) or not isinstance(signed.get("mxid"), str):
        return None
    return {name: signed[name] for name in ("mxid", "token", "signatures")}


class ThirdPartyPages:
    """The two endpoints."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @endpoint("PUT", "/_matrix/federation/v1/exchange_third_party_invite/{roomId}", limit="federation")
    async def exchange(self, caller: Server, call: Call) -> dict[str, Any]:
        await self._exchange.exchange(caller.name, call.params["roomId"], as_object(caller.content))
        return {}

    @endpoint("PUT", "/_matrix/federation/v1/3pid/onbind", limit="federation")
    async def bound(self, caller: Anyone, body: dict[str, Any]) -> dict[str, Any]:
        await self._exchange.bound(body)
        return {}
