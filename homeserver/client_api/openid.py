# SPDX-License-Identifier: Apache-2.0
"""The page of OpenID tokens."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import forbidden
from homeserver.services.openid import OpenId

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#openid"


class OpenIdPage:
    def __init__(self, openid: OpenId) -> None:
        self._openid = openid

    @endpoint(
        "POST",
        "/_matrix/client/v3/user/{userId}/openid/request_token",
        optional_body=True,
        spec=SPEC,
    )
    async def request_token(self, caller: User, call: Call, body: dict[str, object]) -> dict[str, object]:
        if call.params["userId"] != caller.user_id:
            raise forbidden("You can only prove who you are yourself")
        return await self._openid.issue(caller)
