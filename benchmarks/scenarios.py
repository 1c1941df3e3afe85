# SPDX-License-Identifier: Apache-2.0
"""What is measured: each scenario drives one running server and returns figures per operation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from urllib.parse import quote

import attrs

from tests.harness.connections import Connection, Person
from tests.harness.servers import Server

Figures = dict[str, float]
WORDS = "Is the red bicycle still available and could you send it to Hamburg by Friday? "


@attrs.frozen
class Sizes:
    """How much of everything a run does; Synapse and Parley may get different sizes, figures are per item."""

    messages: int
    busy_rooms: int
    crowd: int
    new_rooms: int
    account_rooms: int
    history: int
    disk_messages: int


@attrs.define
class Meter:
    """CPU and wall time of the server between two points."""

    server: Server
    wall: float = 0.0
    cpu: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure the block."""
        cpu, wall = self.server.cpu(), time.perf_counter()
        yield
        self.wall, self.cpu = time.perf_counter() - wall, self.server.cpu() - cpu

    def per(self, count: int, name: str) -> Figures:
        """CPU and wall milliseconds for each of `count` operations."""
        return {f"{name}: CPU ms": self.cpu * 1000 / count, f"{name}: wall ms": self.wall * 1000 / count}


async def people(server: Server, prefix: str, count: int) -> list[Person]:
    """`count` new accounts."""
    return [Person(server.base, server.register(f"{prefix}{number}")) for number in range(count)]


async def room_of(members: list[Person]) -> str:
    """A public room that everybody has joined."""
    room = await members[0].create_room(preset="public_chat")
    for member in members[1:]:
        await member.join(room)
    return room


async def one_sender(server: Server, sizes: Sizes) -> Figures:
    """One person sends to one room, one request after the other."""
    (ann,) = await people(server, "one", 1)
    room = await room_of([ann])
    for number in range(20):
        await ann.send(room, WORDS, f"warm{number}")
    meter = Meter(server)
    async with meter.running():
        for _ in range(sizes.messages):
            await ann.send(room, WORDS)
    return meter.per(sizes.messages, "send, one sender")


