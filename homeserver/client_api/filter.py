# SPDX-License-Identifier: Apache-2.0
"""The filter page: clients store a filter once and name it by its id afterwards."""

from __future__ import annotations

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import forbidden
from homeserver.services.sync.filters import Filters

PATH = "/_matrix/client/v3/user/{userId}/filter"
SPEC = "https://spec.matrix.org/v1.19/client-server-api/#filtering"


class FilterPage:
    """Storing and reading filters."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    @endpoint("POST", PATH, guests=True, spec=SPEC)
    async def define_filter(self, caller: User, call: Call, body: dict[str, object]) -> dict[str, object]:
        _own(caller, call)
        return {"filter_id": await self._filters.create(caller.usr, body)}

    @endpoint("GET", PATH + "/{filterId}", guests=True, spec=SPEC)
    async def get_filter(self, caller: User, call: Call) -> bytes:
        _own(caller, call)
        return await self._filters.body(caller.usr, call.params["filterId"])


def _own(caller: User, call: Call) -> None:
    if call.params["userId"] != caller.user_id:
        raise forbidden("Filters belong to the user who is signed in")
