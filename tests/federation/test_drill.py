# SPDX-License-Identifier: Apache-2.0
"""Servers come and go at random while people talk; in the end all have everything once and agree on the state."""

import os
import random
from typing import Any
from urllib.parse import quote

from tests.federation.case import FederationCase
from tests.federation.test_joining import state_of

ROUNDS = 3 if not os.environ.get("PARLEY_TEST_LONG") else 25
STEPS = 40


class Drill(FederationCase):
    count = 3
    timeout = 1_200

    async def test_everybody_ends_with_the_same(self) -> None:
        users = [await peer.register(f"user{number}") for number, peer in enumerate(self.peers)]
        for round_ in range(ROUNDS):
            version = random.Random(round_).choice(["6", "10", "11", "12"])
            room = await self.peers[0].create_room(users[0], preset="public_chat", room_version=version)
            for number in (1, 2):
                await self.peers[number].join(users[number], room, self.peers[0].name)
            levels = await self.peers[0].get(f"rooms/{quote(room)}/state/m.room.power_levels", users[0])
            levels["users"].update({one.user_id: 90 for one in users[1:]})
            await self.peers[0].set_state(users[0], room, "m.room.power_levels", levels)
            await self.agree(users, room, [])
            said = await self.play(random.Random(round_), users, room)
            await self.agree(users, room, said)

    async def play(self, chance: random.Random, users: list[Any], room: str) -> list[str]:
        up = {0, 1, 2}
        said: list[str] = []
        for step in range(STEPS):
            number = chance.randrange(3)
            if chance.random() < 0.15:
                if number in up and len(up) > 1:
                    up.discard(number)
                    await self.peers[number].stop()
                elif number not in up:
                    up.add(number)
                    await self.peers[number].start()
            elif number in up:
                said += await self.act(chance, number, users, room, f"step {step} of {number}")
            self.clock.advance(chance.choice([0, 0.1, 3]))
            await self.settle(chance.choice([0, 0, 0.02]))
        for number in {0, 1, 2} - up:
            await self.peers[number].start()
        return said

    async def act(self, chance: random.Random, number: int, users: list[Any], room: str, text: str) -> list[str]:
        peer, user = self.peers[number], users[number]
        kind = chance.random()
        if kind < 0.6:
            await peer.send(user, room, text)
            return [text]
        event, key = chance.choice([("m.room.topic", ""), ("m.room.name", ""), ("x.test", "a"), ("x.test", "b")])
        await peer.set_state(user, room, event, {"topic": text, "name": text}, key)
        return []

    async def agree(self, users: list[Any], room: str, said: list[str]) -> None:
        """Until all have the same; one more message by each lets heads meet."""
        for number, (peer, user) in enumerate(zip(self.peers, users, strict=True)):
            await peer.send(user, room, f"last {number}")

        async def same() -> bool:
            states = [await state_of(peer, user, room) for peer, user in zip(self.peers, users, strict=True)]
            texts = [await self.every_text(peer, user, room) for peer, user in zip(self.peers, users, strict=True)]
            wanted = sorted([*said, *(text for text in texts[0] if text.startswith("last"))])
            return states[0] == states[1] == states[2] and all(sorted(one) == wanted for one in texts)

        await self.until(same, "agreement", advance=2.0)

    async def every_text(self, peer: Any, user: Any, room: str) -> list[str]:
        found: list[str] = []
        token: dict[str, object] = {}
        while True:
            page = await peer.get(f"rooms/{quote(room)}/messages", user, dir="b", limit=200, **token)
            found += [one["content"]["body"] for one in page["chunk"] if "body" in one["content"]]
            if "end" not in page:
                return found
            token = {"from": page["end"]}
