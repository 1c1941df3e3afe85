# SPDX-License-Identifier: Apache-2.0
"""The page of pushers."""

from typing import Any

from homeserver.http.endpoint import User, endpoint
from homeserver.services.pushers import Pushers

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#push-notifications"


class PusherPage:
    def __init__(self, pushers: Pushers) -> None:
        self._pushers = pushers

    @endpoint("GET", "/_matrix/client/v3/pushers", spec=SPEC)
    async def everything(self, caller: User) -> dict[str, Any]:
        return {"pushers": await self._pushers.of_user(caller)}

    @endpoint("POST", "/_matrix/client/v3/pushers/set", limit="user_data", spec=SPEC)
    async def set(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        await self._pushers.set(caller, body)
        return {}
