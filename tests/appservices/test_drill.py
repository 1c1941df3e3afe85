# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order, a service is told exactly what its users were there for, once, in order."""

import random
from urllib.parse import quote

from tests.appservices.case import ANN, BOT, V3, ServiceCase
from tests.appservices.service import Asked, Say


class Drill(ServiceCase):
    timeout = 180
    steps = 90

    async def test_any_order(self) -> None:
        await self.play(1)

    async def test_another_order(self) -> None:
        await self.play(2)

    async def test_a_third_order(self) -> None:
        await self.play(3)

    async def play(self, seed: int) -> None:
        """Random moves, messages, outages and restarts; then what came is compared with what should have."""
        self.random = random.Random(seed)
        self.due: list[str] = []
        self.said = 0
        self.alice = await self.register("alice")
        await self.make_ann()
        self.rooms = [await self.create_room(self.alice, preset="public_chat") for _ in range(3)]
        self.present: dict[str, set[str]] = {room: set() for room in self.rooms}
        deeds = [self.move] * 4 + [self.speak] * 8 + [self.break_down, self.recover, self.restart, self.rest]
        for _ in range(self.steps):
            await self.random.choice(deeds)()
        await self.recover()
        mark = await self.speak(self.rooms[0], force=True)
        await self.until(lambda: any(one["event_id"] == mark for one in self.service.events()), step=20.0)
        await self.nothing_more()
        told = [one["event_id"] for one in self.service.events() if one["room_id"] in self.rooms]
        self.assertEqual(told, self.due, f"seed {seed}")

    async def move(self) -> None:
        """A user of the service joins a room, or leaves it."""
        room, user = self.random.choice(self.rooms), self.random.choice((BOT, ANN))
        path = f"{V3}/rooms/{quote(room)}/state/m.room.member/{quote(user)}"
        kind = "leave" if user in self.present[room] else "join"
        sent = await self.run_service("PUT", path, {"membership": kind}, user=user, expect=200)
        self.present[room] ^= {user}
        self.due.append(sent.json["event_id"])

    async def speak(self, room: str | None = None, force: bool = False) -> str:
        """Alice says something; the service hears it when one of its users is there."""
        room = room or self.random.choice(self.rooms)
        if force and not self.present[room]:
            path = f"{V3}/rooms/{quote(room)}/state/m.room.member/{quote(BOT)}"
            sent = await self.run_service("PUT", path, {"membership": "join"}, user=BOT, expect=200)
            self.present[room].add(BOT)
            self.due.append(sent.json["event_id"])
        self.said += 1
        event = await self.send(self.alice, room, "words", f"{self.said}")
        if self.present[room]:
            self.due.append(event)
        return event

    async def break_down(self) -> None:
        """The service refuses, or takes a transaction without saying so."""
        how = self.random.choice((500, 0))

        def refuse(asked: Asked) -> Say | bool:
            if how == 0 and "/transactions/" in asked.path:
                self.service.taken[asked.path.rpartition("/")[2]] = asked.body
            return 503, b"busy"

        self.service.answer = refuse

    async def recover(self) -> None:
        self.service.answer = None

    async def restart(self) -> None:
        await self.restart_server()

    async def rest(self) -> None:
        for _ in range(self.random.randrange(8)):
            self.clock.advance(self.random.choice((0.01, 1.0, 40.0)))
            await self.settle(0.003)
