# SPDX-License-Identifier: Apache-2.0
"""The page of `/sync`: how a client keeps up."""

from __future__ import annotations

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param
from homeserver.services.sync.engine import SyncEngine
from homeserver.services.sync.filters import Filters
from homeserver.services.sync.plan import Request
from homeserver.services.sync.tokens import parse_sync_token

PRESENCES = ("online", "unavailable", "offline")


class Sync:
    """The classic sync."""

    def __init__(self, engine: SyncEngine, filters: Filters) -> None:
        self._engine = engine
        self._filters = filters

    @endpoint(
        "GET",
        "/_matrix/client/v3/sync",
        guests=True,
        waits=True,
        spec="https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync",
    )
    async def sync(self, caller: User, call: Call) -> dict[str, Any]:
        query = call.query
        since = query.get("since")
        set_presence = query.get("set_presence") or "online"
        if set_presence not in PRESENCES:
            raise invalid_param("set_presence must be online, unavailable or offline")
        state_after = query.flag("use_state_after") or query.flag("org.matrix.msc4222.use_state_after")
        return await self._engine.sync(
            Request(
                user=caller,
                filter=await self._filters.resolve(caller.usr, query.get("filter")),
                since=parse_sync_token(since) if since else None,
                timeout=query.int("timeout", 0) / 1000,
                full_state=query.flag("full_state"),
                state_after=state_after,
                set_presence=set_presence,
            )
        )
