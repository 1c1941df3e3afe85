# SPDX-License-Identifier: Apache-2.0
"""The page of server-side search."""

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.search import RoomEventsSearch, Search

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3search"


class Categories(msgspec.Struct):
    room_events: RoomEventsSearch | None = None


class SearchBody(msgspec.Struct):
    search_categories: Categories


class SearchPage:
    def __init__(self, search: Search) -> None:
        self._search = search

    @endpoint("POST", "/_matrix/client/v3/search", limit="search", spec=SPEC)
    async def search(self, caller: User, call: Call, body: SearchBody) -> dict[str, object]:
        wanted = body.search_categories.room_events
        if wanted is None:
            return {"search_categories": {}}
        found = await self._search.room_events(caller, wanted, call.query.get("next_batch"))
        return {"search_categories": {"room_events": found}}
