# SPDX-License-Identifier: Apache-2.0
"""What administrators see of people: from where they connect."""

from homeserver.protocol.errors import forbidden
from homeserver.services.accounts import Accounts
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.sessions import Sessions
from storage import devices


class Whois:
    def __init__(self, database: Database, sessions: Sessions, local: Accounts) -> None:
        self._database = database
        self._sessions = sessions
        self._local = local

    async def whois(self, caller: User, user_id: str) -> dict[str, object]:
        """Connections of each device of the user; for administrators and the user."""
        if not caller.is_admin and caller.user_id != user_id:
            raise forbidden("Only administrators may look at others")
        account = await self._local.find_local(user_id)
        shown: dict[str, object] = {}
        for device in await self._database.read(devices.of_user, account.usr):
            seen = self._sessions.seen(device.device) or (
                devices.Seen(device.device, device.seen_ts, device.seen_ip or "", device.seen_agent or "")
                if device.seen_ts is not None
                else None
            )
            connections = [] if seen is None else [{"ip": seen.ip, "last_seen": seen.ts, "user_agent": seen.agent}]
            shown[device.device_id] = {"sessions": [{"connections": connections}]}
        return {"user_id": account.user_id, "devices": shown}
