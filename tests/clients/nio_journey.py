# SPDX-License-Identifier: Apache-2.0
"""Two people chat encrypted with matrix-nio, as a program of its own: `python nio_journey.py BASE_URL`.

Prints one `ok NAME` line per step and exits 0, or the step that failed and exits 1. nio knows neither cross-signing nor
key backup, so people verify each other's devices by emoji and carry keys to a second device in nio's export file.
"""

import asyncio
import os
import secrets
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nio
from nio.crypto.attachments import decrypt_attachment

BASE = sys.argv[1]
PASSWORD = "correct horse battery staple"
TIMEOUT = 30.0


class Person:
    """One signed-in device with its own key store, syncing until it is closed."""

    def __init__(self, name: str, folder: Path) -> None:
        store = folder / f"{name}-{secrets.token_hex(3)}"
        store.mkdir()
        config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True)
        self.client = nio.AsyncClient(BASE, name, store_path=str(store), config=config)
        self.seen: list[nio.Event] = []
        self.ephemeral: list[Any] = []
        self.to_device: list[Any] = []
        self.client.add_event_callback(self._keep, nio.Event)  # type: ignore[arg-type]
        self.client.add_ephemeral_callback(lambda _room, event: self.ephemeral.append(event), nio.EphemeralEvent)  # type: ignore[arg-type]
        self.client.add_to_device_callback(self.to_device.append, nio.ToDeviceEvent)  # type: ignore[arg-type]
        self._loop: asyncio.Task[None] | None = None

    async def _keep(self, _room: nio.MatrixRoom, event: nio.Event) -> None:
        self.seen.append(event)

    async def start(self) -> None:
        """Sync once with full state, then go on in the background."""
        answer = await self.client.sync(timeout=0, full_state=True)
        assert isinstance(answer, nio.SyncResponse), answer
        self._loop = asyncio.create_task(self.client.sync_forever(timeout=5_000, full_state=False))

    async def close(self) -> None:
        """Stop syncing."""
        if self._loop:
            self._loop.cancel()
        await self.client.close()

    async def send(self, room_id: str, content: dict[str, Any], kind: str = "m.room.message") -> str:
        """Send an event and return its id."""
        answer = await self.client.room_send(room_id, kind, content, ignore_unverified_devices=False)
        assert isinstance(answer, nio.RoomSendResponse), answer
        return answer.event_id

    async def sees(self, event_id: str) -> Any:
        """Wait for an event, decrypted, and return it."""
        event = await until(f"{self.client.user} sees {event_id}", lambda: by_id(self.seen, event_id))
        assert not isinstance(event, nio.MegolmEvent), f"{self.client.user} cannot decrypt {event_id}"
        return event


def by_id(events: list[nio.Event], event_id: str) -> nio.Event | None:
    """The event with this id."""
    return next((event for event in events if event.event_id == event_id), None)


async def until(what: str, check: Callable[[], Any]) -> Any:
    """Poll until `check` gives something true."""
    end = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        got = check()
        if got:
            return got
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"waited {TIMEOUT} s for: {what}")
        await asyncio.sleep(0.05)


def said(body: str, **extra: Any) -> dict[str, Any]:
    """Content of a text message."""
    return {"msgtype": "m.text", "body": body, **extra}


async def sign_up(name: str, folder: Path) -> Person:
    """Register a new account."""
    person = Person(f"{name}-{secrets.token_hex(3)}", folder)
    answer = await person.client.register(person.client.user, PASSWORD, device_name="first device")
    assert isinstance(answer, nio.RegisterResponse), answer
    await person.start()
    return person


