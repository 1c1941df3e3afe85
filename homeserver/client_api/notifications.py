# SPDX-License-Identifier: Apache-2.0
"""The page that lists notifications."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.notifications import MOST, USUAL, Notifications

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#listing-notifications"


class NotificationPage:
    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    @endpoint("GET", "/_matrix/client/v3/notifications", spec=SPEC)
    async def page(self, caller: User, call: Call) -> dict[str, Any]:
        limit = call.query.int("limit", USUAL, most=MOST)
        return await self._notifications.page(caller, call.query.get("from"), limit, call.query.get("only"))
