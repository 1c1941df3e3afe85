# SPDX-License-Identifier: Apache-2.0
"""The page of room summaries, under its stable and both older names."""

from homeserver.http.endpoint import Call, MaybeUser, endpoint
from homeserver.services.rooms.summary import Summaries

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias"


class RoomSummary:
    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    @endpoint(
        "GET",
        "/_matrix/client/v1/room_summary/{roomIdOrAlias}",
        also=[
            "/_matrix/client/unstable/im.nheko.summary/summary/{roomIdOrAlias}",
            "/_matrix/client/unstable/im.nheko.summary/rooms/{roomIdOrAlias}/summary",
        ],
        limit="room_read",
        guests=True,
        spec=SPEC,
    )
    async def summary(self, caller: MaybeUser, call: Call) -> dict[str, object]:
        return await self._summaries.of(caller.user, call.params["roomIdOrAlias"], call.query.all("via"))
