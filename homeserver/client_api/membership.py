# SPDX-License-Identifier: Apache-2.0
"""The page of room membership: join, knock, invite, leave, kick, ban, unban, forget and the list of joined rooms."""

from typing import Any

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import bad_json, missing_param
from homeserver.services.rooms.knock import Knocking
from homeserver.services.rooms.membership import Membership
from homeserver.services.rooms.third_party import ThirdPartyInvites

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#room-membership"


class ReasonBody(msgspec.Struct):
    reason: str | None = None


class TargetBody(msgspec.Struct):
    user_id: str
    reason: str | None = None


class InviteBody(msgspec.Struct):
    """Either `user_id`, or the four keys of a third-party invite."""

    user_id: str | None = None
    reason: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None
    medium: str | None = None
    address: str | None = None


def servers_of(call: Call) -> list[str]:
    """The servers to go through: `via`, or its older name `server_name`."""
    return call.query.all("via") or call.query.all("server_name")


class RoomMembership:
    def __init__(self, membership: Membership, knocking: Knocking, third_party: ThirdPartyInvites) -> None:
        self._membership = membership
        self._knocking = knocking
        self._third_party = third_party

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/join",
        limit="joins",
        guests=True,
        optional_body=True,
        spec=f"{SPEC}#post_matrixclientv3roomsroomidjoin",
    )
    async def join_by_id(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, object]:
        return await self._join(caller, call.params["roomId"], [], body)

    @endpoint(
        "POST", "/_matrix/client/v3/join/{roomIdOrAlias}", limit="joins", guests=True, optional_body=True, spec=SPEC
    )
    async def join(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, object]:
        return await self._join(caller, call.params["roomIdOrAlias"], servers_of(call), body)

    async def _join(self, caller: User, room: str, servers: list[str], body: dict[str, Any]) -> dict[str, object]:
        reason, signed = body.get("reason"), body.get("third_party_signed")
        if not isinstance(reason, str | None):
            raise bad_json("reason must be a string")
        if not isinstance(signed, dict | None):
            raise bad_json("third_party_signed must be an object")
        if signed is not None:
            room = await self._third_party.accept(caller, room, servers, signed)
        # Clients put keys of their own into their membership this way, and expect to find them there.
        extra = {key: value for key, value in body.items() if key not in ("reason", "third_party_signed")}
        joined = await self._membership.join(caller, room, reason=reason, servers=servers, extra=extra)
        return {"room_id": joined}

    @endpoint("POST", "/_matrix/client/v3/knock/{roomIdOrAlias}", limit="joins", optional_body=True, spec=SPEC)
    async def knock(self, caller: User, call: Call, body: ReasonBody) -> dict[str, object]:
        room = await self._knocking.knock(caller, call.params["roomIdOrAlias"], servers_of(call), body.reason)
        return {"room_id": room}

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/invite", limit="invites", spec=SPEC)
    async def invite(self, caller: User, call: Call, body: InviteBody) -> dict[str, object]:
        room = call.params["roomId"]
        if body.user_id is not None:
            await self._membership.invite(caller, room, body.user_id, body.reason)
        elif body.medium is None or body.address is None or body.id_server is None:
            raise missing_param("user_id, or id_server, id_access_token, medium and address, are required")
        else:
            await self._third_party.invite(caller, room, body.medium, body.address, body.id_server)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/leave",
        limit="membership",
        guests=True,
        optional_body=True,
        spec=SPEC,
    )
    async def leave(self, caller: User, call: Call, body: ReasonBody) -> dict[str, object]:
        await self._membership.leave(caller, call.params["roomId"], body.reason)
        return {}

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/kick", limit="membership", spec=SPEC)
    async def kick(self, caller: User, call: Call, body: TargetBody) -> dict[str, object]:
        await self._membership.kick(caller, call.params["roomId"], body.user_id, body.reason)
        return {}

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/ban", limit="membership", spec=SPEC)
    async def ban(self, caller: User, call: Call, body: TargetBody) -> dict[str, object]:
        await self._membership.ban(caller, call.params["roomId"], body.user_id, body.reason)
        return {}

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/unban", limit="membership", spec=SPEC)
    async def unban(self, caller: User, call: Call, body: TargetBody) -> dict[str, object]:
        await self._membership.unban(caller, call.params["roomId"], body.user_id, body.reason)
        return {}

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/forget", limit="membership", optional_body=True, spec=SPEC)
    async def forget(self, caller: User, call: Call) -> dict[str, object]:
        await self._membership.forget(caller, call.params["roomId"])
        return {}

    @endpoint("GET", "/_matrix/client/v3/joined_rooms", spec=SPEC)
    async def joined_rooms(self, caller: User) -> dict[str, object]:
        return {"joined_rooms": await self._membership.joined_rooms(caller)}
