# SPDX-License-Identifier: Apache-2.0
"""The page of server administration: whois, lock and suspend."""

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.accounts import Moderation
from homeserver.services.admin import Whois

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#server-administration"


class LockBody(msgspec.Struct):
    locked: bool


class SuspendBody(msgspec.Struct):
    suspended: bool


class AdminPage:
    def __init__(self, whois: Whois, moderation: Moderation) -> None:
        self._whois = whois
        self._moderation = moderation

    @endpoint("GET", "/_matrix/client/v3/admin/whois/{userId}", spec=SPEC)
    async def whois(self, caller: User, call: Call) -> dict[str, object]:
        return await self._whois.whois(caller, call.params["userId"])

    @endpoint(
        "GET",
        "/_matrix/client/v1/admin/lock/{userId}",
        also=["/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}"],
        spec=SPEC,
    )
    async def is_locked(self, caller: User, call: Call) -> dict[str, object]:
        return {"locked": (await self._moderation.target(caller, call.params["userId"], change=False)).locked}

    @endpoint(
        "PUT",
        "/_matrix/client/v1/admin/lock/{userId}",
        also=["/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}"],
        spec=SPEC,
    )
    async def lock(self, caller: User, call: Call, body: LockBody) -> dict[str, object]:
        account = await self._moderation.target(caller, call.params["userId"], change=True)
        await self._moderation.set_locked(account, body.locked)
        return {"locked": body.locked}

    @endpoint(
        "GET",
        "/_matrix/client/v1/admin/suspend/{userId}",
        also=["/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}"],
        spec=SPEC,
    )
    async def is_suspended(self, caller: User, call: Call) -> dict[str, object]:
        return {"suspended": (await self._moderation.target(caller, call.params["userId"], change=False)).suspended}

    @endpoint(
        "PUT",
        "/_matrix/client/v1/admin/suspend/{userId}",
        also=["/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}"],
        spec=SPEC,
    )
    async def suspend(self, caller: User, call: Call, body: SuspendBody) -> dict[str, object]:
        account = await self._moderation.target(caller, call.params["userId"], change=True)
        await self._moderation.set_suspended(account, body.suspended)
        return {"suspended": body.suspended}
