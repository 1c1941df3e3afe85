# SPDX-License-Identifier: Apache-2.0
"""What is measured of clients beyond sending and classic sync: windows, members, search, encryption, idle polls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import attrs

from benchmarks.scenarios import WORDS, Figures, Meter, login, people, repeat, room_of
from tests.e2e.identities import Device
from tests.harness.connections import Person
from tests.harness.servers import Server, memory_mb

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
LAZY = '{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":20}}}'
RARE = "tandem"
IDLE_SECONDS = 5


@attrs.frozen
class ClientSizes:
    """How much of everything; the same for every server, for the cost depends on it."""

    account_rooms: tuple[int, ...]
    members: int
    messages: int
    encrypted: int
    polls: int


SIZES = {
    "tiny": ClientSizes((20,), 20, 200, 50, 20),
    "small": ClientSizes((300,), 300, 1000, 200, 200),
    "full": ClientSizes((300, 5000), 2000, 100_000, 2000, 1000),
}


async def spread(wires: int, count: int, call: Callable[[int, int], Awaitable[object]]) -> None:
    """`call(wire, number)` for every number, `wires` at once."""

    async def one(wire: int) -> None:
        for number in range(wire, count, wires):
            await call(wire, number)

    await asyncio.gather(*(one(wire) for wire in range(wires)))


async def account_in(server: Server, count: int) -> tuple[Person, Person]:
    """An account in `count` rooms, and somebody who is there with it; that of `big_account` where it has run."""
    for prefix in ("account", f"rooms{count}-"):
        try:
            ann, ben = [Person(server.base, await login(server, f"{prefix}{number}")) for number in range(2)]
        except AssertionError:
            continue
        if len((await ann.http.good("GET", "/_matrix/client/v3/joined_rooms"))["joined_rooms"]) == count:
            return ann, ben
    ann, ben = await people(server, f"rooms{count}-", 2)
    wires = [(ann.another(), ben.another()) for _ in range(8)]

    async def make(wire: int, number: int) -> None:
        own, other = wires[wire]
        body = {"preset": "public_chat", "name": f"Room {number}"}
        room = str((await own.good("POST", "/_matrix/client/v3/createRoom", body))["room_id"])
        await other.good("POST", f"/_matrix/client/v3/join/{quote(room)}", {})
        await other.good("PUT", f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/m{number}", message(WORDS))

    await spread(len(wires), count, make)
    return ann, ben


def message(body: str) -> dict[str, Any]:
    """The content of a text message."""
    return {"msgtype": "m.text", "body": body}


async def sliding_window(server: Server, sizes: ClientSizes) -> Figures:
    """The first window of twenty rooms as Element X asks for it, and an answer in which nothing is new."""
    figures: Figures = {}
    for count in sizes.account_rooms:
        figures |= await _window(server, count)
    return figures


async def _window(server: Server, count: int) -> Figures:
    ann, _ = await account_in(server, count)
    state = [["m.room.create", ""], ["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"]]
    window = {"ranges": [[0, 19]], "timeline_limit": 1, "required_state": state}
    extensions = {name: {"enabled": True} for name in ("to_device", "e2ee", "account_data", "receipts", "typing")}
    last: dict[str, Any] = {}

    async def ask(number: int) -> None:
        body = {"conn_id": f"c{number}", "lists": {"all": window}, "extensions": extensions}
        last.update(await ann.http.good("POST", f"{SLIDING}?timeout=0", body))
        assert last["lists"]["all"]["count"] == count

    async def again(_: int) -> None:
        body = {"conn_id": "c9", "lists": {"all": window}, "extensions": extensions}
        await ann.http.good("POST", f"{SLIDING}?timeout=0&pos={quote(last['pos'], safe='')}", body)

    figures = await repeat(server, f"sliding sync, first window of {count} rooms", 10, ask)
    return figures | await repeat(server, f"sliding sync, nothing new in {count} rooms", 50, again)


async def big_room(server: Server, sizes: ClientSizes) -> Figures:
    """The members of a big room, and a lazy-loaded initial sync of it."""
    (ann,) = await people(server, "host", 1)
    room = await ann.create_room(preset="public_chat")
    loop = asyncio.get_running_loop()

    async def enter(_: int, number: int) -> None:
        made = await loop.run_in_executor(None, server.register, f"guest{number}")
        guest = Person(server.base, made)
        await guest.join(room)
        guest.http.close()

    await spread(4, sizes.members - 1, enter)
    for number in range(20):
        await ann.send(room, WORDS, f"b{number}")

    async def members(_: int) -> None:
        answer = await ann.http.good("GET", f"/_matrix/client/v3/rooms/{quote(room)}/members")
        assert len(answer["chunk"]) == sizes.members

    async def lazy(number: int) -> None:
        # A filter of its own each time: a server may keep answers.
        answer = await ann.sync(filter=LAZY.replace("20", str(20 + number % 7)))
        assert room in answer["rooms"]["join"]

    figures = await repeat(server, f"members of a room of {sizes.members}", 5, members)
    return figures | await repeat(server, f"lazy-loaded sync of a room of {sizes.members}", 7, lazy)


async def search(server: Server, sizes: ClientSizes) -> Figures:
    """A rare and a frequent word in many messages."""
    (ann,) = await people(server, "search", 1)
    room = await room_of([ann])
    wires = [ann.another() for _ in range(8)]

    async def say(wire: int, number: int) -> None:
        await ann.send(room, f"{WORDS}{number}{' ' + RARE if number % 97 == 3 else ''}", f"s{number}", wires[wire])

    await spread(len(wires), sizes.messages, say)
    figures: Figures = {}
    for kind, word in (("rare", RARE), ("frequent", "bicycle")):

        async def find(number: int, word: str = word) -> None:
            wanted = {"search_term": word, "filter": {"limit": 10}, "order_by": "recent" if number % 2 else "rank"}
            answer = await ann.http.good(
                "POST", "/_matrix/client/v3/search", {"search_categories": {"room_events": wanted}}
            )
            assert answer["search_categories"]["room_events"]["results"]

        await eventually_found(find)
        figures |= await repeat(server, f"search {sizes.messages} messages for a {kind} word", 10, find)
    return figures


async def eventually_found(find: Callable[[int], Awaitable[None]]) -> None:
    """Wait until a server that indexes in the background has done so."""
    for _ in range(100):
        try:
            return await find(0)
        except AssertionError:
            await asyncio.sleep(0.1)
    raise AssertionError("nothing is found")


async def device_lists(server: Server, sizes: ClientSizes) -> Figures:
    """An account in many rooms has a new device; somebody who shares them all hears of it."""
    figures: Figures = {}
    for count in sizes.account_rooms:
        ann, ben = await account_in(server, count)
        devices = [Person(server.base, await login(server, ann.user_id)) for _ in range(6)]
        since = str((await ben.sync(filter=LAZY))["next_batch"])

        async def change(number: int, devices: list[Person] = devices, ben: Person = ben) -> None:
            nonlocal since
            one = devices[number + 1]
            keys = Device(one.user_id, one.device_id).keys()
            await one.http.good("POST", "/_matrix/client/v3/keys/upload", {"device_keys": keys})
            changed: list[str] = []
            while one.user_id not in changed:
                answer = await ben.sync(since, 5_000, filter=LAZY)
                since, changed = str(answer["next_batch"]), answer.get("device_lists", {}).get("changed", [])

        figures |= await repeat(server, f"a device's change is seen by who shares {count} rooms", 5, change)
    return figures


async def encryption(server: Server, sizes: ClientSizes) -> Figures:
    """Messages to a device, and one-time keys claimed one by one."""
    ann, ben = await people(server, "crypt", 2)
    await room_of([ann, ben])
    device = Device(ben.user_id, ben.device_id)
    await ben.http.good("POST", "/_matrix/client/v3/keys/upload", {"device_keys": device.keys()})
    for start in range(0, sizes.encrypted + 1, 50):
        keys = device.one_time(*range(start, start + 50))
        await ben.http.good("POST", "/_matrix/client/v3/keys/upload", {"one_time_keys": keys})
    content = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": {"k": {"type": 0, "body": "x" * 600}}}

    async def tell(number: int) -> None:
        path = f"/_matrix/client/v3/sendToDevice/m.room.encrypted/t{number + 1}"
        await ann.http.good("PUT", path, {"messages": {ben.user_id: {ben.device_id: content}}})

    async def claim(_: int) -> None:
        wanted = {"one_time_keys": {ben.user_id: {ben.device_id: "signed_curve25519"}}}
        answer = await ann.http.good("POST", "/_matrix/client/v3/keys/claim", wanted)
        assert answer["one_time_keys"][ben.user_id][ben.device_id]

    figures = await repeat(server, "message to a device", sizes.encrypted, tell)
    return figures | await repeat(server, "claim of a one-time key", sizes.encrypted, claim)


async def idle_polls(server: Server, sizes: ClientSizes) -> Figures:
    """Long polls of as many people in which nothing happens."""
    loop = asyncio.get_running_loop()
    waiting: list[Person] = []

    async def arrive(_: int, number: int) -> None:
        made = await loop.run_in_executor(None, server.register, f"idle{number}")
        waiting.append(Person(server.base, made))

    await spread(4, sizes.polls, arrive)
    answers = 0

    async def listen(one: Person) -> None:
        nonlocal answers
        since: str | None = None
        while True:
            answer = await one.sync(since, 60_000 if since else 0, set_presence="offline")
            since, answers = str(answer["next_batch"]), answers + 1

    before = memory_mb(server.pid())
    polls = [asyncio.create_task(listen(one)) for one in waiting]
    await asyncio.sleep(5)
    settled, meter, began = answers, Meter(server), time.perf_counter()
    async with meter.running():
        await asyncio.sleep(IDLE_SECONDS)
    seconds = time.perf_counter() - began
    added = memory_mb(server.pid()) - before
    assert answers == settled and not any(poll.done() for poll in polls)
    for poll in polls:
        poll.cancel()
    await asyncio.gather(*polls, return_exceptions=True)
    each = 1000 / sizes.polls
    return {
        "1,000 idle long polls: MB": max(0.0, added) * each,
        "1,000 idle long polls: CPU ms a second": meter.cpu * 1000 / seconds * each,
    }


CLIENT_SCENARIOS: tuple[Callable[[Server, ClientSizes], Awaitable[Figures]], ...] = (
    sliding_window,
    big_room,
    search,
    device_lists,
    encryption,
    idle_polls,
)
