# SPDX-License-Identifier: Apache-2.0
"""The page of a space's hierarchy."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.rooms.hierarchy import Hierarchy, Walk

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy"


class SpaceHierarchy:
    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/hierarchy",
        also=["/_matrix/client/unstable/org.matrix.msc2946/rooms/{roomId}/hierarchy"],
        limit="room_read",
        spec=SPEC,
    )
    async def page(self, caller: User, call: Call) -> dict[str, object]:
        query = call.query
        walk = Walk(
            room_id=call.params["roomId"],
            suggested_only=query.flag("suggested_only"),
            max_depth=query.int("max_depth", -1, most=1000) if query.get("max_depth") is not None else None,
        )
        return await self._hierarchy.page(caller, walk, query.int("limit", 50, least=1, most=50), query.get("from"))
