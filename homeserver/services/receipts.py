# SPDX-License-Identifier: Apache-2.0
"""What it means to say "read up to here": which receipts and markers a client may set, and what they change."""

from collections.abc import Mapping

import attrs
import orjson

from homeserver.protocol.errors import bad_json, forbidden, invalid_param, not_found
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import account_data, receipts, standing
from storage.receipts import KINDS, MAIN, UNTHREADED, Mark
from storage.standing import Spot
from storage.txn import Txn

FULLY_READ = "m.fully_read"
TYPES = (*KINDS, FULLY_READ)


@attrs.frozen(slots=True)
class ReadMarker:
    """The place of `m.fully_read`."""

    event_id: str
    ord: int


class Receipts:
    """Receipts and read markers of local users, and public receipts of others."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def send(
        self, user: User, room_id: str, receipt_type: str, event_id: str, body: Mapping[str, object]
    ) -> None:
        """`POST .../receipt/{receiptType}/{eventId}`. Raises M_INVALID_PARAM, M_FORBIDDEN or M_NOT_FOUND."""
        if receipt_type not in TYPES:
            raise invalid_param(f"Receipt type must be one of {', '.join(TYPES)}")
        thread_id = body.get("thread_id")
        if "thread_id" in body:
            if receipt_type == FULLY_READ:
                raise invalid_param("thread_id is not compatible with m.fully_read")
            if not isinstance(thread_id, str) or not thread_id:
                raise invalid_param("thread_id must be a string that is not empty")
        room = await self._room(user, room_id)
        at = await self._spot(room, event_id)
        if receipt_type == FULLY_READ:
            await self._write(user, room, [], ReadMarker(event_id, at.ord))
            return
        thread = UNTHREADED if not isinstance(thread_id, str) else await self._thread(room, at, thread_id)
        await self._write(user, room, [self._mark(user, room, thread, receipt_type, at)], None)

    async def set_markers(self, user: User, room_id: str, body: Mapping[str, object]) -> None:
        """`POST .../read_markers`: any of `m.fully_read`, `m.read` and `m.read.private`, all or none of them."""
        for name in TYPES:
            if name in body and not isinstance(body[name], str):
                raise bad_json(f"{name} must be an event id")
        room = await self._room(user, room_id)
        marks, marker = [], None
        for name in TYPES:
            event_id = body.get(name)
            if isinstance(event_id, str):
                at = await self._spot(room, event_id)
                if name == FULLY_READ:
                    marker = ReadMarker(event_id, at.ord)
                else:
                    marks.append(self._mark(user, room, UNTHREADED, name, at))
        if marks or marker:
            await self._write(user, room, marks, marker)

    async def receive(self, room: int, usr: int, event_id: str, thread_id: str | None, ts: int) -> None:
        """A public receipt of a user of another server, who is in the room. One for an unknown event is dropped."""
        at = await self._database.point(standing.spot, room, event_id)
        if at is None:
            return
        thread = UNTHREADED
        if thread_id == "main":
            thread = MAIN
        elif thread_id is not None:
            root = await self._database.point(standing.spot, room, thread_id)
            if root is None:
                return
            thread = root.nid
        mark = Mark(usr, room, thread, receipts.PUBLIC, at.ord, ts)
        await self._database.write(receipts.advance, mark)

    async def _room(self, user: User, room_id: str) -> int:
        room = await self._database.point(standing.joined_room, user.usr, room_id)
        if room is None:
            raise forbidden("You are not in this room")
        return room

    async def _spot(self, room: int, event_id: str) -> Spot:
        at = await self._database.point(standing.spot, room, event_id)
        if at is None:
            raise not_found("There is no such event in this room")
        return at

    async def _thread(self, room: int, at: Spot, thread_id: str) -> int:
        """The thread that a receipt names. "The event_id is not related to the thread_id" is M_INVALID_PARAM."""
        if thread_id == "main":
            if at.thread is not None:
                raise invalid_param("The event is not in the main timeline")
            return MAIN
        root = await self._database.point(standing.spot, room, thread_id)
        if root is None or root.nid not in (at.thread, at.nid):
            raise invalid_param("The event is not in the thread that thread_id names")
        return root.nid

    def _mark(self, user: User, room: int, thread: int, receipt_type: str, at: Spot) -> Mark:
        return Mark(user.usr, room, thread, KINDS[receipt_type], at.ord, self._runtime.now_ms())

    async def _write(self, user: User, room: int, marks: list[Mark], marker: ReadMarker | None) -> None:
        await self._database.write(_advance, user.usr, room, marks, marker)


def _advance(txn: Txn, usr: int, room: int, marks: list[Mark], marker: ReadMarker | None) -> None:
    """Move receipts and marker forward, never back."""
    receipts.advance_all(txn, marks)
    if marker is None:
        return
    content = account_data.get(txn, usr, room, FULLY_READ)
    if content is not None:
        at = standing.spot(txn, room, orjson.loads(content)["event_id"])
        if at is not None and at.ord >= marker.ord:
            return
    account_data.put(txn, usr, room, FULLY_READ, orjson.dumps({"event_id": marker.event_id}))
