# SPDX-License-Identifier: Apache-2.0
"""The page of messages between devices."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import missing_param
from homeserver.services.to_device import ToDevice

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging"


class ToDevicePage:
    def __init__(self, to_device: ToDevice) -> None:
        self._to_device = to_device

    @endpoint("PUT", "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}", guests=True, spec=SPEC)
    async def send(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" not in body:
            raise missing_param("messages is missing")
        await self._to_device.send(caller, call.params["eventType"], call.params["txnId"], body["messages"])
        return {}
