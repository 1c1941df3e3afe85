# SPDX-License-Identifier: Apache-2.0
"""A service built on mautrix-python, and a person who talks to it with encryption; run with mautrix's own interpreter.

Arguments: the server's address, the service's port, the two tokens.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from mautrix.appservice import AppService
from mautrix.appservice.state_store import ASStateStore
from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore
from mautrix.crypto import OlmMachine
from mautrix.crypto import StateStore as CryptoStateStore
from mautrix.crypto.store import MemoryCryptoStore
from mautrix.errors import SessionNotFound
from mautrix.types import EventType, Membership, PresenceState

BOT, ANN = "@ircbot:localhost", "@irc_ann:localhost"
WAIT = 60.0


class BothStores(MemoryStateStore, ASStateStore):
    """What the service knows of rooms and of its users."""

    def __init__(self) -> None:
        MemoryStateStore.__init__(self)
        ASStateStore.__init__(self)


class CryptoRooms(CryptoStateStore):
    """What encryption asks of rooms."""

    def __init__(self, state: MemoryStateStore) -> None:
        self._state = state

    async def is_encrypted(self, room_id: str) -> bool:
        return bool(await self._state.is_encrypted(room_id))

    async def get_encryption_info(self, room_id: str) -> Any:
        return await self._state.get_encryption_info(room_id)

    async def find_shared_rooms(self, user_id: str) -> list[str]:
        return [room for room, members in self._state.members.items() if user_id in members]


def machine(client: Client, store: MemoryCryptoStore, state: MemoryStateStore) -> OlmMachine:
    """The encryption of one device."""
    made = OlmMachine(client, store, CryptoRooms(state))
    made.share_keys_min_trust = made.send_keys_min_trust
    return made


class Journey:
    def __init__(self, base: str, port: int, as_token: str, hs_token: str) -> None:
        self.base, self.port = base, port
        self.state = BothStores()
        self.service = AppService(
            base,
            "localhost",
            as_token,
            hs_token,
            "ircbot",
            "irc",
            state_store=self.state,
            ephemeral_events=True,
            encryption_events=True,
        )
        self.seen: list[Any] = []
        self.heard: list[str] = []
        self.alice_heard: list[str] = []

    async def until(self, what: str, condition: Callable[[], object]) -> None:
        for _ in range(int(WAIT / 0.05)):
            if condition():
                print("ok", what, flush=True)
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"did not happen: {what}; seen {[str(one.type) for one in self.seen][-20:]}")

    async def begin_service(self) -> None:
        """The bot with a device and keys, made as bridges make them (MSC4190)."""
        await self.service.start("127.0.0.1", self.port)
        assert await self.service.ping_self("t1") >= 0
        print("ok ping", flush=True)
        self.bot = Client(mxid=BOT, base_url=self.base, state_store=self.state)
        self.bot.api.token = self.service.as_token
        await self.bot.create_device_msc4190(device_id="BRIDGE", initial_display_name="bridge")
        self.bot_olm = machine(self.bot, MemoryCryptoStore("", "key"), self.state)
        self.service.otk_handler = self.bot_olm.handle_as_otk_counts
        self.service.device_list_handler = self.bot_olm.handle_as_device_lists
        self.service.to_device_handler = self.bot_olm.handle_as_to_device_event
        await self.bot_olm.load()
        await self.bot_olm.share_keys()
        self.service.matrix_event_handler(self.on_event)
        print("ok a device with keys", flush=True)

    async def on_event(self, event: Any) -> None:
        self.seen.append(event)
        if event.type == EventType.ROOM_MEMBER and event.state_key == BOT:
            if event.content.membership == Membership.INVITE:
                await self.service.intent.ensure_joined(event.room_id, ignore_cache=True)
            return
        if event.type == EventType.ROOM_ENCRYPTED:
            try:
                decrypted = await self.bot_olm.decrypt_megolm_event(event)
            except SessionNotFound:
                await self.bot_olm.wait_for_session(event.room_id, event.content.session_id, timeout=WAIT)
                decrypted = await self.bot_olm.decrypt_megolm_event(event)
            self.heard.append(decrypted.content.body)

    async def begin_alice(self) -> None:
        store = MemoryCryptoStore("", "key")
        state = MemoryStateStore()
        self.alice = Client(base_url=self.base, mxid="@alice:localhost", state_store=state, sync_store=store)
        await self.alice.login("alice", password="benchmark")
        olm = machine(self.alice, store, state)
        self.alice.crypto = olm
        await olm.load()
        await olm.share_keys()
        self.alice.add_event_handler(EventType.ROOM_MESSAGE, self.on_message)
        self.syncing = self.alice.start(None)

    async def on_message(self, event: Any) -> None:
        if event.sender == BOT:
            self.alice_heard.append(event.content.body)

    async def talk(self) -> None:
        encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room = await self.alice.create_room(invitees=[BOT], initial_state=[encryption])
        await self.until("the bot joined", lambda: BOT in self.alice.state_store.members.get(room, {}))
        await self.until(
            "alice sees the bot in the room",
            lambda: self.alice.state_store.members[room][BOT].membership == Membership.JOIN,
        )
        texts = [f"secret {number}" for number in range(10)]
        for text in texts:
            await self.alice.send_text(room, text)
        await self.until("the service decrypts what alice says", lambda: sorted(self.heard) == texts)
        content = {"msgtype": "m.text", "body": "heard"}
        await self.bot_olm.share_group_session(room, list(await self.bot.get_joined_members(room)))
        encrypted = await self.bot_olm.encrypt_megolm_event(room, EventType.ROOM_MESSAGE, content)
        await self.service.intent.send_message_event(room, EventType.ROOM_ENCRYPTED, encrypted)
        await self.until("alice decrypts what the service says", lambda: self.alice_heard == ["heard"])
        await self.pass_by(room)

    async def pass_by(self, room: str) -> None:
        await self.alice.set_typing(room, 10_000)
        await self.alice.set_presence(PresenceState.UNAVAILABLE)
        for event_type in (EventType.TYPING, EventType.PRESENCE):
            await self.until(f"{event_type}", lambda t=event_type: any(one.type == t for one in self.seen))
        ann = self.service.intent.user(ANN)
        await ann.ensure_registered()
        await ann.set_displayname("Ann")
        await self.service.intent.invite_user(room, ANN)
        await ann.ensure_joined(room)
        await self.until("ann is there", lambda: ANN in self.alice.state_store.members[room])
        event_id = await self.alice.send_text(room, "read me")
        await self.alice.send_receipt(room, event_id, "m.read")
        await self.until("a receipt", lambda: any(one.type == EventType.RECEIPT for one in self.seen))

    async def run(self) -> None:
        steps: list[Callable[[], Awaitable[None]]] = [self.begin_service, self.begin_alice, self.talk]
        for step in steps:
            await step()
        self.alice.stop()
        await self.alice.api.session.close()
        await self.bot.api.session.close()
        await self.service.stop()
        print("ok the end", flush=True)


async def main() -> None:
    await asyncio.wait_for(Journey(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]).run(), 200)


if __name__ == "__main__":
    asyncio.run(main())
