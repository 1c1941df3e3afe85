# SPDX-License-Identifier: Apache-2.0
"""What people may report to the administrators, and that it is kept."""

import attrs

from homeserver.protocol.errors import not_found
from homeserver.protocol.ids import is_event_id, is_room_id, is_user_id
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import accounts, events, membership, names, reports
from storage.reports import Report
from storage.txn import Txn


@attrs.frozen
class Complaint:
    """What was said about the thing reported; `score` is the deprecated measure from -100 to 0."""

    reason: str
    score: int | None = None


class Reports:
    def __init__(self, database: Database, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def event(self, user: User, room_id: str, event_id: str, complaint: Complaint) -> None:
        """Keep a report of an event in a room that the caller is joined to; raises M_NOT_FOUND for others."""
        known = is_room_id(room_id) and is_event_id(event_id)
        if not known or not await self._database.read(_may_report_event, user.usr, room_id, event_id):
            raise not_found("The event was not found or you are not joined to the room")
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
        if not is_room_id(room_id) or await self._database.point(names.room_nid, room_id) is None:
            raise not_found("The room was not found")
        report = Report(user.usr, reports.ROOM, self._runtime.now_ms(), complaint.reason, room=room_id)
        await self._database.write(reports.add, report)

    async def user(self, user: User, target: str, complaint: Complaint) -> None:
        """Keep a report of a user; raises M_NOT_FOUND for one that this server does not know."""
        if not is_user_id(target) or not await self._database.point(_is_known, target):
            raise not_found("The user was not found")
        report = Report(user.usr, reports.USER, self._runtime.now_ms(), complaint.reason, target=target)
        await self._database.write(reports.add, report)


def _may_report_event(txn: Txn, usr: int, room_id: str, event_id: str) -> bool:
    """Whether the event is in the room and the user is joined to it."""
    room = names.room_nid(txn, room_id)
    nid = events.nid_of(txn, event_id)
    if room is None or nid is None:
        return False
    place = events.places(txn, [nid]).get(nid)
    member = membership.of(txn, usr, room)
    return place is not None and place.room == room and member is not None and member.kind == membership.JOIN


def _is_known(txn: Txn, user_id: str) -> bool:
    """Whether the user has an account here, or was seen in a room."""
    nid = names.user_nid(txn, user_id)
    if nid is None:
        return False
    return not names.is_local(txn, nid) or accounts.by_usr(txn, nid) is not None
