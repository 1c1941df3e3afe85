# SPDX-License-Identifier: Apache-2.0
"""The page of other networks that application services bridge.

https://spec.matrix.org/v1.19/client-server-api/#third-party-networks
"""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import missing_param
from homeserver.services.appservices.networks import Networks

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#third-party-lookups"
#: What a query says about who asks, not about what is looked for.
ABOUT_THE_CALLER = ("access_token", "user_id", "device_id", "org.matrix.msc3202.device_id")


class ThirdParty:
    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @endpoint("GET", "/_matrix/client/v3/thirdparty/protocols", spec=SPEC)
    async def protocols(self, caller: User) -> dict[str, object]:
        return await self._networks.protocols()

    @endpoint("GET", "/_matrix/client/v3/thirdparty/protocol/{protocol}", spec=SPEC)
    async def protocol(self, caller: User, call: Call) -> dict[str, object]:
        return await self._networks.protocol(call.params["protocol"])

    @endpoint("GET", "/_matrix/client/v3/thirdparty/location/{protocol}", spec=SPEC)
    async def locations(self, caller: User, call: Call) -> list[dict[str, object]]:
        return await self._networks.found_at("location", call.params["protocol"], _fields(call))

    @endpoint("GET", "/_matrix/client/v3/thirdparty/user/{protocol}", spec=SPEC)
    async def users(self, caller: User, call: Call) -> list[dict[str, object]]:
        return await self._networks.found_at("user", call.params["protocol"], _fields(call))

    @endpoint("GET", "/_matrix/client/v3/thirdparty/location", spec=SPEC)
    async def locations_of_alias(self, caller: User, call: Call) -> list[dict[str, object]]:
        return await self._networks.known_as("location", "alias", _given(call, "alias"))

    @endpoint("GET", "/_matrix/client/v3/thirdparty/user", spec=SPEC)
    async def users_of_user_id(self, caller: User, call: Call) -> list[dict[str, object]]:
        return await self._networks.known_as("user", "userid", _given(call, "userid"))


def _fields(call: Call) -> dict[str, str]:
    """ "One or more custom fields that are passed to the application service" """
    query = call.query
    return {
        name: value for name in query.values if name not in ABOUT_THE_CALLER and (value := query.get(name)) is not None
    }


def _given(call: Call, name: str) -> str:
    value = call.query.get(name)
    if not value:
        raise missing_param(f"{name} is missing from the query")
    return value
