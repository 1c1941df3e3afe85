# SPDX-License-Identifier: Apache-2.0
"""The page of delayed events (MSC4140) in its three wire generations: schedule, look up, and manage."""

from typing import Any

import msgspec

from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.protocol.errors import invalid_param, missing_param, unrecognized
from homeserver.services.delayed import ACTIONS, DelayedEvents, Scheduled

SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/4140"
UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"


class ScheduleBody(msgspec.Struct):
    delay_ms: int
    content: dict[str, Any]
    state_key: str | None = None


class DelayedEventsPage:
    def __init__(self, delayed: DelayedEvents) -> None:
        self._delayed = delayed

    @endpoint(
        "PUT",
        UNSTABLE + "/rooms/{roomId}/delayed_event/{eventType}/{txnId}",
        also=["/_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}"],
        limit="message",
        spec=SPEC,
    )
    async def schedule(self, caller: User, call: Call, body: ScheduleBody) -> dict[str, object]:
        params = call.params
        wanted = Scheduled(params["roomId"], params["eventType"], body.state_key, body.content, body.delay_ms)
        return {"delay_id": await self._delayed.schedule(caller, wanted, (call.path, params["txnId"]))}

    @endpoint("GET", UNSTABLE + "/delayed_events", limit="delayed_events", spec=SPEC)
    async def all_of_caller(self, caller: User, call: Call) -> dict[str, object]:
        return await self._delayed.all_of(caller)

    @endpoint(
        "GET",
        UNSTABLE + "/delayed_events/{delayId}",
        also=["/_matrix/client/v1/delayed_events/{delayId}"],
        limit="delayed_events",
        spec=SPEC,
    )
    async def one(self, caller: User, call: Call) -> dict[str, object]:
        return await self._delayed.one_of(caller, call.params["delayId"])

    @endpoint("POST", UNSTABLE + "/delayed_events/{delayId}", limit="delayed_events", spec=SPEC)
    async def manage(self, caller: Anyone, call: Call, body: dict[str, Any]) -> dict[str, object]:
        action = body.get("action")
        if action is None:
            raise missing_param("action is required")
        await self._delayed.act(call.params["delayId"], _checked(action))
        return {}

    @endpoint(
        "POST",
        UNSTABLE + "/delayed_events/{delayId}/{action}",
        also=["/_matrix/client/v1/delayed_events/{delayId}/{action}"],
        limit="delayed_events",
        optional_body=True,
        spec=SPEC,
    )
    async def manage_by_path(self, caller: Anyone, call: Call) -> dict[str, object]:
        if call.params["action"] not in ACTIONS:
            raise unrecognized()
        await self._delayed.act(call.params["delayId"], call.params["action"])
        return {}


def _checked(action: object) -> str:
    if not isinstance(action, str) or action not in ACTIONS:
        raise invalid_param(f"action must be one of {', '.join(ACTIONS)}")
    return action
