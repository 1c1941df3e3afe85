# SPDX-License-Identifier: Apache-2.0
"""The page of TURN servers for calls: which there are, and credentials that they take.

https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver
"""

import hashlib
import hmac
from base64 import b64encode

import attrs

from homeserver.http.endpoint import User, endpoint
from homeserver.protocol.errors import not_found
from homeserver.runtime import Runtime

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver"


@attrs.frozen
class TurnServer:
    """Where calls are relayed. Each user gets credentials that end after `lifetime` seconds."""

    uris: tuple[str, ...]
    lifetime: int
    secret: str

    def credentials(self, user_id: str, now: int) -> tuple[str, str]:
        """A user name and its password, from `now` in seconds; as coturn's REST API has it."""
        username = f"{now + self.lifetime}:{user_id}"
        return username, b64encode(hmac.digest(self.secret.encode(), username.encode(), hashlib.sha1)).decode()


class TurnPage:
    def __init__(self, runtime: Runtime, server: TurnServer | None) -> None:
        self._runtime = runtime
        self._server = server

    @endpoint("GET", "/_matrix/client/v3/voip/turnServer", spec=SPEC)
    async def turn_server(self, caller: User) -> dict[str, object]:
        server = self._server
        if server is None:
            # An answer with no addresses would break calls in browsers; after an error clients go on without one.
            raise not_found("This server has no TURN server")
        username, password = server.credentials(caller.user_id, self._runtime.now_ms() // 1000)
        return {"username": username, "password": password, "uris": list(server.uris), "ttl": server.lifetime}
