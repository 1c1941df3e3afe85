# SPDX-License-Identifier: Apache-2.0
"""What administrators see: from where people connect, and what was reported."""

from typing import Protocol

import attrs

from homeserver.protocol.errors import forbidden, not_found
from homeserver.runtime import Runtime
from homeserver.services.accounts import Accounts
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.sessions import Sessions
from storage import devices, reports
from storage.reports import Report


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


class Witness(Protocol):
    """Port to the rooms: what a person who reports something can see of it."""

    async def may_report_event(self, user: User, room_id: str, event_id: str) -> bool:
        """Whether the event exists and the user is, or was, joined to its room."""

    async def room_exists(self, room_id: str) -> bool: ...

    async def user_exists(self, user_id: str) -> bool: ...


@attrs.frozen
class Complaint:
    """What was said about the thing reported; `score` is the deprecated measure from -100 to 0."""

    reason: str
    score: int | None = None


class Reports:
    def __init__(self, database: Database, runtime: Runtime, witness: Witness) -> None:
        self._database = database
        self._runtime = runtime
        self._witness = witness

    async def event(self, user: User, room_id: str, event_id: str, complaint: Complaint) -> None:
        """Keep a report of an event; raises M_NOT_FOUND for one that the caller cannot see."""
        if not await self._witness.may_report_event(user, room_id, event_id):
            raise not_found("Unable to find the event in a room that you have joined")
        report = Report(
            user.usr,
            reports.EVENT,
            self._runtime.now_ms(),
            complaint.reason,
            room=room_id,
            event=event_id,
            score=complaint.score,
        )
        await self._database.write(reports.add, report)

    async def room(self, user: User, room_id: str, complaint: Complaint) -> None:
        """Keep a report of a room, joined or not; raises M_NOT_FOUND for one that this server does not know."""
        if not await self._witness.room_exists(room_id):
            raise not_found("The room is not known here")
        report = Report(user.usr, reports.ROOM, self._runtime.now_ms(), complaint.reason, room=room_id)
        await self._database.write(reports.add, report)

    async def user(self, user: User, target: str, complaint: Complaint) -> None:
        """Keep a report of a user; raises M_NOT_FOUND for one that this server does not know."""
        if not await self._witness.user_exists(target):
            raise not_found("The user is not known here")
        report = Report(user.usr, reports.USER, self._runtime.now_ms(), complaint.reason, target=target)
        await self._database.write(reports.add, report)
