# SPDX-License-Identifier: Apache-2.0
"""How a user's dehydrated device is put away, found again and read: it receives keys while no device is signed in.

https://github.com/matrix-org/matrix-spec-proposals/pull/3814
"""

from collections.abc import Mapping
from typing import Any

import orjson

from homeserver.protocol.errors import bad_json, forbidden, invalid_param, missing_param, not_found
from homeserver.protocol.ids import fits
from homeserver.runtime import Runtime
from homeserver.services import key_upload
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.key_upload import KeyUpload
from storage import dehydrated_devices, device_removal, devices, to_device
from storage.dehydrated_devices import DehydratedDevice
from storage.txn import Txn

#: How many messages one answer has.
LARGEST_BATCH = to_device.BATCH


class Dehydrated:
    """One dehydrated device for each user, replaced as a whole."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def put(self, user: User, body: Mapping[str, Any]) -> str:
        """Put away a device with its keys in place of the one that is there; its id."""
        device_id, data, name = body.get("device_id"), body.get("device_data"), body.get("initial_device_display_name")
        for field, value in (("device_id", device_id), ("device_data", data), ("device_keys", body.get("device_keys"))):
            if value is None:
                raise missing_param(f"{field} is missing")
        if not isinstance(device_id, str) or not device_id or not fits(device_id):
            raise invalid_param("device_id must be a string of 1 to 255 bytes")
        if not isinstance(data, dict) or not isinstance(name, str | None):
            raise bad_json("device_data must be an object and initial_device_display_name a string")
        upload = key_upload.parse(user.user_id, device_id, body)
        existing = await self._database.point(devices.find, user.usr, device_id)
        current = await self._database.point(dehydrated_devices.find, user.usr)
        if existing is not None and (current is None or current.device != existing.device):
            raise invalid_param("This device id belongs to another device")
        now = self._runtime.now_ms()
        await self._database.write(_put, user.usr, device_id, name, orjson.dumps(data), upload, now)
        return device_id

    async def get(self, usr: int) -> dict[str, Any]:
        """The response body with the device's id and data; raises M_NOT_FOUND."""
        device = await self._current(usr)
        return {"device_id": device.device_id, "device_data": orjson.Fragment(device.data)}

    async def delete(self, usr: int) -> str:
        """Delete the device with everything that waits for it; its id. Raises M_NOT_FOUND."""
        device = await self._current(usr)
        await self._database.write(device_removal.delete_devices, usr, [device.device_id])
        return device.device_id

    async def events(self, usr: int, device_id: str, next_batch: str | None, limit: int) -> dict[str, Any]:
        """Messages that wait for the device, from the token of an earlier call on; no events: there are no more.

        They are kept until the device is replaced or deleted, so that a client that fails can begin again.
        """
        device = await self._database.point(dehydrated_devices.find, usr)
        if device is None or device.device_id != device_id:
            raise forbidden("This is not your dehydrated device")
        since = _position(next_batch)
        upto = max(since, self._database.published)
        messages, position = await self._database.point(to_device.for_sync, device.device, since, upto, limit)
        return {"events": [orjson.Fragment(message) for message in messages], "next_batch": str(position)}

    async def _current(self, usr: int) -> DehydratedDevice:
        device = await self._database.point(dehydrated_devices.find, usr)
        if device is None:
            raise not_found("No dehydrated device available")
        return device


def _put(txn: Txn, usr: int, device_id: str, name: str | None, data: bytes, upload: KeyUpload, now: int) -> None:
    former = dehydrated_devices.find(txn, usr)
    if former is not None:
        device_removal.delete_devices(txn, usr, [former.device_id])
    device = devices.add(txn, usr, device_id, name, now)
    dehydrated_devices.put(txn, usr, device, data)
    key_upload.store(txn, usr, device, device_id, upload)


def _position(next_batch: str | None) -> int:
    if next_batch is None:
        return 0
    if not (next_batch.isascii() and next_batch.isdigit() and len(next_batch) < 19):
        raise invalid_param("next_batch is not a token of this endpoint")
    return int(next_batch)
