# SPDX-License-Identifier: Apache-2.0
"""The page of room creation."""

from homeserver.http.endpoint import User, endpoint
from homeserver.services.rooms.create_body import CreateBody, RoomRequests


class RoomCreatePage:
    def __init__(self, requests: RoomRequests) -> None:
        self._requests = requests

    @endpoint(
        "POST",
        "/_matrix/client/v3/createRoom",
        limit="rooms",
        spec="https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom",
    )
    async def create_room(self, caller: User, body: CreateBody) -> dict[str, str]:
        return {"room_id": await self._requests.create(caller, body)}