async def verify(alice: Person, bob: Person) -> None:
    """Alice and Bob compare emoji; afterwards each trusts the other's device."""
    await until(
        "alice knows bob's device", lambda: len(list(alice.client.device_store.active_user_devices(bob.client.user_id)))
    )
    device = next(alice.client.device_store.active_user_devices(bob.client.user_id))
    await alice.client.start_key_verification(device)
    start = await until(
        "the request arrives", lambda: [e for e in bob.to_device if isinstance(e, nio.KeyVerificationStart)]
    )
    transaction = start[0].transaction_id
    await bob.client.accept_key_verification(transaction)
    sides = (alice.client.key_verifications[transaction], bob.client.key_verifications[transaction])
    await until("keys are exchanged", lambda: all(getattr(side, "established_sas", None) for side in sides))
    assert sides[0].get_emoji() == sides[1].get_emoji()
    await alice.client.confirm_short_auth_string(transaction)
    await bob.client.confirm_short_auth_string(transaction)
    await until("both are verified", lambda: all(side.verified for side in sides))


async def talk(alice: Person, bob: Person, room_id: str) -> tuple[str, str]:
    """Messages both ways, an edit, a reaction, a thread and redactions."""
    hello = await alice.send(room_id, said("Is the bicycle still there?"))
    assert (await bob.sees(hello)).body == "Is the bicycle still there?"
    answer = await bob.send(room_id, said("Yes, it is."))
    assert (await alice.sees(answer)).body == "Yes, it is."
    step("they talk both ways, encrypted")

    new = said("Is the red bicycle still there?")
    relation = {"rel_type": "m.replace", "event_id": hello}
    edit = await alice.send(room_id, said("* red", **{"m.new_content": new, "m.relates_to": relation}))
    assert (await bob.sees(edit)).source["content"]["m.new_content"]["body"] == new["body"]
    relation = {"rel_type": "m.annotation", "event_id": hello, "key": "👍"}
    reaction = await bob.send(room_id, {"m.relates_to": relation}, "m.reaction")
    await alice.sees(reaction)
    thread = {"rel_type": "m.thread", "event_id": hello, "is_falling_back": True, "m.in_reply_to": {"event_id": hello}}
    threaded = await bob.send(room_id, said("About the price:", **{"m.relates_to": thread}))
    assert (await alice.sees(threaded)).source["content"]["m.relates_to"]["event_id"] == hello
    step("an edit, a reaction and a reply in a thread arrive")

    done = await bob.client.room_redact(room_id, reaction, reason="mistake")
    assert isinstance(done, nio.RoomRedactResponse), done
    await until("the redaction arrives", lambda: [e for e in alice.seen if getattr(e, "redacts", None) == reaction])
    step("a redaction arrives")
    return hello, answer


async def attachment(alice: Person, bob: Person, room_id: str, folder: Path) -> str:
    """Alice uploads an encrypted file, Bob fetches and opens it."""
    plain = secrets.token_bytes(60_000)
    path = folder / "photo.bin"
    path.write_bytes(plain)
    with open(path, "rb") as source:
        answer, keys = await alice.client.upload(source, "image/png", "photo.png", encrypt=True, filesize=len(plain))
    assert isinstance(answer, nio.UploadResponse), answer
    file = {"url": answer.content_uri, **(keys or {})}
    sent = await alice.send(room_id, {"msgtype": "m.image", "body": "photo.png", "info": {}, "file": file})
    event = await bob.sees(sent)
    fetched = await bob.client.download(event.url)
    assert isinstance(fetched, nio.MemoryDownloadResponse), fetched
    source_file = event.source["content"]["file"]
    opened = decrypt_attachment(
        fetched.body, source_file["key"]["k"], source_file["hashes"]["sha256"], source_file["iv"]
    )
    assert opened == plain
    return sent


async def signals(alice: Person, bob: Person, room_id: str, event_id: str) -> None:
    """Receipts and typing are seen by the other."""
    await bob.client.room_read_markers(room_id, event_id, event_id)
    receipts = lambda: [r for e in alice.ephemeral if isinstance(e, nio.ReceiptEvent) for r in e.receipts]  # noqa: E731
    await until(
        "alice sees the receipt",
        lambda: any(r.event_id == event_id and r.user_id == bob.client.user_id for r in receipts()),
    )
    await bob.client.room_typing(room_id, True, 20_000)
    typing = lambda: [e.users for e in alice.ephemeral if isinstance(e, nio.TypingNoticeEvent)]  # noqa: E731
    await until("alice sees bob type", lambda: typing() and bob.client.user_id in typing()[-1])
    await bob.client.room_typing(room_id, False)
    await until("alice sees bob stop", lambda: typing()[-1] == [])


