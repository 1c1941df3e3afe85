# SPDX-License-Identifier: Apache-2.0
"""The page of devices: list, show, rename, and delete with proof of who asks."""

import msgspec

from homeserver.http.endpoint import Answer, Call, User, endpoint
from homeserver.runtime import Runtime
from homeserver.services.devices import Devices
from homeserver.services.uia import InteractiveAuth

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#device-management"


class DeviceBody(msgspec.Struct):
    display_name: str | None = None


class DeleteBody(msgspec.Struct):
    auth: dict[str, object] | None = None


class DeleteManyBody(msgspec.Struct):
    devices: list[str]
    auth: dict[str, object] | None = None


class DevicePage:
    def __init__(self, devices: Devices, uia: InteractiveAuth, runtime: Runtime) -> None:
        self._devices = devices
        self._uia = uia
        self._runtime = runtime

    @endpoint("GET", "/_matrix/client/v3/devices", guests=True, spec=SPEC)
    async def everything(self, caller: User) -> dict[str, object]:
        return {"devices": await self._devices.of_user(caller.usr)}

    @endpoint("GET", "/_matrix/client/v3/devices/{deviceId}", guests=True, spec=SPEC)
    async def one(self, caller: User, call: Call) -> dict[str, object]:
        return await self._devices.one(caller.usr, call.params["deviceId"])

    @endpoint("PUT", "/_matrix/client/v3/devices/{deviceId}", guests=True, spec=SPEC)
    async def update(self, caller: User, call: Call, body: DeviceBody) -> Answer:
        device_id = call.params["deviceId"]
        # "If the device does not exist and the caller is an application service, it is created."
        if caller.appservice_id is not None and await self._devices.make(
            caller.usr, device_id, body.display_name, self._runtime.now_ms()
        ):
            return Answer(201, {})
        await self._devices.rename(caller.usr, device_id, body.display_name)
        return Answer(200, {})

    @endpoint("DELETE", "/_matrix/client/v3/devices/{deviceId}", optional_body=True, spec=SPEC)
    async def delete(self, caller: User, call: Call, body: DeleteBody) -> dict[str, object]:
        await self._delete(caller, call, [call.params["deviceId"]], body.auth)
        return {}

    @endpoint("POST", "/_matrix/client/v3/delete_devices", spec=SPEC)
    async def delete_many(self, caller: User, call: Call, body: DeleteManyBody) -> dict[str, object]:
        await self._delete(caller, call, body.devices, body.auth)
        return {}

    async def _delete(self, caller: User, call: Call, ids: list[str], auth: dict[str, object] | None) -> None:
        operation: dict[str, object] = {"endpoint": "delete_devices", "devices": sorted(set(ids))}
        result = await self._uia.require(caller, auth, operation, ip=call.client_ip)
        await self._devices.delete(caller, ids)
        await self._uia.finish(result)
