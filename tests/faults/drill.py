# SPDX-License-Identifier: Apache-2.0
"""Clients that write all the time, remember what was acknowledged, and afterwards ask whether all of it is there."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any
from urllib.parse import quote

from tests.harness.connections import Person
from tests.harness.servers import Server

FILTER = '{"room":{"timeline":{"limit":1000}},"presence":{"not_types":["*"]}}'
LOST = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Drill:
    """Ann writes, Ben reads, Cem claims keys; `stopped` tells the writers that the server is about to die."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        names = ("ann", "ben", "cem")
        self.ann, self.ben, self.cem = (Person(server.base, server.register(name)) for name in names)
        self.room = ""
        self.events: dict[str, str] = {}
        self.open_sends: list[str] = []
        self.messages: list[int] = []
        self.uploaded: set[str] = set()
        self.claimed: Counter[str] = Counter()
        self.receipt = 0
        self.order: list[str] = []
        self.read: list[str] = []
        self.got: list[int] = []
        self.since: str | None = None
        self.counter = 0

    def next_number(self) -> int:
        """A number never used before."""
        self.counter += 1
        return self.counter

    async def prepare(self) -> None:
        """The room, its members and the readers' first sync."""
        self.room = await self.ann.create_room(preset="public_chat")
        await self.ben.join(self.room)
        await self.cem.join(self.room)
        await self.catch_up()

    async def resend(self) -> None:
        """What was not acknowledged is sent again under the same transaction id; some acknowledged ones too."""
        for txn in self.open_sends:
            self.acknowledge(txn, await self.ann.send(self.room, f"body of {txn}", txn))
        self.open_sends.clear()
        for txn in self.random.sample(sorted(self.events), min(5, len(self.events))):
            again = await self.ann.send(self.room, f"body of {txn}", txn)
            assert again == self.events[txn], f"{txn} answered {again}, before {self.events[txn]}"

    def acknowledge(self, txn: str, event_id: str) -> None:
        """The server said that this event is kept."""
        self.events[txn] = event_id
        self.order.append(event_id)

    async def write_messages(self) -> None:
        """Send until the connection breaks."""
        wire = self.ann.another()
        while True:
            txn = f"m{self.next_number()}"
            self.open_sends.append(txn)
            event_id = await self.ann.send(self.room, f"body of {txn}", txn, wire)
            self.open_sends.remove(txn)
            self.acknowledge(txn, event_id)

    async def write_to_device(self) -> None:
        """Numbered messages to Ben's device, in order; an unanswered one is repeated first."""
        wire, number = self.ann.another(), (self.messages[-1] if self.messages else 0) + 1
        while True:
            path = f"/_matrix/client/v3/sendToDevice/test.number/d{number}"
            content = {"messages": {self.ben.user_id: {self.ben.device_id: {"number": number}}}}
            await wire.good("PUT", path, content)
            self.messages.append(number)
            number += 1

    async def write_keys(self) -> None:
        """Upload one-time keys of Ben and claim them for Cem."""
        upload, claim = self.ben.another(), self.cem.another()
        while True:
            number = self.next_number()
            key = {f"signed_curve25519:K{number}": {"key": f"key{number}", "signatures": {}}}
            await upload.good("POST", "/_matrix/client/v3/keys/upload", {"one_time_keys": key})
            self.uploaded.add(f"signed_curve25519:K{number}")
            asked = {"one_time_keys": {self.ben.user_id: {self.ben.device_id: "signed_curve25519"}}}
            answer = await claim.good("POST", "/_matrix/client/v3/keys/claim", asked)
            self.claimed.update(answer["one_time_keys"][self.ben.user_id][self.ben.device_id].keys())

    async def write_receipts(self) -> None:
        """Ben reads what Ann sent."""
        wire = self.ben.another()
        while True:
            await asyncio.sleep(0.01)
            if len(self.order) > self.receipt:
                newest = len(self.order)
                path = f"/_matrix/client/v3/rooms/{quote(self.room)}/receipt/m.read/{quote(self.order[newest - 1])}"
                await wire.good("POST", path, {})
                self.receipt = newest

    async def read_sync(self) -> None:
        """Ben's long poll."""
        while True:
            await self.catch_up(2_000)

    async def catch_up(self, timeout: int = 0) -> bool:
        """One sync of Ben; False when nothing came."""
        answer: dict[str, Any] = await self.ben.sync(self.since, timeout, FILTER)
        timeline = answer.get("rooms", {}).get("join", {}).get(self.room, {}).get("timeline", {})
        assert self.since is None or not timeline.get("limited"), "the timeline of a sync was cut"
        self.read += [e["event_id"] for e in timeline.get("events", []) if e["type"] == "m.room.message"]
        sent = answer.get("to_device", {}).get("events", [])
        self.got += [e["content"]["number"] for e in sent if e["type"] == "test.number"]
        self.since = answer["next_batch"]
        return bool(timeline.get("events") or sent)

    async def until_killed(self, seconds: float) -> None:
        """Let everybody write and read, kill the server in the middle, wait until everybody noticed."""
        writers = (self.write_messages, self.write_messages, self.write_to_device, self.write_keys, self.write_receipts)
        tasks = [asyncio.create_task(one()) for one in (*writers, self.read_sync)]
        await asyncio.sleep(seconds)
        for task in tasks:
            if task.done():
                task.result()
        self.server.stop(hard=True)
        await asyncio.wait(tasks, timeout=2)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, LOST):
                raise outcome
        for person in (self.ann, self.ben, self.cem):
            person.http.close()

    async def check(self) -> None:
        """Everything acknowledged is there, once, and in order."""
        while await self.catch_up():
            pass
        seen = Counter(self.read)
        missing = [event_id for event_id in self.events.values() if event_id not in seen]
        assert not missing, f"{len(missing)} acknowledged events never reached the reader"
        twice = [event_id for event_id, times in seen.items() if times > 1]
        assert not twice, f"{len(twice)} events came twice"
        assert set(self.messages) <= set(self.got), "an acknowledged to-device message is lost"
        first = list(dict.fromkeys(self.got))
        assert first == sorted(first), "to-device messages came out of order"
        given_twice = [key for key, times in self.claimed.items() if times > 1]
        assert not given_twice, f"one-time keys given twice: {given_twice}"
        await self.check_receipt()

    async def check_receipt(self) -> None:
        """Ben's receipt is at the last acknowledged place or later."""
        if not self.receipt:
            return
        answer = await self.cem.sync(filter='{"room":{"timeline":{"limit":1}}}')
        events = answer["rooms"]["join"][self.room].get("ephemeral", {}).get("events", [])
        at = [
            event_id
            for event in events
            if event["type"] == "m.receipt"
            for event_id, kinds in event["content"].items()
            if self.ben.user_id in kinds.get("m.read", {})
        ]
        assert len(at) == 1, f"receipts of one person: {at}"
        assert self.read.index(at[0]) >= self.read.index(self.order[self.receipt - 1]), (
            "an acknowledged receipt went back"
        )
