# SPDX-License-Identifier: Apache-2.0
"""The page of typing notifications."""

from typing import Any

import msgspec

from homeserver.client_api.account_data import require_self
from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param
from homeserver.services.presence import Presence
from homeserver.services.typing import Typing

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#typing-notifications"


class TypingBody(msgspec.Struct):
    typing: bool
    timeout: int | None = None


class TypingPage:
    def __init__(self, typing: Typing, presence: Presence) -> None:
        self._typing = typing
        self._presence = presence

    @endpoint("PUT", "/_matrix/client/v3/rooms/{roomId}/typing/{userId}", limit="user_data", spec=SPEC)
    async def set(self, caller: User, call: Call, body: TypingBody) -> dict[str, Any]:
        require_self(caller, call, "change")
        if body.timeout is not None and body.timeout < 0:
            raise invalid_param("timeout must not be negative")
        await self._typing.set(caller, call.params["roomId"], body.typing, body.timeout)
        self._presence.active(caller.usr)
        return {}
