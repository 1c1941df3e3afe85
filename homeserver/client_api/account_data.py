# SPDX-License-Identifier: Apache-2.0
"""The page of account data: what clients keep with their account, for themselves only."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import forbidden
from homeserver.services.account_data import AccountData

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#client-config"
OF_ACCOUNT = "/user/{userId}/account_data/{type}"
OF_ROOM = "/user/{userId}/rooms/{roomId}/account_data/{type}"
V3 = "/_matrix/client/v3"
MSC3391 = "/_matrix/client/unstable/org.matrix.msc3391"


class AccountDataPage:
    def __init__(self, data: AccountData) -> None:
        self._data = data

    @endpoint("GET", V3 + OF_ACCOUNT, spec=SPEC)
    @endpoint("GET", V3 + OF_ROOM, spec=SPEC)
    async def get(self, caller: User, call: Call) -> bytes:
        require_self(caller, call, "see")
        return await self._data.get(caller, call.params.get("roomId"), call.params["type"])

    @endpoint("PUT", V3 + OF_ACCOUNT, spec=SPEC)
    @endpoint("PUT", V3 + OF_ROOM, spec=SPEC)
    async def set(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        require_self(caller, call, "change")
        await self._data.set(caller, call.params.get("roomId"), call.params["type"], body)
        return {}

    @endpoint("DELETE", MSC3391 + OF_ACCOUNT, spec=SPEC)
    @endpoint("DELETE", MSC3391 + OF_ROOM, spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, Any]:
        require_self(caller, call, "change")
        await self._data.delete(caller, call.params.get("roomId"), call.params["type"])
        return {}


def require_self(caller: User, call: Call, deed: str) -> None:
    """Raise M_FORBIDDEN unless the path's user is the caller."""
    if call.params["userId"] != caller.user_id:
        raise forbidden(f"You may not {deed} what belongs to another user")
