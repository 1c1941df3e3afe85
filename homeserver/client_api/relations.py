# SPDX-License-Identifier: Apache-2.0
"""The page of relations: the events that relate to one event, in its three forms."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.rooms.relations import RelationPages, RelationQuery

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidrelationseventid"
BASE = "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}"
UNSTABLE = "/_matrix/client/unstable/rooms/{roomId}/relations/{eventId}"


class Relations:
    def __init__(self, pages: RelationPages) -> None:
        self._pages = pages

    @endpoint("GET", BASE, also=[UNSTABLE], spec=SPEC)
    @endpoint("GET", BASE + "/{relType}", also=[UNSTABLE + "/{relType}"], spec=SPEC)
    @endpoint("GET", BASE + "/{relType}/{eventType}", also=[UNSTABLE + "/{relType}/{eventType}"], spec=SPEC)
    async def relating(self, caller: User, call: Call) -> dict[str, object]:
        query = call.query
        recurse = query.flag("recurse") or query.flag("org.matrix.msc3981.recurse")
        wanted = RelationQuery(
            event_id=call.params["eventId"],
            rel_type=call.params.get("relType"),
            event_type=call.params.get("eventType"),
            direction=query.get("dir") or query.get("org.matrix.msc3715.dir") or "b",
            since=query.get("from"),
            until=query.get("to"),
            limit=query.int("limit", 20, least=1, most=1000),
            recurse=recurse,
            depth_asked="recurse" in query.values or "org.matrix.msc3981.recurse" in query.values,
        )
        return await self._pages.relating(caller, call.params["roomId"], wanted)
