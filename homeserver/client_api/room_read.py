# SPDX-License-Identifier: Apache-2.0
"""The page of getting events for a room: messages, context, one event, state, members, the event of a time."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import MatrixError, invalid_param, missing_param
from homeserver.services.rooms.context import Context
from homeserver.services.rooms.initial import RoomBeginnings
from homeserver.services.rooms.pagination import History, PageQuery, parse_direction, parse_page_filter

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#getting-events-for-a-room"
MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


class RoomRead:
    def __init__(self, history: History, context: Context, beginnings: RoomBeginnings) -> None:
        self._beginnings = beginnings
        self._history = history
        self._context = context

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/messages", guests=True, spec=SPEC)
    async def messages(self, caller: User, call: Call) -> dict[str, object]:
        query, room_id = call.query, call.params["roomId"]
        try:
            wanted = PageQuery(
                backward=parse_direction(query.get("dir")),
                since=query.get("from") or None,
                until=query.get("to") or None,
                limit=query.int("limit", 10),
                filter=parse_page_filter(query.get("filter")),
            )
        except MatrixError:
            await self._context.require_reader(caller, room_id)
            raise
        return await self._history.messages(caller, room_id, wanted)

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/context/{eventId}", guests=True, spec=SPEC)
    async def context(self, caller: User, call: Call) -> dict[str, object]:
        chosen = parse_page_filter(call.query.get("filter"))
        limit = call.query.int("limit", 10)
        return await self._context.context(caller, call.params["roomId"], call.params["eventId"], limit, chosen)

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/event/{eventId}", guests=True, spec=SPEC)
    async def event(self, caller: User, call: Call) -> dict[str, object]:
        return await self._context.event(caller, call.params["roomId"], call.params["eventId"])

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/state", guests=True, spec=SPEC)
    async def state(self, caller: User, call: Call) -> list[dict[str, object]]:
        return await self._context.state(caller, call.params["roomId"])

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/members", guests=True, spec=SPEC)
    async def members(self, caller: User, call: Call) -> dict[str, object]:
        query = call.query
        wanted, unwanted = query.get("membership"), query.get("not_membership")
        for given in (wanted, unwanted):
            if given is not None and given not in MEMBERSHIPS:
                raise invalid_param(f"membership must be one of {', '.join(MEMBERSHIPS)}")
        return await self._context.members(caller, call.params["roomId"], query.get("at"), wanted, unwanted)

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/joined_members", spec=SPEC)
    async def joined_members(self, caller: User, call: Call) -> dict[str, object]:
        return await self._context.joined_members(caller, call.params["roomId"])

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/initialSync", guests=True, limit="room_read", spec=SPEC)
    async def initial_sync(self, caller: User, call: Call) -> dict[str, object]:
        return await self._beginnings.room(caller, call.params["roomId"], call.query.int("limit", 20, most=100))

    @endpoint(
        "GET",
        "/_matrix/client/v1/rooms/{roomId}/timestamp_to_event",
        also=["/_matrix/client/unstable/org.matrix.msc3030/rooms/{roomId}/timestamp_to_event"],
        limit="room_read",
        spec=SPEC,
    )
    async def at_time(self, caller: User, call: Call) -> dict[str, object]:
        query = call.query
        if query.get("ts") is None:
            raise missing_param("ts is required")
        ts = query.int("ts", 0, least=None)
        forward = not parse_direction(query.get("dir"))
        return await self._context.at_time(caller, call.params["roomId"], ts, forward)
