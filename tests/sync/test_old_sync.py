# SPDX-License-Identifier: Apache-2.0
"""The deprecated ways to keep up, and peeking."""

from urllib.parse import quote

from tests.harness.server import HomeserverCase

EVENTS = "/_matrix/client/v3/events"


class OldSyncTest(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")
        self.room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, self.room)

    async def test_a_first_answer_then_a_stream(self) -> None:
        await self.send(self.alice, self.room, "one")
        invite = await self.create_room(self.alice, invite=[self.bob.user_id], name="x")
        first = await self.request("GET", "/_matrix/client/v3/initialSync", None, self.bob, expect=200)
        rooms = {room["room_id"]: room for room in first.json["rooms"]}
        self.assertEqual(rooms[self.room]["messages"]["chunk"][-1]["content"]["body"], "one")
        self.assertEqual(rooms[invite]["membership"], "invite")
        waiting = self.begin("GET", EVENTS, None, self.bob, query={"from": first.json["end"], "timeout": 30_000})
        await self.settle(0.01)
        self.assertFalse(waiting.called)
        event_id = await self.send(self.alice, self.room, "two")
        reply = await self.eventually(waiting)
        self.assertEqual([event["event_id"] for event in reply.json["chunk"]], [event_id])
        self.assertEqual(reply.json["chunk"][0]["room_id"], self.room)
        again = await self.request("GET", EVENTS, None, self.bob, query={"from": reply.json["end"]}, expect=200)
        self.assertEqual(again.json["chunk"], [])
        one = await self.request("GET", f"{EVENTS}/{quote(event_id)}", None, self.bob, expect=200)
        self.assertEqual(one.json["content"]["body"], "two")

    async def test_long_gaps_come_in_parts(self) -> None:
        end = (await self.request("GET", EVENTS, None, self.bob, expect=200)).json["end"]
        for number in range(120):
            await self.send(self.alice, self.room, str(number))
        seen = []
        for _ in range(2):
            reply = await self.request("GET", EVENTS, None, self.bob, query={"from": end}, expect=200)
            end = reply.json["end"]
            seen += [event["content"]["body"] for event in reply.json["chunk"]]
        self.assertEqual(seen, [str(number) for number in range(120)])

    async def test_anybody_peeks_into_a_world_readable_room(self) -> None:
        carol = await self.register("carol")
        readable = [{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]
        room = await self.create_room(self.alice, initial_state=readable, topic="x")
        end = (await self.request("GET", EVENTS, None, carol, query={"room_id": room}, expect=200)).json["end"]
        waiting = self.begin("GET", EVENTS, None, carol, query={"from": end, "room_id": room, "timeout": 9000})
        await self.settle(0.01)
        await self.send(self.alice, room, "seen")
        reply = await self.eventually(waiting)
        self.assertEqual([event["content"]["body"] for event in reply.json["chunk"]], ["seen"])
        await self.request("GET", EVENTS, None, carol, query={"room_id": self.room}, expect=403)

    async def test_wrong_requests_are_refused(self) -> None:
        await self.request("GET", EVENTS, None, self.bob, query={"from": "x"}, expect=400)
        await self.request("GET", f"{EVENTS}/$nothing", None, self.bob, expect=404)
        await self.request("GET", "/_matrix/client/v3/initialSync", None, self.bob, query={"limit": "x"}, expect=400)
        carol = await self.register("carol")
        event_id = await self.send(self.alice, self.room, "private")
        await self.request("GET", f"{EVENTS}/{quote(event_id)}", None, carol, expect=404)
