# SPDX-License-Identifier: Apache-2.0
"""Which other networks can be reached from here: none, as long as no bridge says otherwise.

https://spec.matrix.org/v1.18/client-server-api/#third-party-networks
"""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import not_found

SPEC = "https://spec.matrix.org/v1.18/client-server-api/#third-party-lookups"


class ThirdParty:
    @endpoint("GET", "/_matrix/client/v3/thirdparty/protocols", spec=SPEC)
    async def protocols(self, caller: User) -> dict[str, object]:
        return {}

    @endpoint("GET", "/_matrix/client/v3/thirdparty/protocol/{protocol}", spec=SPEC)
    async def protocol(self, caller: User, call: Call) -> dict[str, object]:
        raise not_found("No such network is bridged")

    @endpoint("GET", "/_matrix/client/v3/thirdparty/location", spec=SPEC)
    @endpoint("GET", "/_matrix/client/v3/thirdparty/user", spec=SPEC)
    async def known_as(self, caller: User) -> list[object]:
        return []

    @endpoint("GET", "/_matrix/client/v3/thirdparty/location/{protocol}", spec=SPEC)
    @endpoint("GET", "/_matrix/client/v3/thirdparty/user/{protocol}", spec=SPEC)
    async def found_at(self, caller: User) -> list[object]:
        raise not_found("No such network is bridged")
