# SPDX-License-Identifier: Apache-2.0
"""What a person sees and changes of their devices."""

from collections.abc import Sequence

from homeserver.protocol.errors import not_found
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.login import check_device_name
from homeserver.services.sessions import Sessions
from storage import device_removal, devices, sign_in
from storage.devices import Device


class Devices:
    """The devices of an account, with what the sessions know of when they were last seen."""

    def __init__(self, database: Database, sessions: Sessions) -> None:
        self._database = database
        self._sessions = sessions

    async def of_user(self, usr: int) -> list[dict[str, object]]:
        return [self.shown(device) for device in await self._database.read(devices.of_user, usr)]

    async def one(self, usr: int, device_id: str) -> dict[str, object]:
        return self.shown(await self._find(usr, device_id))

    async def rename(self, usr: int, device_id: str, name: str | None) -> None:
        """Set the display name; None changes nothing."""
        device = await self._find(usr, device_id)
        if name is not None and check_device_name(name) != device.name:
            await self._database.write(devices.rename, usr, device.device, name)

    async def make(self, usr: int, device_id: str, name: str | None, now: int) -> bool:
        """Make a device without signing it in (application services, MSC4190); False when it existed."""
        return await self._database.write(sign_in.ensure_device, usr, device_id, check_device_name(name), now)

    async def delete(self, user: User, device_ids: Sequence[str]) -> None:
        """Sign devices out and delete all that belongs to them; unknown ones are passed over."""
        await self._database.write(device_removal.delete_devices, user.usr, list(device_ids))
        self._sessions.forget_user(user.usr)

    async def _find(self, usr: int, device_id: str) -> Device:
        device = await self._database.point(devices.find, usr, device_id)
        if device is None:
            raise not_found("No such device")
        return device

    def shown(self, device: Device) -> dict[str, object]:
        """The device as the specification shows it to its owner."""
        answer: dict[str, object] = {"device_id": device.device_id}
        if device.name is not None:
            answer["display_name"] = device.name
        ts, ip = device.seen_ts, device.seen_ip
        unwritten = self._sessions.seen(device.device)
        if unwritten is not None:
            ts, ip = unwritten.ts, unwritten.ip
        if ts is not None:
            answer["last_seen_ts"] = ts
        if ip:
            answer["last_seen_ip"] = ip
        return answer
