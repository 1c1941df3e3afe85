# SPDX-License-Identifier: Apache-2.0
"""Whatever people do and whenever clients ask: what incremental answers add up to is what a fresh start would show."""

import os
from typing import Any

from tests.harness.server import HomeserverCase
from tests.sync.model import FILTER, LAZY, ClientModel, World
from tests.sync.sliding_model import OlderSlidingModel, SlidingModel

Json = dict[str, Any]
WORLDS = int(os.environ.get("PARLEY_SYNC_WORLDS", "4"))
DEEDS = 120


class AddingUpTest(HomeserverCase):
    timeout = 60 + 30 * WORLDS
    settings = "presence: {enabled: false}"

    starts = 0

    async def start_server(self) -> None:
        """A server that restarts does not repeat its chance."""
        await super().start_server()
        self.starts += 1
        self.runtime.random.seed(self.starts)

    async def test_answers_add_up_to_a_fresh_start(self) -> None:
        first = int(os.environ.get("PARLEY_SYNC_SEED", "0"))
        for seed in range(first, first + WORLDS):
            await self.live_through(seed)

    async def live_through(self, seed: int) -> None:
        people = [await self.register(f"{name}{seed}") for name in ("alice", "bob", "carol")]
        world = World(self, seed, people)
        clients = [ClientModel(person, {"filter": FILTER}) for person in people]
        after = {"filter": FILTER, "use_state_after": "true"}
        clients += [ClientModel(person, after, state_after=True) for person in people]
        lazy = {"filter": LAZY}
        clients += [ClientModel(person, lazy, lazy=True) for person in people]
        history: list[str] = []
        for _ in range(DEEDS):
            history.append(await world.deed())
            if world.random.random() < 0.03:
                self.clock.advance(1)
                await self.restart_server()
                history.append("restart")
            for client in clients:
                if world.random.random() < 0.25:
                    client.apply(await self.sync(client.session, client.since, **client.query))
                    history.append(f"  {client.session.user_id} syncs, state_after {client.state_after}")
        for client in clients:
            client.apply(await self.sync(client.session, client.since, **client.query))
            fresh = ClientModel(client.session, client.query, client.state_after, client.lazy)
            fresh.apply(await self.sync(client.session, None, **client.query))
            wrong = client.differences(fresh)
            self.assertEqual(wrong, [], f"seed {seed}, {client.session.user_id}\n" + "\n".join([*history, *wrong]))

    async def test_sliding_answers_add_up_to_a_fresh_connection(self) -> None:
        first = int(os.environ.get("PARLEY_SYNC_SEED", "0"))
        for seed in range(first, first + WORLDS):
            await self.slide_through(seed, SlidingModel)

    async def test_sliding_answers_in_todays_form_add_up_to_a_fresh_connection(self) -> None:
        first = int(os.environ.get("PARLEY_SYNC_SEED", "0"))
        for seed in range(first, first + WORLDS):
            await self.slide_through(seed + 1000, OlderSlidingModel)

    async def slide_through(self, seed: int, model: type[SlidingModel]) -> None:
        people = [await self.register(f"{name}{seed}") for name in ("alice", "bob", "carol")]
        world = World(self, seed, people)
        clients = [model(person, f"c{lazy}", lazy) for person in people for lazy in (False, True)]
        history: list[str] = []
        for _ in range(DEEDS):
            history.append(await world.deed())
            if world.random.random() < 0.03:
                self.clock.advance(1)
                await self.restart_server()
                history.append("restart")
            for client in clients:
                if world.random.random() < 0.25:
                    body = client.request(world.random, world.rooms)
                    answer = await self.ask(client, body)
                    if world.random.random() < 0.8:  # else it was lost on its way
                        client.apply(answer)
                    history.append(f"  {client.session.user_id} {body} {list(answer['rooms'])}")
        for client in clients:
            client.apply(await self.ask(client, client.request(None, [])))
            fresh = model(client.session, "fresh", client.lazy)
            fresh.apply(await self.ask(fresh, fresh.request(None, [])))
            wrong = client.differences(fresh)
            self.assertEqual(wrong, [], f"seed {seed}, {client.session.user_id}\n" + "\n".join([*history, *wrong]))

    async def ask(self, client: SlidingModel, body: Json) -> Json:
        path, sent = client.wire(body)
        return client.read((await self.request("POST", path, sent, client.session, expect=200)).json)
