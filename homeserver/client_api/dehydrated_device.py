# SPDX-License-Identifier: Apache-2.0
"""The page of dehydrated devices (MSC3814)."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import bad_json
from homeserver.services.dehydrated import LARGEST_BATCH, Dehydrated

SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/3814"
PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"


class DehydratedDevicePage:
    def __init__(self, dehydrated: Dehydrated) -> None:
        self._dehydrated = dehydrated

    @endpoint("PUT", PATH, limit="keys", spec=SPEC)
    async def put(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        return {"device_id": await self._dehydrated.put(caller, body)}

    @endpoint("GET", PATH, spec=SPEC)
    async def get(self, caller: User) -> dict[str, Any]:
        return await self._dehydrated.get(caller.usr)

    @endpoint("DELETE", PATH, spec=SPEC)
    async def delete(self, caller: User) -> dict[str, Any]:
        return {"device_id": await self._dehydrated.delete(caller.usr)}

    @endpoint("GET", f"{PATH}/{{deviceId}}/events", spec=SPEC)
    async def events(self, caller: User, call: Call) -> dict[str, Any]:
        limit = call.query.int("limit", LARGEST_BATCH, least=1, most=LARGEST_BATCH)
        next_batch = call.query.get("next_batch") or call.query.get("from")
        return await self._dehydrated.events(caller.usr, call.params["deviceId"], next_batch, limit)

    @endpoint("POST", f"{PATH}/{{deviceId}}/events", optional_body=True, spec=SPEC)
    async def events_by_body(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        next_batch = body.get("next_batch")
        if not isinstance(next_batch, str | None):
            raise bad_json("next_batch must be a string")
        return await self._dehydrated.events(caller.usr, call.params["deviceId"], next_batch, LARGEST_BATCH)