async def many_rooms(server: Server, sizes: Sizes) -> Figures:
    """Twenty people send to twenty rooms at once."""
    senders = await people(server, "many", sizes.busy_rooms)
    rooms = [await room_of([sender]) for sender in senders]
    for sender, room in zip(senders, rooms, strict=True):
        await sender.send(room, WORDS, "warm")
    each = max(1, sizes.messages // sizes.busy_rooms)

    async def stream(sender: Person, room: str) -> None:
        for _ in range(each):
            await sender.send(room, WORDS)

    meter = Meter(server)
    async with meter.running():
        await asyncio.gather(*(stream(*pair) for pair in zip(senders, rooms, strict=True)))
    return meter.per(each * sizes.busy_rooms, f"send, {sizes.busy_rooms} rooms at once")


async def crowd_with_listeners(server: Server, sizes: Sizes) -> Figures:
    """One person sends to a room in which everybody long-polls."""
    members = await people(server, "crowd", sizes.crowd)
    room = await room_of(members)
    stop = asyncio.Event()
    received: list[float] = []

    async def listen(member: Person) -> None:
        since = str((await member.sync(filter='{"room":{"timeline":{"limit":1}}}'))["next_batch"])
        while not stop.is_set():
            answer = await member.sync(since, 2_000)
            since = str(answer["next_batch"])
            if room in answer.get("rooms", {}).get("join", {}):
                received.append(time.perf_counter())

    listeners = [asyncio.create_task(listen(member)) for member in members[1:]]
    await asyncio.sleep(1.0)
    count, wire = max(5, sizes.messages // 20), members[0].another()
    meter = Meter(server)
    async with meter.running():
        for number in range(count):
            await members[0].send(room, WORDS, f"c{number}", wire)
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*listeners)
    return {f"send to a room with {sizes.crowd} listeners: CPU ms": meter.cpu * 1000 / count}


async def delivery(server: Server, sizes: Sizes) -> Figures:
    """From the start of a send until another client's long poll answers."""
    ann, ben = await people(server, "delivery", 2)
    room = await room_of([ann, ben])
    since = str((await ben.sync())["next_batch"])
    delays = []
    for number in range(max(10, sizes.messages // 10)):
        poll = asyncio.create_task(ben.sync(since, 10_000))
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        await ann.send(room, WORDS, f"d{number}")
        while room not in (answer := await poll).get("rooms", {}).get("join", {}):
            poll = asyncio.create_task(ben.sync(str(answer["next_batch"]), 10_000))
        delays.append(time.perf_counter() - began)
        since = str(answer["next_batch"])
    return {"delivery from send to long poll: wall ms": median(delays) * 1000}


async def rooms_with_two_joins(server: Server, sizes: Sizes) -> Figures:
    """Create a private room for three and let the two invited join."""
    ann, ben, cem = await people(server, "create", 3)
    meter = Meter(server)
    async with meter.running():
        for _ in range(sizes.new_rooms):
            room = await ann.create_room(preset="private_chat", invite=[ben.user_id, cem.user_id], name="Red bicycle")
            await ben.join(room)
            await cem.join(room)
    return meter.per(sizes.new_rooms, "create a room with two joins")


async def big_account(server: Server, sizes: Sizes) -> Figures:
    """Initial and incremental sync of an account in many rooms."""
    ann, ben = await people(server, "account", 2)
    rooms = []
    for _ in range(sizes.account_rooms):
        room = await room_of([ann, ben])
        rooms.append(room)
        for number in range(5):
            await ben.send(room, WORDS, f"m{number}")
    name = f"initial sync of {sizes.account_rooms} rooms"
    meter = Meter(server)
    devices = [Person(server.base, await login(server, ann.user_id)) for _ in range(3)]
    async with meter.running():
        for ann_again in devices:
            answer = await ann_again.sync()
            assert len(answer["rooms"]["join"]) == sizes.account_rooms
    figures = meter.per(len(devices), name)
    since = str(answer["next_batch"])
    figures |= await repeat(server, "empty incremental sync", 100, lambda _: ann_again.sync(since))
    await ben.send(rooms[0], WORDS, "one")

    figures |= await repeat(server, "one-event incremental sync", 100, lambda _: ann_again.sync(since))
    return figures


async def login(server: Server, user: str) -> dict[str, str]:
    """A new device of a person, by localpart or user id."""
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": "benchmark",
    }
    answer: dict[str, str] = await Connection(server.base, "").good("POST", "/_matrix/client/v3/login", body)
    return answer


async def repeat(server: Server, name: str, count: int, call: Callable[[int], Awaitable[object]]) -> Figures:
    """The cost of a call, over `count` of them after a first one, `call(-1)`, that does not count."""
    await call(-1)
    meter = Meter(server)
    async with meter.running():
        for number in range(count):
            await call(number)
    return meter.per(count, name)


async def pagination(server: Server, sizes: Sizes) -> Figures:
    """Read a long history page by page, newest first."""
    (ann,) = await people(server, "history", 1)
    room = await room_of([ann])
    wires = [ann.another() for _ in range(10)]

    async def fill(wire: Connection, start: int) -> None:
        for number in range(start, sizes.history, len(wires)):
            await ann.send(room, WORDS, f"h{number}", wire)

    await asyncio.gather(*(fill(wire, start) for start, wire in enumerate(wires)))
    meter, read, token = Meter(server), 0, ""
    async with meter.running():
        while read < sizes.history:
            path = f"/_matrix/client/v3/rooms/{quote(room)}/messages?dir=b&limit=100{token}"
            page = await ann.http.good("GET", path)
            read += len(page["chunk"])
            token = f"&from={quote(page['end'])}" if "end" in page else ""
            if not token:
                break
    return {"paginate 1,000 events: CPU ms": meter.cpu * 1000 / (read / 1000)}


async def fill_rooms(server: Server, prefix: str, size: int, rooms: int, messages: int) -> None:
    """Rooms of `size` members in which everybody talks: what the disk figures are about."""
    members = await people(server, prefix, size)
    made = [await room_of(members) for _ in range(rooms)]

    async def talk(member: Person, index: int) -> None:
        for number in range(index, messages, size):
            await member.send(made[number % rooms], f"{WORDS}{number}", f"k{number}")

    await asyncio.gather(*(talk(member, index) for index, member in enumerate(members)))


SCENARIOS: tuple[Callable[[Server, Sizes], Awaitable[Figures]], ...] = (
    one_sender,
    many_rooms,
    crowd_with_listeners,
    delivery,
    rooms_with_two_joins,
    big_account,
    pagination,
)
