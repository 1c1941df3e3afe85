# SPDX-License-Identifier: Apache-2.0
"""The page of one state event: reading it and setting it, with an empty state key left out or written as a slash.

https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from homeserver.client_api.room_send import Delays, delay_of, time_of
from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import invalid_param, not_found
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import parse_room_id
from homeserver.services.callers import require_not_suspended
from homeserver.services.delayed import Scheduled
from homeserver.services.rooms.read import RoomAccess
from homeserver.services.rooms.render import Renderer
from homeserver.services.rooms.send import Sender

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#"
MEMBER = "m.room.member"
CANONICAL_ALIAS = "m.room.canonical_alias"
TOMBSTONE = "m.room.tombstone"

CheckAlias = Callable[[str, Mapping[str, Any], Mapping[str, Any]], Awaitable[None]]


class MemberState(Protocol):
    """Who changes memberships (`services.rooms.membership`); by state event they obey the same checks."""

    async def put_state(
        self, user: User, room_id: str, target: str, content: Mapping[str, Any], ts: int | None = None
    ) -> str: ...


class AliasState(Protocol):
    """Who knows which aliases lead to a room (`services.rooms.aliases`)."""

    async def check_canonical(self, room_id: str, content: Mapping[str, Any], before: Mapping[str, Any]) -> None: ...


class RoomStatePage:
    def __init__(
        self,
        sender: Sender,
        access: RoomAccess,
        renderer: Renderer,
        members: MemberState,
        aliases: AliasState,
        delays: Delays,
    ) -> None:
        self._delays = delays
        self._sender = sender
        self._access = access
        self._renderer = renderer
        self._members = members
        self._aliases = aliases

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}",
        also=["/_matrix/client/v3/rooms/{roomId}/state/{eventType}"],
        limit="message",
        guests=True,
        spec=f"{SPEC}put_matrixclientv3roomsroomidstateeventtypestatekey",
    )
    async def put_state(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, str]:
        room_id, event_type = parse_room_id(call.params["roomId"]), call.params["eventType"]
        state_key = call.params.get("stateKey", "")
        require_not_suspended(caller)
        delay = delay_of(call)
        if delay is not None:
            later = Scheduled(room_id, event_type, state_key, body, delay)
            return {"delay_id": await self._delays.schedule(caller, later, None)}
        if event_type == MEMBER:
            ts = time_of(caller, call)
            return {"event_id": await self._members.put_state(caller, room_id, state_key, body, ts)}
        if event_type == CANONICAL_ALIAS and state_key == "":
            before = await self._sender.current_content(room_id, (CANONICAL_ALIAS, ""))
            await self._aliases.check_canonical(room_id, body, before)
        if event_type == TOMBSTONE and state_key == "" and body.get("replacement_room") == room_id:
            raise invalid_param("A room cannot be replaced by itself")
        draft = Draft(event_type, body, caller.user_id, state_key, None, time_of(caller, call))
        return {"event_id": await self._sender.send(caller, room_id, draft)}

    @endpoint(
        "GET",
        "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}",
        also=["/_matrix/client/v3/rooms/{roomId}/state/{eventType}"],
        guests=True,
        spec=f"{SPEC}get_matrixclientv3roomsroomidstateeventtypestatekey",
    )
    async def get_state(self, caller: User, call: Call) -> dict[str, Any] | bytes:
        wanted = call.query.get("format") or "content"
        if wanted not in ("content", "event"):
            raise invalid_param("format must be content or event")
        room_id, state_key = call.params["roomId"], call.params.get("stateKey", "")
        reader = await self._access.reader(caller, room_id)
        found = await self._access.state_event(reader, (call.params["eventType"], state_key))
        if found is None:
            raise not_found("The room has no such state")
        if wanted == "content":
            return found.content
        return (await self._renderer.client_events([found], caller, bundle=False))[0]
