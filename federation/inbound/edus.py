# SPDX-License-Identifier: Apache-2.0
"""What other servers say besides events: who types, who has read what, who is online, whose devices changed, and
messages to devices. What is malformed, or not theirs to say, is dropped.

https://spec.matrix.org/v1.19/server-server-api/#edus
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs

from federation.inbound.acl import ServerAcls
from homeserver.protocol.ids import is_room_id, is_user_id, server_of
from homeserver.services.database import Database
from homeserver.services.presence import Presence
from homeserver.services.receipts import Receipts
from homeserver.services.to_device import ToDevice
from homeserver.services.typing import Typing
from storage import device_lists, membership, names, standing
from storage.txn import Txn

MOST_ENTRIES = 1_000
LONGEST_STATUS = 1_024

Content = Mapping[str, Any]


@attrs.frozen
class Listeners:
    """Who is told what the EDUs say."""

    typing: Typing
    receipts: Receipts
    presence: Presence
    to_device: ToDevice


class Edus:
    """Takes EDUs, each by its type."""

    def __init__(self, db: Database, acls: ServerAcls, listeners: Listeners) -> None:
        self._db = db
        self._acls = acls
        self._listeners = listeners
        self._by_type: Mapping[str, Callable[[str, Content], Awaitable[None]]] = {
            "m.typing": self._typing,
            "m.receipt": self._receipts,
            "m.presence": self._presence,
            "m.direct_to_device": self._to_device,
            "m.device_list_update": self._devices,
            "m.signing_key_update": self._devices,
            "org.matrix.signing_key_update": self._devices,
        }

    async def take(self, origin: str, edu: Mapping[str, Any]) -> None:
        """One EDU of a server. Types that this server does not know mean nothing."""
        kind, content = edu.get("edu_type"), edu.get("content")
        take = self._by_type.get(kind) if isinstance(kind, str) else None
        if take is not None and isinstance(content, dict):
            await take(origin, content)

    async def _typing(self, origin: str, content: Content) -> None:
        room_id, user_id, typing = content.get("room_id"), content.get("user_id"), content.get("typing")
        if not is_of(origin, user_id) or not isinstance(typing, bool) or not is_room_id(room_id):
            return
        room = await self._joined(origin, str(room_id), str(user_id))
        if room is not None:
            self._listeners.typing.received(room[0], str(user_id), typing)

    async def _receipts(self, origin: str, content: Content) -> None:
        left = MOST_ENTRIES
        for room_id, by_type in content.items():
            read = by_type.get("m.read") if isinstance(by_type, dict) else None
            if not is_room_id(room_id) or not isinstance(read, dict):
                continue
            for user_id, receipt in read.items():
                left -= 1
                if left < 0:
                    return
                if is_of(origin, user_id) and isinstance(receipt, dict):
                    await self._receipt(origin, room_id, user_id, receipt)

    async def _receipt(self, origin: str, room_id: str, user_id: str, receipt: Content) -> None:
        event_ids, data = receipt.get("event_ids"), receipt.get("data")
        if not isinstance(event_ids, list) or not event_ids or not isinstance(event_ids[-1], str):
            return
        data = data if isinstance(data, dict) else {}
        ts, thread = data.get("ts"), data.get("thread_id")
        joined = await self._joined(origin, room_id, user_id)
        if joined is None or type(ts) is not int or not 0 <= ts < 2**53:
            return
        room, usr = joined
        thread_id = thread if isinstance(thread, str) else None
        await self._listeners.receipts.receive(room, usr, event_ids[-1], thread_id, ts)

    async def _presence(self, origin: str, content: Content) -> None:
        pushed = content.get("push")
        for one in (pushed if isinstance(pushed, list) else [])[:MOST_ENTRIES]:
            if not isinstance(one, dict) or not is_of(origin, one.get("user_id")):
                continue
            usr = await self._db.point(names.user_nid, one["user_id"])
            state, status, ago = one.get("presence"), one.get("status_msg"), one.get("last_active_ago", 0)
            if usr is None or not isinstance(state, str) or type(ago) is not int:
                continue
            shown = status if isinstance(status, str) and len(status.encode()) <= LONGEST_STATUS else None
            await self._listeners.presence.receive(usr, state, shown, ago)

    async def _to_device(self, origin: str, content: Content) -> None:
        sender, kind, message_id = content.get("sender"), content.get("type"), content.get("message_id")
        if not is_of(origin, sender) or not isinstance(kind, str) or not isinstance(message_id, str):
            return
        await self._listeners.to_device.receive(origin, str(sender), kind, message_id, content.get("messages"))

    async def _devices(self, origin: str, content: Content) -> None:
        user_id = content.get("user_id")
        if not is_of(origin, user_id):
            return
        if await self._db.read(_is_shown, str(user_id)):
            await self._db.write(_devices_changed, str(user_id))

    async def _joined(self, origin: str, room_id: str, user_id: str) -> tuple[int, int] | None:
        """The numbers of room and user when the user is in the room, and the room takes what the server says."""
        found = await self._db.point(_joined_as, room_id, user_id)
        return found if found is not None and await self._acls.permits(room_id, origin) else None


def is_of(origin: str, user_id: object) -> bool:
    """Whether it is a user of the server."""
    return isinstance(user_id, str) and is_user_id(user_id) and server_of(user_id) == origin


def _joined_as(txn: Txn, room_id: str, user_id: str) -> tuple[int, int] | None:
    usr = names.user_nid(txn, user_id)
    room = None if usr is None else standing.joined_room(txn, usr, room_id)
    return None if usr is None or room is None else (room, usr)


def _is_shown(txn: Txn, user_id: str) -> bool:
    """Whether the user is in a room of this server."""
    usr = names.user_nid(txn, user_id)
    return usr is not None and bool(membership.rooms_of_user(txn, usr))


def _devices_changed(txn: Txn, user_id: str) -> None:
    usr = names.user_nid(txn, user_id)
    if usr is not None:
        device_lists.record(txn, usr)
