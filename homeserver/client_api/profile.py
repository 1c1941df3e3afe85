# SPDX-License-Identifier: Apache-2.0
"""The page of profiles: what people say of themselves, field by field."""

from collections.abc import Mapping

from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.services.profiles import Profiles

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#profiles"
ONE = "/_matrix/client/v3/profile/{userId}/{keyName}"
UNSTABLE = "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{userId}/{keyName}"


class ProfilePage:
    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles

    @endpoint(
        "GET",
        "/_matrix/client/v3/profile/{userId}",
        also=["/_matrix/client/unstable/uk.tcpip.msc4133/profile/{userId}"],
        spec=SPEC,
    )
    async def everything(self, caller: Anyone, call: Call) -> dict[str, object]:
        return dict(await self._profiles.everything(call.params["userId"]))

    @endpoint("GET", ONE, also=[UNSTABLE], spec=SPEC)
    async def field(self, caller: Anyone, call: Call) -> dict[str, object]:
        return dict(await self._profiles.field(call.params["userId"], call.params["keyName"]))

    @endpoint("PUT", ONE, also=[UNSTABLE], guests=True, spec=SPEC)
    async def set_field(self, caller: User, call: Call, body: dict[str, object]) -> dict[str, object]:
        given: Mapping[str, object] = body
        await self._profiles.set_field(caller, call.params["userId"], call.params["keyName"], given)
        return {}

    @endpoint("DELETE", ONE, also=[UNSTABLE], guests=True, spec=SPEC)
    async def delete_field(self, caller: User, call: Call) -> dict[str, object]:
        await self._profiles.delete_field(caller, call.params["userId"], call.params["keyName"])
        return {}
