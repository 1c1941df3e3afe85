# SPDX-License-Identifier: Apache-2.0
"""Which servers a room shuts out.

https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import attrs

from federation.outbound.transport import is_address
from homeserver.protocol.errors import MatrixError, forbidden
from homeserver.protocol.ids import split_server_name
from homeserver.services.rooms.state import RoomState

ACL = ("m.room.server_acl", "")
REMEMBERED = 1_000


@attrs.frozen
class AccessList:
    """A room's list, compiled."""

    allow: tuple[re.Pattern[str], ...]
    deny: tuple[re.Pattern[str], ...]
    literals: bool

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "AccessList":
        literals = content.get("allow_ip_literals")
        return cls(_globs(content.get("allow")), _globs(content.get("deny")), literals is not False)

    def permits(self, server: str) -> bool:
        """Whether the server may take part."""
        try:
            host = split_server_name(server).host
        except MatrixError:
            return False
        if not self.literals and is_address(host):
            return False
        shown = f"[{host}]" if ":" in host else host
        names = (host, shown)
        if any(one.fullmatch(name) for one in self.deny for name in names):
            return False
        return any(one.fullmatch(name) for one in self.allow for name in names)


class ServerAcls:
    """Asks the rooms' current lists."""

    def __init__(self, state: RoomState) -> None:
        self._state = state
        self._compiled: OrderedDict[str, AccessList] = OrderedDict()

    async def permits(self, room_id: str, server: str) -> bool:
        event = (await self._state.current(room_id, [ACL])).get(ACL)
        if event is None:
            return True
        compiled = self._compiled.get(event.event_id)
        if compiled is None:
            compiled = self._compiled[event.event_id] = AccessList.of(event.content)
            while len(self._compiled) > REMEMBERED:
                self._compiled.popitem(last=False)
        return compiled.permits(server)

    async def require(self, room_id: str, server: str) -> None:
        """Raises M_FORBIDDEN for a server that the room shuts out."""
        if not await self.permits(room_id, server):
            raise forbidden("Your server is denied by the room's server ACL")


def _globs(patterns: object) -> tuple[re.Pattern[str], ...]:
    given = patterns if isinstance(patterns, list) else []
    return tuple(_glob(one) for one in given if isinstance(one, str))


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` is any number of characters, `?` one; names of servers know no case."""
    collapsed = re.sub(r"\*+", "*", pattern)
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in collapsed)
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
