# SPDX-License-Identifier: Apache-2.0
"""The page of reports: events, rooms and people, to the administrators."""

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import bad_json
from homeserver.services.reports import Complaint, Reports

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#reporting-content"
MAX_REASON = 1_000


class EventReportBody(msgspec.Struct):
    reason: str | None = None
    score: int | None = None


class ReportBody(msgspec.Struct):
    reason: str


class ReportPage:
    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/report/{eventId}", limit="reports", spec=SPEC)
    async def event(self, caller: User, call: Call, body: EventReportBody) -> dict[str, object]:
        if body.score is not None and not -100 <= body.score <= 0:
            raise bad_json("score must be from -100 to 0")
        complaint = Complaint(_reason(body.reason), body.score)
        await self._reports.event(caller, call.params["roomId"], call.params["eventId"], complaint)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/report",
        also=["/_matrix/client/unstable/org.matrix.msc4151/rooms/{roomId}/report"],
        limit="reports",
        spec=SPEC,
    )
    async def room(self, caller: User, call: Call, body: ReportBody) -> dict[str, object]:
        await self._reports.room(caller, call.params["roomId"], Complaint(_reason(body.reason)))
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/users/{userId}/report",
        also=["/_matrix/client/unstable/org.matrix.msc4260/users/{userId}/report"],
        limit="reports",
        spec=SPEC,
    )
    async def user(self, caller: User, call: Call, body: ReportBody) -> dict[str, object]:
        await self._reports.user(caller, call.params["userId"], Complaint(_reason(body.reason)))
        return {}


def _reason(reason: str | None) -> str:
    if reason is not None and len(reason) > MAX_REASON:
        raise bad_json(f"The reason has more than {MAX_REASON} characters")
    return reason or ""
