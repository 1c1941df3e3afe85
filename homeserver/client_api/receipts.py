# SPDX-License-Identifier: Apache-2.0
"""The page of receipts and read markers."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.presence import Presence
from homeserver.services.receipts import Receipts

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#receipts"
ROOM = "/_matrix/client/v3/rooms/{roomId}"


class ReceiptPage:
    def __init__(self, receipts: Receipts, presence: Presence) -> None:
        self._receipts = receipts
        self._presence = presence

    @endpoint("POST", ROOM + "/receipt/{receiptType}/{eventId}", limit="user_data", optional_body=True, spec=SPEC)
    async def send(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        params = call.params
        await self._receipts.send(caller, params["roomId"], params["receiptType"], params["eventId"], body)
        self._presence.active(caller.usr)
        return {}

    @endpoint(
        "POST",
        ROOM + "/read_markers",
        limit="user_data",
        spec="https://spec.matrix.org/v1.19/client-server-api/#fully-read-markers",
    )
    async def set_markers(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        await self._receipts.set_markers(caller, call.params["roomId"], body)
        self._presence.active(caller.usr)
        return {}
