# SPDX-License-Identifier: Apache-2.0
"""What other servers are told of people here besides events: what they read, that they type, that their devices
changed, and, where the admin lists a server, that they are online.

https://spec.matrix.org/v1.19/server-server-api/#edus
"""

from collections.abc import Sequence
from typing import Any

from federation.outbound.destination import Destinations
from federation.outbound.sender import Sender
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.presence import Presence
from storage import destinations, federation_news
from storage.txn import Change

STREAMS = frozenset(("receipt", "device_list", "presence"))


class News:
    """Reads what was committed, and passes on what concerns others."""

    def __init__(
        self, server_name: str, runtime: Runtime, db: Database, sender: Sender, presence: Presence, health: Destinations
    ) -> None:
        self._server_name = server_name
        self._runtime = runtime
        self._db = db
        self._sender = sender
        self._presence = presence
        self._health = health
        self._told = 0
        self._pending: set[Change] = set()
        self._reading = False

    def start(self) -> None:
        """Tell what happens from now on."""
        self._told = self._db.published
        self._db.subscribe(self.published)

    def published(self, position: int, changes: Sequence[Change]) -> None:
        """Called with every commit."""
        found = [change for change in changes if change.stream in STREAMS]
        if found:
            self._pending.update(found)
            if not self._reading:
                self._reading = True
                self._runtime.background("telling other servers", self._tell())

    def typing(self, room: int, room_id: str, user_id: str, typing: bool) -> None:
        """A local user starts or stops to type."""
        content = {"room_id": room_id, "user_id": user_id, "typing": typing}
        self._runtime.background("telling of typing", self._typing(room, content))

    async def _typing(self, room: int, content: dict[str, Any]) -> None:
        servers = await self._sender.servers_of_room(room)
        edu = {"edu_type": "m.typing", "content": content}
        self._sender.pass_on(servers, ("typing", content["room_id"], content["user_id"]), edu)

    async def _tell(self) -> None:
        try:
            while self._pending:
                changes, self._pending = self._pending, set()
                up_to = self._db.published
                after, self._told = self._told, up_to
                if any(change.stream == "receipt" for change in changes):
                    await self._receipts(after, up_to)
                users = {change.user for change in changes if change.stream == "device_list" and change.user}
                if users:
                    await self._devices(users, up_to)
                online = {change.user for change in changes if change.stream == "presence" and change.user}
                if online and self._health.listed:
                    await self._online(online)
        finally:
            self._reading = False

    async def _receipts(self, after: int, up_to: int) -> None:
        for receipt in await self._db.read(federation_news.receipts_of, after, up_to):
            data: dict[str, Any] = {"ts": receipt.ts}
            if receipt.thread_id is not None:
                data["thread_id"] = receipt.thread_id
            read = {receipt.user_id: {"data": data, "event_ids": [receipt.event_id]}}
            edu = {"edu_type": "m.receipt", "content": {receipt.room_id: {"m.read": read}}}
            servers = await self._sender.servers_of_room(receipt.room)
            key = ("receipt", receipt.room_id, receipt.user_id, receipt.thread_id or "")
            self._sender.pass_on(servers, key, edu)

    async def _devices(self, users: set[int], up_to: int) -> None:
        """The device list must not get lost: it goes the way of what is kept."""
        local = await self._db.read(federation_news.local_users, users)
        for usr, user_id in local.items():
            servers = await self._db.read(destinations.servers_sharing_with, usr, self._server_name)
            servers = {server for server in servers if self._health.permitted(server)}
            if servers:
                await self._db.write(federation_news.queue_device_list, usr, user_id, sorted(servers), up_to)

    async def _online(self, users: set[int]) -> None:
        for usr, user_id in (await self._db.read(federation_news.local_users, users)).items():
            content = await self._presence.of(usr)
            servers = await self._db.read(destinations.servers_sharing_with, usr, self._server_name)
            if content is not None and servers & self._health.listed:
                edu = {"edu_type": "m.presence", "content": {"push": [{"user_id": user_id, **content}]}}
                self._sender.pass_on(servers & self._health.listed, ("presence", user_id), edu)
