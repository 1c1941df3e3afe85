# SPDX-License-Identifier: Apache-2.0
"""The page of registration by shared secret, at the address that test tools know."""

from homeserver.http.endpoint import Anyone, endpoint
from homeserver.services.registration import Registrar

SPEC = "https://element-hq.github.io/synapse/latest/admin_api/register_api.html"


class SharedSecretPage:
    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    @endpoint("GET", "/_synapse/admin/v1/register", limit="registration", spec=SPEC)
    async def nonce(self, caller: Anyone) -> dict[str, object]:
        return {"nonce": self._registrar.nonce()}

    @endpoint("POST", "/_synapse/admin/v1/register", limit="registration", spec=SPEC)
    async def register(self, caller: Anyone, body: dict[str, object]) -> dict[str, object]:
        return await self._registrar.register_with_secret(body)
