# SPDX-License-Identifier: Apache-2.0
"""The page of room aliases: make, resolve and delete one, and list those of a room."""

import msgspec

from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.services.rooms.aliases import Aliases

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#room-aliases"


class AliasBody(msgspec.Struct):
    room_id: str


class RoomAliases:
    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    @endpoint("GET", "/_matrix/client/v3/directory/room/{roomAlias}", spec=SPEC)
    async def resolve(self, caller: Anyone, call: Call) -> dict[str, object]:
        found = await self._aliases.resolve(call.params["roomAlias"])
        return {"room_id": found.room_id, "servers": list(found.servers)}

    @endpoint("PUT", "/_matrix/client/v3/directory/room/{roomAlias}", spec=SPEC)
    async def create(self, caller: User, call: Call, body: AliasBody) -> dict[str, object]:
        await self._aliases.create(caller, call.params["roomAlias"], body.room_id)
        return {}

    @endpoint("DELETE", "/_matrix/client/v3/directory/room/{roomAlias}", spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, object]:
        await self._aliases.delete(caller, call.params["roomAlias"])
        return {}

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/aliases",
        also=["/_matrix/client/unstable/org.matrix.msc2432/rooms/{roomId}/aliases"],
        limit="room_read",
        spec=SPEC,
    )
    async def of_room(self, caller: User, call: Call) -> dict[str, object]:
        return {"aliases": await self._aliases.of_room(caller, call.params["roomId"])}
