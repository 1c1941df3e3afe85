# SPDX-License-Identifier: Apache-2.0
"""The page of room tags."""

from typing import Any

from homeserver.client_api.account_data import require_self
from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.account_data import AccountData

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#room-tagging"
TAGS = "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags"


class TagPage:
    def __init__(self, data: AccountData) -> None:
        self._data = data

    @endpoint("GET", TAGS, spec=SPEC)
    async def everything(self, caller: User, call: Call) -> dict[str, Any]:
        require_self(caller, call, "see")
        return {"tags": await self._data.tags(caller, call.params["roomId"])}

    @endpoint("PUT", TAGS + "/{tag}", spec=SPEC)
    async def set(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        require_self(caller, call, "change")
        await self._data.set_tag(caller, call.params["roomId"], call.params["tag"], body)
        return {}

    @endpoint("DELETE", TAGS + "/{tag}", spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, Any]:
        require_self(caller, call, "change")
        await self._data.delete_tag(caller, call.params["roomId"], call.params["tag"])
        return {}
