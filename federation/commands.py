# SPDX-License-Identifier: Apache-2.0
"""What an admin may ask of the running server about others: how each does, and to try one again now."""

from typing import Any

from federation.outbound.destination import Destinations
from federation.outbound.sender import Sender
from homeserver.http.endpoint import Anyone, endpoint
from homeserver.protocol.errors import bad_json


class FederationCommands:
    """Served on the socket for commands on this machine only."""

    def __init__(self, sender: Sender, health: Destinations) -> None:
        self._sender = sender
        self._health = health

    @endpoint("POST", "/_parley/local/federation-status", optional_body=True, limit=None)
    async def status(self, caller: Anyone, body: dict[str, Any]) -> dict[str, Any]:
        return {"destinations": [self._shown(server) for server in sorted(self._sender.known)]}

    @endpoint("POST", "/_parley/local/federation-retry", limit=None)
    async def retry(self, caller: Anyone, body: dict[str, Any]) -> dict[str, Any]:
        server = body.get("server")
        if not isinstance(server, str):
            raise bad_json("server must be a server name")
        self._health.succeeded(server)
        return {"known": server in self._sender.known}

    def _shown(self, server: str) -> dict[str, Any]:
        destination, health = self._sender.known[server], self._health.health(server)
        shown: dict[str, Any] = {
            "server": server,
            "state": destination.state.value,
            "waiting": len(destination.queue),
            "behind": destination.behind is not None,
            "transactions": destination.transactions,
        }
        if health.failing_since:
            shown |= {
                "failing_since": health.failing_since,
                "retry_at": health.retry_at,
                "last_error": health.last_error,
            }
        return shown
