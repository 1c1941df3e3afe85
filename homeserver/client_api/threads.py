# SPDX-License-Identifier: Apache-2.0
"""The page of threads: the list of a room's thread roots."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param
from homeserver.services.rooms.relations import RelationPages

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidthreads"


class Threads:
    def __init__(self, pages: RelationPages) -> None:
        self._pages = pages

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/threads",
        also=["/_matrix/client/unstable/org.matrix.msc3856/rooms/{roomId}/threads"],
        limit="room_read",
        spec=SPEC,
    )
    async def roots(self, caller: User, call: Call) -> dict[str, object]:
        query = call.query
        include = query.get("include") or "all"
        if include not in ("all", "participated"):
            raise invalid_param("include must be all or participated")
        limit = query.int("limit", 20, least=1, most=100)
        return await self._pages.threads(
            caller, call.params["roomId"], limit, query.get("from"), participated=include == "participated"
        )
