# SPDX-License-Identifier: Apache-2.0
"""The page for application services alone: asking whether they can be reached from here."""

import msgspec

from homeserver.http.endpoint import AppService, Call, endpoint
from homeserver.services.appservices.ping import Ping

SPEC = "https://spec.matrix.org/v1.19/application-service-api/#post_matrixclientv1appserviceappserviceidping"


class PingBody(msgspec.Struct):
    transaction_id: str | None = None


class AppServicePage:
    def __init__(self, ping: Ping) -> None:
        self._ping = ping

    @endpoint(
        "POST",
        "/_matrix/client/v1/appservice/{appserviceId}/ping",
        also=["/_matrix/client/unstable/fi.mau.msc2659/appservice/{appserviceId}/ping"],
        optional_body=True,
        spec=SPEC,
    )
    async def ping(self, caller: AppService, call: Call, body: PingBody) -> dict[str, object]:
        took = await self._ping.ping(caller.id, call.params["appserviceId"], body.transaction_id)
        return {"duration_ms": took}
