# SPDX-License-Identifier: Apache-2.0
"""The page of presence."""

from typing import Any

from homeserver.client_api.account_data import require_self
from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.presence import Presence, parsed_status

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#presence"
STATUS = "/_matrix/client/v3/presence/{userId}/status"


class PresencePage:
    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    @endpoint("GET", STATUS, spec=SPEC)
    async def get(self, caller: User, call: Call) -> dict[str, Any]:
        return await self._presence.get(caller, call.params["userId"])

    @endpoint("PUT", STATUS, limit="user_data", spec=SPEC)
    async def set(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        require_self(caller, call, "change")
        state, status = parsed_status(body)
        await self._presence.set(caller, state, status)
        return {}
