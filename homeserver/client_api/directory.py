# SPDX-License-Identifier: Apache-2.0
"""The page of the published room directory: what is listed, and listing a room."""

from typing import Literal

import msgspec

from homeserver.http.endpoint import Anyone, AppService, Call, User, endpoint
from homeserver.services.rooms.directory import Directory, Listing

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#published-room-directory"


class VisibilityBody(msgspec.Struct):
    visibility: Literal["private", "public"] = "public"


class ListingFilter(msgspec.Struct):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class QueryBody(msgspec.Struct):
    limit: int | None = None
    since: str | None = None
    filter: ListingFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class RoomDirectory:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    @endpoint("GET", "/_matrix/client/v3/directory/list/room/{roomId}", spec=SPEC)
    async def visibility(self, caller: Anyone, call: Call) -> dict[str, object]:
        return {"visibility": await self._directory.visibility(call.params["roomId"])}

    @endpoint("PUT", "/_matrix/client/v3/directory/list/room/{roomId}", optional_body=True, spec=SPEC)
    async def publish(self, caller: User, call: Call, body: VisibilityBody) -> dict[str, object]:
        await self._directory.publish(caller, call.params["roomId"], body.visibility == "public")
        return {}

    @endpoint("PUT", "/_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}", spec=SPEC)
    async def publish_in_network(self, caller: AppService, call: Call, body: VisibilityBody) -> dict[str, object]:
        network, room = call.params["networkId"], call.params["roomId"]
        await self._directory.publish_in_network(caller.id, network, room, body.visibility == "public")
        return {}

    @endpoint("GET", "/_matrix/client/v3/publicRooms", limit="directory", spec=SPEC)
    async def list_rooms(self, caller: Anyone, call: Call) -> dict[str, object]:
        query = call.query
        wanted = Listing(limit=_limit(query.int("limit", 0, least=None)), since=query.get("since"))
        return await self._directory.listing(wanted, query.get("server"))

    @endpoint("POST", "/_matrix/client/v3/publicRooms", limit="directory", optional_body=True, spec=SPEC)
    async def query_rooms(self, caller: User, call: Call, body: QueryBody) -> dict[str, object]:
        chosen = body.filter or ListingFilter()
        wanted = Listing(
            limit=_limit(body.limit or 0),
            since=body.since,
            term=chosen.generic_search_term,
            room_types=None if chosen.room_types is None else frozenset(chosen.room_types),
            network=body.third_party_instance_id or "",
            all_networks=body.include_all_networks,
        )
        return await self._directory.listing(wanted, call.query.get("server"))


def _limit(given: int) -> int:
    """The page size: 100 unless told, 500 at most; zero and less count as not told."""
    return min(given, 500) if given > 0 else 100
