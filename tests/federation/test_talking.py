# SPDX-License-Identifier: Apache-2.0
"""What is said on one server is heard on the other, also when one of them was away."""

from typing import Any
from urllib.parse import quote

from tests.federation.case import FederationCase, Peer
from tests.federation.test_joining import state_of
from tests.harness.server import Session


class Talking(FederationCase):
    async def prepare(self, version: str = "12") -> None:
        self.one, self.two = self.peers[:2]
        self.alice, self.bob = await self.one.register("alice"), await self.two.register("bob")
        self.room = await self.one.create_room(self.alice, preset="public_chat", room_version=version)
        await self.two.join(self.bob, self.room, self.one.name)

    async def hears(self, peer: Peer, user: Session, *texts: str, room: str = "") -> None:
        async def check() -> bool:
            said = await peer.bodies(user, room or self.room)
            return [text for text in said if text in texts] == list(texts)

        await self.until(check, f"{texts} at {peer.name}", advance=0.05)

    async def test_messages_go_both_ways_in_every_version(self) -> None:
        for version in ("1", "2", "3", "4", "5", "6", "10", "11", "12"):
            await self.add_room(version)
            await self.one.send(self.alice, self.room, "ping")
            await self.hears(self.two, self.bob, "ping")
            await self.two.send(self.bob, self.room, "pong")
            await self.hears(self.one, self.alice, "ping", "pong")
            self.assertEqual(
                await state_of(self.one, self.alice, self.room), await state_of(self.two, self.bob, self.room)
            )

    async def add_room(self, version: str) -> None:
        if not hasattr(self, "one"):
            await self.prepare(version)
            return
        self.room = await self.one.create_room(self.alice, preset="public_chat", room_version=version)
        await self.two.join(self.bob, self.room, self.one.name)

    async def test_state_redactions_and_removals_arrive(self) -> None:
        await self.prepare()
        await self.one.set_state(self.alice, self.room, "m.room.topic", {"topic": "news"})
        said = await self.one.send(self.alice, self.room, "oops")
        await self.hears(self.two, self.bob, "oops")
        self.assertEqual(
            (await self.two.get(f"rooms/{quote(self.room)}/state/m.room.topic", self.bob))["topic"], "news"
        )
        await self.one.put(f"rooms/{quote(self.room)}/redact/{quote(said)}/r1", {}, self.alice)

        async def redacted() -> bool:
            found = await self.two.get(f"rooms/{quote(self.room)}/event/{quote(said)}", self.bob)
            return found["content"] == {}

        await self.until(redacted)
        await self.one.post(f"rooms/{quote(self.room)}/kick", {"user_id": self.bob.user_id}, self.alice)

        async def gone() -> bool:
            return self.room not in (await self.two.get("joined_rooms", self.bob))["joined_rooms"]

        await self.until(gone)

    async def test_a_server_that_was_away_gets_what_it_missed(self) -> None:
        await self.prepare()
        await self.two.stop()
        texts = [f"missed {n}" for n in range(60)]
        for text in texts:
            await self.one.send(self.alice, self.room, text)
        await self.settle(0.3)
        await self.two.start()
        await self.hears(self.two, self.bob, *texts)

    async def test_a_sender_that_restarts_sends_what_it_had_not(self) -> None:
        await self.prepare()
        await self.two.stop()
        texts = [f"kept {n}" for n in range(5)]
        for text in texts:
            await self.one.send(self.alice, self.room, text)
        await self.settle(0.3)
        await self.one.stop()
        await self.two.start()
        await self.one.start()
        await self.hears(self.two, self.bob, *texts)

    async def test_a_signed_request_ends_the_waiting(self) -> None:
        await self.prepare()
        await self.two.stop()
        await self.one.send(self.alice, self.room, "lost?")
        await self.settle(0.3)
        await self.two.start()
        await self.two.send(self.bob, self.room, "I am back")

        async def heard() -> bool:
            return "lost?" in await self.two.bodies(self.bob, self.room)

        await self.until(heard, "the message, without any time passing")

    async def test_a_fork_ends_in_the_same_state(self) -> None:
        await self.prepare("11")
        levels = await self.one.get(f"rooms/{quote(self.room)}/state/m.room.power_levels", self.alice)
        levels["users"][self.bob.user_id] = 100
        await self.one.set_state(self.alice, self.room, "m.room.power_levels", levels)
        await self.one.send(self.alice, self.room, "promoted")
        await self.hears(self.two, self.bob, "promoted")
        # Neither hears the other while both talk.
        await self.two.stop()
        for n in range(3):
            await self.one.set_state(self.alice, self.room, "m.room.topic", {"topic": f"one {n}"})
        await self.settle(0.2)
        await self.one.stop()
        await self.two.start()
        for n in range(3):
            await self.two.set_state(self.bob, self.room, "m.room.topic", {"topic": f"two {n}"})
            await self.two.set_state(self.bob, self.room, "m.room.name", {"name": f"two {n}"})
        await self.settle(0.2)
        await self.one.start()

        async def same() -> Any:
            here = await state_of(self.one, self.alice, self.room)
            there = await state_of(self.two, self.bob, self.room)
            return here == there and ("m.room.name", "") in here

        await self.until(same, "the same state", advance=0.5)


