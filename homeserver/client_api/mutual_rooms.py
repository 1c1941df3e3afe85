# SPDX-License-Identifier: Apache-2.0
"""The page of mutual rooms, under its stable and its older name."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param
from homeserver.services.rooms.membership import Membership

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mutual_rooms"


class MutualRooms:
    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    @endpoint(
        "GET",
        "/_matrix/client/v1/mutual_rooms",
        also=["/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"],
        limit="room_read",
        spec=SPEC,
    )
    async def mutual(self, caller: User, call: Call) -> dict[str, object]:
        given = call.query.all("user_id")
        if len(given) != 1:
            # The specification answers a missing user_id with M_INVALID_PARAM too.
            raise invalid_param("One user_id is required")
        since = call.query.get("from") or call.query.get("batch_token")
        return await self._membership.mutual_rooms(caller, given[0], since)
