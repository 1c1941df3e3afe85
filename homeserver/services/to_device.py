# SPDX-License-Identifier: Apache-2.0
"""How a message gets from one device to others: at least once, in the order of its sender.

Sync calls `await to_device.for_sync(device, since, upto)`, where `since` is what the client's token says of to-device
messages; it answers the messages as JSON texts and the position that the next token must carry for them (less than
`upto` when more are waiting). Once that token comes back, `await to_device.acknowledge(device, since)` deletes them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import bad_json
from homeserver.protocol.ids import is_user_id, server_of
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.ports import EduOutbox
from storage import device_keys, devices, names, to_device
from storage.to_device import Addressed
from storage.txn import Txn

#: "The device ID may also be `*`, meaning all known devices for the user." (v1.19, PUT /sendToDevice)
ALL_DEVICES = "*"

#: user id → device id or `*` → content
Messages = Mapping[str, Mapping[str, Mapping[str, Any]]]


@attrs.frozen(slots=True)
class Parcel:
    """Messages of one type from one sender for devices here (`here`) and on other servers (`elsewhere`, by server)."""

    sender: str
    type: str
    message_id: str
    here: Messages
    elsewhere: Mapping[str, Messages]


class ToDevice:
    """Sending and delivering messages between devices."""

    def __init__(self, database: Database, runtime: Runtime, server_name: str, outbox: EduOutbox) -> None:
        self._database = database
        self._runtime = runtime
        self._server_name = server_name
        self._outbox = outbox

    async def send(self, user: User, event_type: str, txn_id: str, messages: object) -> None:
        """Queue the messages for their devices; a transaction id of the same device and type counts once."""
        parcel = self._pack(user.user_id, event_type, check(messages))
        owner = "" if user.device else user.user_id
        scope = hashlib.sha256(orjson.dumps(["sendToDevice", owner, event_type, txn_id])).digest()[:16]
        await self._database.write(_send, parcel, self._outbox, user.device, scope, self._runtime.now_ms())

    async def receive(self, origin: str, sender: str, event_type: str, message_id: str, messages: object) -> None:
        """Queue what a user of another server sends to devices here; a message id of that server counts once."""
        here = {one: devices for one, devices in check(messages).items() if server_of(one) == self._server_name}
        scope = hashlib.sha256(orjson.dumps(["direct_to_device", origin, sender, message_id])).digest()[:16]
        if here:
            await self._database.write(_receive, sender, event_type, here, scope, self._runtime.now_ms())

    async def for_sync(self, device: int, since: int, upto: int) -> tuple[list[bytes], int]:
        """The messages in (since, upto], oldest first, and the position for the client's next token."""
        return await self._database.point(to_device.for_sync, device, since, upto)

    async def acknowledge(self, device: int, upto: int) -> None:
        """The device holds a token with this position, so it has everything up to there: delete that.

        A position in the future comes from before the database was put back to an older state, and says nothing.
        """
        if upto <= self._database.published and await self._database.point(to_device.has_acknowledged, device, upto):
            await self._database.write(to_device.acknowledge, device, upto)

    def _pack(self, sender: str, event_type: str, messages: Messages) -> Parcel:
        here: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        elsewhere: dict[str, dict[str, Mapping[str, Mapping[str, Any]]]] = {}
        for user_id, by_device in messages.items():
            server = server_of(user_id)
            if server == self._server_name:
                here[user_id] = by_device
            else:
                elsewhere.setdefault(server, {})[user_id] = by_device
        return Parcel(sender, event_type, self._runtime.token(12), here, elsewhere)


def check(messages: object) -> Messages:
    """`messages` when it is a map of user ids to maps of device ids to objects, else M_BAD_JSON."""
    if not isinstance(messages, dict):
        raise bad_json("messages must be an object")
    for user_id, by_device in messages.items():
        if not is_user_id(user_id):
            raise bad_json(f"messages: {user_id[:255]!r} is not a user id")
        if not isinstance(by_device, dict) or not all(isinstance(content, dict) for content in by_device.values()):
            raise bad_json(f"messages: {user_id!r} must be a map of device ids to objects")
    return messages


def _send(txn: Txn, parcel: Parcel, outbox: EduOutbox, device: int, scope: bytes, now: int) -> None:
    if not to_device.is_new_transaction(txn, device, scope, now):
        return
    to_device.queue(txn, addressed(txn, parcel.sender, parcel.type, parcel.here))
    for server, messages in parcel.elsewhere.items():
        content = {
            "sender": parcel.sender,
            "type": parcel.type,
            "message_id": parcel.message_id,
            "messages": messages,
        }
        outbox.queue(txn, server, "m.direct_to_device", content)


def _receive(txn: Txn, sender: str, event_type: str, messages: Messages, scope: bytes, now: int) -> None:
    if to_device.is_new_transaction(txn, 0, scope, now):
        to_device.queue(txn, addressed(txn, sender, event_type, messages))


def addressed(txn: Txn, sender: str, event_type: str, messages: Messages) -> list[Addressed]:
    """One message for each known device of this server that is meant; its own entry goes before that of `*`."""
    numbers = names.user_nids(txn, messages)
    found = []
    for user_id, by_device in messages.items():
        usr = numbers.get(user_id)
        if usr is None:
            continue
        if ALL_DEVICES in by_device:
            known = {one.device_id: one.device for one in devices.of_user(txn, usr)}
        else:
            known = device_keys.device_numbers(txn, usr, list(by_device))
        for device_id, device in known.items():
            content = by_device[device_id] if device_id in by_device else by_device[ALL_DEVICES]
            message = orjson.dumps({"content": content, "sender": sender, "type": event_type})
            found.append(Addressed(usr, device, message))
    return found
