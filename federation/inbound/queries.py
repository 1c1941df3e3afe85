# SPDX-License-Identifier: Apache-2.0
"""What other servers ask about users, aliases and rooms that this one shows them."""

from typing import Any

from homeserver.http.endpoint import Call, Server, endpoint
from homeserver.protocol.errors import missing_param
from homeserver.services.rooms.aliases import Aliases


class AliasQueries:
    """Where this server's aliases lead."""

    def __init__(self, aliases: Aliases, server_name: str) -> None:
        self._aliases = aliases
        self._server_name = server_name

    @endpoint("GET", "/_matrix/federation/v1/query/directory", limit="federation")
    async def directory(self, caller: Server, call: Call) -> dict[str, Any]:
        alias = call.query.get("room_alias")
        if alias is None:
            raise missing_param("room_alias is missing")
        if not alias.endswith(":" + self._server_name):
            raise missing_param("The alias is not of this server")
        found = await self._aliases.resolve(alias)
        return {"room_id": found.room_id, "servers": list(found.servers)}
