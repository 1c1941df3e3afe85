# SPDX-License-Identifier: Apache-2.0
"""The page of the deprecated ways to keep up, and of peeking into rooms."""

from __future__ import annotations

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.sync.event_stream import EventStream
from homeserver.services.sync.tokens import parse_sync_token

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#room-previews"


class OldSync:
    """`/events` and `/initialSync`."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    @endpoint("GET", "/_matrix/client/v3/events", guests=True, waits=True, spec=SPEC)
    async def events(self, caller: User, call: Call) -> dict[str, Any]:
        query = call.query
        given = query.get("from")
        since = parse_sync_token(given) if given else None
        return await self._stream.events(caller, since, query.int("timeout", 0) / 1000, query.get("room_id"))

    @endpoint("GET", "/_matrix/client/v3/events/{eventId}", spec=SPEC)
    async def event(self, caller: User, call: Call) -> dict[str, Any]:
        return await self._stream.event(caller, call.params["eventId"])

    @endpoint("GET", "/_matrix/client/v3/initialSync", guests=True, spec=SPEC)
    async def initial_sync(self, caller: User, call: Call) -> dict[str, Any]:
        query = call.query
        return await self._stream.everything(caller, query.int("limit", 10, most=100), query.flag("archived", False))
