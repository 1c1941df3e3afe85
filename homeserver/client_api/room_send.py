# SPDX-License-Identifier: Apache-2.0
"""The page of sending: message events by transaction id, and redactions.

https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room
"""

from collections.abc import Callable
from typing import Any, Protocol

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import bad_json, invalid_param, missing_param
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import parse_room_id
from homeserver.services.callers import require_not_suspended
from homeserver.services.delayed import Scheduled
from homeserver.services.rooms.related_redaction import RelatedRedactions
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.transactions import scope_of

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#"
REDACTION = "m.room.redaction"
#: The greatest number that an event may hold.
MAX_INTEGER = 2**53 - 1
DELAY = "org.matrix.msc4140.delay"


class Delays(Protocol):
    """Who sends events later (`services.delayed`)."""

    async def schedule(self, user: User, wanted: Scheduled, scope: tuple[str, str] | None) -> str: ...


class RoomSend:
    def __init__(
        self, sender: Sender, delays: Delays, related: RelatedRedactions, active: Callable[[int], None]
    ) -> None:
        """`active(usr)` is told of each user who sends, for presence."""
        self._sender = sender
        self._delays = delays
        self._related = related
        self._active = active

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}",
        limit="message",
        guests=True,
        spec=f"{SPEC}put_matrixclientv3roomsroomidsendeventtypetxnid",
    )
    async def send_message(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, str]:
        params = call.params
        room_id, event_type = params["roomId"], params["eventType"]
        parse_room_id(room_id)
        delay = delay_of(call)
        if delay is not None:
            later = Scheduled(room_id, event_type, None, body, delay)
            return {"delay_id": await self._delays.schedule(caller, later, (call.path, params["txnId"]))}
        if event_type == REDACTION:
            draft = self._redaction(caller, body, body.get("redacts"), call)
        else:
            draft = Draft(event_type, body, caller.user_id, None, None, time_of(caller, call))
        if caller.is_suspended:
            require_not_suspended(caller)
        self._active(caller.usr)
        scope = scope_of(caller, f"send\n{room_id}\n{event_type}", params["txnId"])
        return {"event_id": await self._sender.send(caller, room_id, draft, scope=scope)}

    @endpoint(
        "PUT",
        "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}",
        limit="message",
        guests=True,
        optional_body=True,
        spec=f"{SPEC}put_matrixclientv3roomsroomidredacteventidtxnid",
    )
    async def redact(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, str]:
        params = call.params
        room_id, event_id = params["roomId"], params["eventId"]
        parse_room_id(room_id)
        with_relations = self._related.wanted(body)
        draft = self._redaction(caller, body, event_id, call)
        scope = scope_of(caller, f"redact\n{room_id}\n{event_id}", params["txnId"])
        redaction = await self._sender.send(caller, room_id, draft, scope=scope)
        self._related.follow(caller, room_id, event_id, with_relations, body.get("reason"))
        return {"event_id": redaction}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/send/{eventType}",
        limit="message",
        guests=True,
        spec="https://spec.matrix.org/legacy/client_server/r0.0.0.html",
    )
    async def send_once(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, str]:
        """Sending without a transaction id, as scripts and test suites from before r0.0.1 still do."""
        room_id, event_type = parse_room_id(call.params["roomId"]), call.params["eventType"]
        require_not_suspended(caller)
        if event_type == REDACTION:
            draft = self._redaction(caller, body, body.get("redacts"), call)
        else:
            draft = Draft(event_type, body, caller.user_id, None, None, time_of(caller, call))
        self._active(caller.usr)
        return {"event_id": await self._sender.send(caller, room_id, draft)}

    @endpoint(
        "POST",
        "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}",
        limit="message",
        guests=True,
        optional_body=True,
        spec="https://spec.matrix.org/legacy/client_server/r0.0.0.html",
    )
    async def redact_once(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, str]:
        room_id = parse_room_id(call.params["roomId"])
        draft = self._redaction(caller, body, call.params["eventId"], call)
        return {"event_id": await self._sender.send(caller, room_id, draft)}

    def _redaction(self, caller: User, body: dict[str, Any], target: object, call: Call) -> Draft:
        """ "redacts" goes where the room's version wants it; the builder of events knows where."""
        if target is None:
            raise missing_param("A redaction needs redacts, the id of the event to redact")
        if not isinstance(target, str):
            raise bad_json("redacts must be the id of an event")
        if not target.startswith("$"):
            raise invalid_param("redacts must be the id of an event")
        content = {key: value for key, value in body.items() if key != "redacts"}
        return Draft(REDACTION, content, caller.user_id, None, target, time_of(caller, call))


def delay_of(call: Call) -> int | None:
    """After how many milliseconds the event is to be sent (MSC4140); None: now."""
    if not call.raw_query or call.query.get(DELAY) is None:
        return None
    return call.query.int(DELAY, 0)


def time_of(caller: User, call: Call) -> int | None:
    """ "application services [...] may set the timestamp of events", by the parameter `ts`."""
    if caller.appservice_id is None:
        return None
    ts = call.query.get("ts")
    if ts is None:
        return None
    if not ts.isascii() or not ts.isdigit() or len(ts) > 16 or int(ts) > MAX_INTEGER:
        raise invalid_param("ts must be milliseconds since 1970")
    return int(ts)
