# SPDX-License-Identifier: Apache-2.0
"""Knows what a client is given that asks for everything of one room at once, in the old way."""

from typing import Any

import orjson

from homeserver.protocol.filters import EVERYTHING
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.pagination import Renderer, Stretch, gather
from homeserver.services.rooms.read import Reader, RoomAccess, state_of
from homeserver.services.sync.tokens import point_after, room_token
from storage import account_data, directory, membership
from storage.events import StoredEvent
from storage.timeline import LOWEST
from storage.txn import Txn

LIMIT = 20


class RoomBeginnings:
    """The `/initialSync` of one room."""

    def __init__(self, db: Database, access: RoomAccess, renderer: Renderer) -> None:
        self._db = db
        self._access = access
        self._renderer = renderer

    async def room(self, user: User, room_id: str, limit: int = LIMIT) -> dict[str, Any]:
        """State, the newest events, the user's membership and account data; M_FORBIDDEN for those who may not look."""
        reader = await self._access.reader(user, room_id)
        latest = point_after(self._db.published)
        found, state, listed, data = await self._db.read(_gathered, reader, latest, limit)
        chunk = await self._renderer.client_events(found[::-1], user, up_to=reader.frozen_at)
        answer: dict[str, Any] = {
            "room_id": room_id,
            "messages": {
                "chunk": chunk,
                "start": room_token(found[-1].ord or 0) if found else room_token(latest),
                "end": room_token(latest),
            },
            "state": await self._renderer.client_events(state, user, bundle=False),
            "visibility": "public" if listed else "private",
            "account_data": data,
        }
        if reader.kind is not None:
            answer["membership"] = membership.NAMES[reader.kind]
        return answer


def _gathered(
    txn: Txn, reader: Reader, latest: int, limit: int
) -> tuple[list[StoredEvent], list[StoredEvent], bool, list[dict[str, Any]]]:
    page = gather(txn, reader, Stretch(LOWEST, latest - 1), True, limit, EVERYTHING)
    entries = account_data.of_rooms(txn, reader.usr, [reader.room], 2**62)
    data = [{"type": entry.type, "content": orjson.Fragment(entry.content)} for entry in entries]
    return page.events, state_of(txn, reader), directory.is_published(txn, reader.room), data
