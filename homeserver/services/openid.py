# SPDX-License-Identifier: Apache-2.0
"""How somebody proves to a third party who they are on this server."""

from homeserver.protocol.errors import unknown_token
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import openid
from storage.tokens import digest

LIFETIME_S = 60 * 60


class OpenId:
    def __init__(self, server_name: str, database: Database, runtime: Runtime) -> None:
        self._server_name = server_name
        self._database = database
        self._runtime = runtime

    async def issue(self, user: User) -> dict[str, object]:
        """A token that proves the caller's user id, and nothing else, to whoever asks this server."""
        token = f"pot_{self._runtime.token(24)}"
        now = self._runtime.now_ms()
        await self._database.write(openid.add, digest(token), user.usr, now, now + LIFETIME_S * 1000)
        return {
            "access_token": token,
            "token_type": "Bearer",
            "matrix_server_name": self._server_name,
            "expires_in": LIFETIME_S,
        }

    async def owner(self, token: str) -> str:
        """The user id that a token proves (`GET /_matrix/federation/v1/openid/userinfo`); raises M_UNKNOWN_TOKEN."""
        user_id = await self._database.point(openid.owner, digest(token), self._runtime.now_ms())
        if user_id is None:
            raise unknown_token()
        return user_id
