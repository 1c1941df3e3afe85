# SPDX-License-Identifier: Apache-2.0
"""The page of TURN servers for calls."""

from homeserver.http.endpoint import User, endpoint
from homeserver.protocol.errors import not_found

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver"


class TurnPage:
    @endpoint("GET", "/_matrix/client/v3/voip/turnServer", spec=SPEC)
    async def turn_server(self, caller: User) -> dict[str, object]:
        # An answer with no addresses would break calls in browsers; after an error clients go on without a TURN server.
        raise not_found("This server has no TURN server")
