# SPDX-License-Identifier: Apache-2.0
"""The page of sliding sync, as today's clients speak it and in the merged form."""

from __future__ import annotations

from typing import Any

from homeserver.client_api.sync import PRESENCES
from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param
from homeserver.services.sync.sliding.engine import SlidingSync
from homeserver.services.sync.sliding.request import SlidingRequest, parse_merged, parse_today

SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/4186"


class SlidingSyncPage:
    """Sliding sync (MSC4186)."""

    def __init__(self, engine: SlidingSync) -> None:
        self._engine = engine

    @endpoint(
        "POST",
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
        guests=True,
        waits=True,
        optional_body=True,
        spec=SPEC,
    )
    async def today(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        query = call.query
        presence = query.get("set_presence") or "online"
        return await self._run(caller, parse_today(body, query.get("pos"), query.int("timeout", 0), presence))

    @endpoint("POST", "/_matrix/client/v4/sync", guests=True, waits=True, optional_body=True, spec=SPEC)
    async def merged(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        return await self._run(caller, parse_merged(body))

    async def _run(self, caller: User, request: SlidingRequest) -> dict[str, Any]:
        if request.set_presence not in PRESENCES:
            raise invalid_param("set_presence must be online, unavailable or offline")
        return await self._engine.sync(caller, request)