async def second_device(alice: Person, bob: Person, room_id: str, known: str, folder: Path) -> Person:
    """Alice signs in again, imports her keys, reads history and talks from the new device."""
    keys = folder / "keys.txt"
    await alice.client.export_keys(str(keys), "passphrase")
    phone = Person(alice.client.user, folder)
    answer = await phone.client.login(PASSWORD, device_name="phone")
    assert isinstance(answer, nio.LoginResponse), answer
    await phone.client.import_keys(str(keys), "passphrase")
    await phone.start()
    page = await phone.client.room_messages(room_id, limit=100)
    assert isinstance(page, nio.RoomMessagesResponse), page
    old = by_id(page.chunk, known)
    assert isinstance(old, nio.RoomMessageText) and old.body == "Yes, it is.", old
    step("a second device reads old messages with imported keys")

    devices = lambda who, owner: {d.id: d for d in who.client.device_store.active_user_devices(owner)}  # noqa: E731
    for who in (alice, bob):
        await until("the phone is known", lambda who=who: phone.client.device_id in devices(who, phone.client.user_id))
        who.client.verify_device(devices(who, phone.client.user_id)[phone.client.device_id])
    await until(
        "the phone knows everybody", lambda: devices(phone, bob.client.user_id) and devices(phone, alice.client.user_id)
    )
    for owner in (alice, bob):
        for device in phone.client.device_store.active_user_devices(owner.client.user_id):
            phone.client.verify_device(device)
    fresh = await phone.send(room_id, said("Hello from my phone"))
    assert (await bob.sees(fresh)).body == "Hello from my phone"
    late = await bob.send(room_id, said("Hello, phone"))
    assert (await phone.sees(late)).body == "Hello, phone"
    step("the second device talks and is talked to")
    return phone


def step(name: str) -> None:
    """Report a finished step."""
    print(f"ok {name}", flush=True)


async def journey(folder: Path) -> None:
    """The whole story."""
    alice, bob = await sign_up("alice", folder), await sign_up("bob", folder)
    step("two people sign up")
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await alice.client.room_create(is_direct=True, invite=[bob.client.user_id], initial_state=[encryption])
    assert isinstance(room, nio.RoomCreateResponse), room
    await until("bob is invited", lambda: room.room_id in bob.client.invited_rooms)
    await bob.client.join(room.room_id)
    await until(
        "bob is in", lambda: room.room_id in alice.client.rooms and len(alice.client.rooms[room.room_id].users) == 2
    )
    await until(
        "bob knows the room", lambda: room.room_id in bob.client.rooms and bob.client.rooms[room.room_id].encrypted
    )
    step("an encrypted room is made and joined")
    await verify(alice, bob)
    step("they verify each other by emoji")
    _, answer = await talk(alice, bob, room.room_id)
    sent = await attachment(alice, bob, room.room_id, folder)
    step("an encrypted attachment is sent and fetched")
    await signals(alice, bob, room.room_id, sent)
    step("receipts and typing are seen")
    phone = await second_device(alice, bob, room.room_id, answer, folder)
    gone = await phone.client.logout()
    assert isinstance(gone, nio.LogoutResponse), gone
    known = lambda: [d.id for d in bob.client.device_store.active_user_devices(phone.client.user_id)]  # noqa: E731
    await until("the phone is gone for bob", lambda: phone.client.device_id not in known())
    step("logging out removes the device for everybody")
    for person in (alice, bob, phone):
        await person.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        try:
            asyncio.run(asyncio.wait_for(journey(Path(home)), 180))
        except BaseException:  # noqa: BLE001 - the report of a program that ends here
            print("not ok " + traceback.format_exc(), flush=True)
            os._exit(1)