class Three(Talking):
    count = 3

    async def test_whom_one_server_lets_in_the_others_hear_of(self) -> None:
        await self.prepare()
        three = self.peers[2]
        carol = await three.register("carol")
        await three.join(carol, self.room, self.two.name)

        async def known() -> bool:
            return (await self.one.members(self.alice, self.room)).get(carol.user_id) == "join"

        await self.until(known, "carol", advance=0.05)
        # The server that let her in told the others; three itself sent nothing.
        three_sender = three.app.local_pages[0]._sender  # type: ignore[attr-defined]
        self.assertEqual([one.transactions for one in three_sender.known.values()], [])
        await three.send(carol, self.room, "hello from three")
        await self.hears(self.one, self.alice, "hello from three")
        await self.hears(self.two, self.bob, "hello from three")
        await self.one.send(self.alice, self.room, "welcome")
        await self.hears(three, carol, "hello from three", "welcome")


class Past(FederationCase):
    async def test_history_is_fetched_when_somebody_reads_it(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        for version in ("1", "6", "12"):
            room = await one.create_room(alice, preset="public_chat", room_version=version, name="Old room")
            texts = [f"old {n}" for n in range(250)]
            for text in texts:
                await one.send(alice, room, text)
            await two.join(bob, room, one.name)
            said: list[str] = []
            token: dict[str, object] = {}
            for _ in range(20):
                found = await two.get(f"rooms/{quote(room)}/messages", bob, dir="b", limit=50, **token)
                said += [each["content"]["body"] for each in found["chunk"] if "body" in each["content"]]
                if "end" not in found:
                    break
                token = {"from": found["end"]}
            self.assertEqual(list(reversed(said)), texts)
            self.assertEqual(found["chunk"][-1]["type"], "m.room.create")
            self.assertEqual(await state_of(one, alice, room), await state_of(two, bob, room))

    async def test_a_sync_after_a_join_leads_into_the_history(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        for number in range(5):
            await one.send(alice, room, f"old {number}")
        since = (await two.sync(bob))["next_batch"]
        await two.join(bob, room, one.name)
        for found in (await two.sync(bob), await two.sync(bob, since)):
            timeline = found["rooms"]["join"][room]["timeline"]
            self.assertTrue(timeline["limited"], timeline)
            page = await two.get(
                f"rooms/{quote(room)}/messages", bob, dir="b", limit=3, **{"from": timeline["prev_batch"]}
            )
            said = [each["content"].get("body") for each in page["chunk"]]
            self.assertEqual(said, ["old 4", "old 3", "old 2"])
        state = found["rooms"]["join"][room]["state"]["events"]
        self.assertIn("m.room.create", [each["type"] for each in state])

    async def test_what_nobody_can_tell_is_left_out(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await one.send(alice, room, "gone")
        await two.join(bob, room, one.name)
        await one.stop()
        self.assertEqual(await two.bodies(bob, room), [])
        await one.start()
        self.clock.advance(4_000)
        self.assertEqual(await two.bodies(bob, room), ["gone"])

    async def test_history_from_before_one_was_there_is_hidden_where_the_room_says_so(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await one.set_state(alice, room, "m.room.history_visibility", {"history_visibility": "joined"})
        secret = await one.send(alice, room, "secret")
        await two.join(bob, room, one.name)
        self.assertEqual(await two.bodies(bob, room), [])
        stored = await two.app.base.db.read(stored_content, secret)
        self.assertIn(stored, (None, b"{}"))


def stored_content(txn: Any, event_id: str) -> bytes | None:
    from storage import events

    found = events.by_id(txn, event_id)
    return None if found is None else found.content
