# SPDX-License-Identifier: Apache-2.0
"""The page of signing in and out: login, login tokens, refresh and logout."""

import msgspec

from homeserver.http.auth import token_of
from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.protocol.errors import unknown_token
from homeserver.services.login import Login
from homeserver.services.sessions import Sessions
from homeserver.services.uia import InteractiveAuth

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#legacy-login"


class RefreshBody(msgspec.Struct):
    refresh_token: str


class LoginPage:
    def __init__(self, login: Login, uia: InteractiveAuth, sessions: Sessions) -> None:
        self._login = login
        self._uia = uia
        self._sessions = sessions

    @endpoint("GET", "/_matrix/client/v3/login", spec=SPEC)
    async def flows(self, caller: Anyone) -> dict[str, object]:
        return {"flows": self._login.flows}

    @endpoint("POST", "/_matrix/client/v3/login", limit="login", spec=SPEC)
    async def log_in(self, caller: Anyone, call: Call, body: dict[str, object]) -> dict[str, object]:
        # Clients send a token that is no longer valid when they sign in again, so only this type looks at it.
        service = await self._service(call) if body.get("type") == "m.login.application_service" else None
        return await self._login.log_in(body, service)

    async def _service(self, call: Call) -> User:
        """ "without a valid as_token, the endpoints will return M_MISSING_TOKEN or M_UNKNOWN_TOKEN" """
        user = await self._sessions.by_token(token_of(call), ip=call.client_ip)
        if user.appservice_id is None:
            raise unknown_token()
        return user

    @endpoint(
        "POST",
        "/_matrix/client/v1/login/get_token",
        also=["/_matrix/client/unstable/org.matrix.msc3882/login/token"],
        limit="login",
        optional_body=True,
        spec="https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token",
    )
    async def get_token(self, caller: User, call: Call, body: dict[str, object]) -> dict[str, object]:
        result = await self._uia.require(caller, body.get("auth"), {"endpoint": "get_token"}, ip=call.client_ip)
        answer = await self._login.login_token(caller)
        await self._uia.finish(result)
        return answer

    @endpoint(
        "POST",
        "/_matrix/client/v3/refresh",
        also=["/_matrix/client/v1/refresh"],
        limit="login",
        spec="https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens",
    )
    async def refresh(self, caller: Anyone, body: RefreshBody) -> dict[str, object]:
        return await self._login.refresh(body.refresh_token)

    @endpoint("POST", "/_matrix/client/v3/logout", locked=True, spec=SPEC)
    async def log_out(self, caller: User) -> dict[str, object]:
        await self._login.log_out(caller)
        return {}

    @endpoint("POST", "/_matrix/client/v3/logout/all", locked=True, spec=SPEC)
    async def log_out_everywhere(self, caller: User) -> dict[str, object]:
        await self._login.log_out_everywhere(caller.usr)
        return {}
