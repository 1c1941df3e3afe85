# SPDX-License-Identifier: Apache-2.0
"""Sliding sync as Element X speaks it, and the merged form."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import HomeserverCase, Reply, Session

TODAY = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
MERGED = "/_matrix/client/v4/sync"
STATE = [
    ["m.room.name", ""],
    ["m.room.encryption", ""],
    ["m.room.member", "$LAZY"],
    ["m.room.member", "$ME"],
    ["m.room.topic", ""],
    ["m.room.create", ""],
    ["m.space.child", "*"],
]


def window(last: int, limit: int = 1, **filters: Any) -> dict[str, Any]:
    return {"ranges": [[0, last]], "timeline_limit": limit, "required_state": STATE, "filters": filters}


class SlidingCase(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def slide(
        self, user: Session, pos: str | None = None, timeout: int = 0, expect: int = 200, **body: Any
    ) -> Any:
        query: dict[str, object] = {"timeout": timeout}
        if pos is not None:
            query["pos"] = pos
        reply = await self.request("POST", TODAY, body, user, query=query, expect=expect)
        return reply.json

    async def rooms(self, number: int, **body: Any) -> list[str]:
        made = []
        for index in range(number):
            self.clock.advance(0.01)
            room = await self.create_room(self.alice, preset="public_chat", name=f"Room {index}", **body)
            await self.join(self.bob, room)
            made.append(room)
        return made

    async def state(self, user: Session, room: str, kind: str, content: dict[str, Any], key: str = "") -> None:
        path = f"/_matrix/client/v3/rooms/{quote(room)}/state/{quote(kind)}/{quote(key)}"
        await self.request("PUT", path, content, user, expect=200)


class SlidingSyncTest(SlidingCase):
    async def test_the_first_window_holds_the_most_recent_rooms(self) -> None:
        rooms = await self.rooms(5)
        await self.send(self.alice, rooms[1], "newest")
        answer = await self.slide(self.bob, lists={"all": window(1)})
        self.assertEqual(answer["lists"]["all"]["count"], 5)
        self.assertEqual(answer["lists"]["all"]["ops"][0]["room_ids"], [rooms[1], rooms[4]])
        self.assertEqual(set(answer["rooms"]), {rooms[1], rooms[4]})
        room = answer["rooms"][rooms[1]]
        self.assertEqual(room["name"], "Room 1")
        self.assertTrue(room["initial"])
        self.assertTrue(room["limited"])
        self.assertEqual([event["content"]["body"] for event in room["timeline"]], ["newest"])
        self.assertEqual((room["joined_count"], room["invited_count"]), (2, 0))
        kinds = {(event["type"], event["state_key"]) for event in room["required_state"]}
        members = {("m.room.member", self.alice.user_id), ("m.room.member", self.bob.user_id)}
        self.assertEqual(kinds, {("m.room.name", ""), ("m.room.create", ""), *members})
        self.assertEqual(room["notification_count"], 1)

    async def test_reading_brings_the_new_counts(self) -> None:
        (room,) = await self.rooms(1)
        read = [str(await self.send(self.alice, room, body)) for body in ("one", "two", "three")]
        answer = await self.slide(self.bob, lists={"all": window(9)})
        self.assertEqual(answer["rooms"][room]["notification_count"], 3)
        for kind, event, left in (("m.read", read[0], 2), ("m.read.private", read[1], 1)):
            path = f"/_matrix/client/v3/rooms/{quote(room)}/receipt/{kind}/{quote(event)}"
            await self.request("POST", path, {}, self.bob, expect=200)
            answer = await self.slide(self.bob, answer["pos"], lists={"all": window(9)})
            self.assertEqual(answer["rooms"][room]["notification_count"], left)
        answer = await self.slide(self.bob, answer["pos"], lists={"all": window(9)})
        self.assertEqual(answer["rooms"], {})

    async def test_growing_the_window_sends_only_further_rooms(self) -> None:
        rooms = await self.rooms(4)
        answer = await self.slide(self.bob, lists={"all": window(1)})
        answer = await self.slide(self.bob, answer["pos"], timeout=30_000, lists={"all": window(9)})
        self.assertEqual(set(answer["rooms"]), set(rooms[:2]))
        answer = await self.slide(self.bob, answer["pos"], lists={"all": window(9)})
        self.assertEqual(answer["rooms"], {})

    async def test_news_come_as_differences(self) -> None:
        (room,) = await self.rooms(1)
        answer = await self.slide(self.bob, lists={"all": window(9)})
        waiting = self.begin(
            "POST", TODAY, {"lists": {"all": window(9)}}, self.bob, query={"pos": answer["pos"], "timeout": 30_000}
        )
        await self.settle(0.01)
        self.assertFalse(waiting.called)
        await self.send(self.alice, room, "hello")
        reply: Reply = await self.eventually(waiting)
        result = reply.json["rooms"][room]
        self.assertNotIn("initial", result)
        self.assertNotIn("name", result)
        self.assertEqual([event["content"]["body"] for event in result["timeline"]], ["hello"])
        self.assertEqual(result["num_live"], 1)
        await self.state(self.alice, room, "m.room.name", {"name": "Other"})
        answer = await self.slide(self.bob, reply.json["pos"], lists={"all": window(9)})
        self.assertEqual(answer["rooms"][room]["name"], "Other")
        self.assertEqual([event["type"] for event in answer["rooms"][room]["required_state"]], ["m.room.name"])

    async def test_a_room_that_left_the_window_catches_up_when_it_returns(self) -> None:
        first, second = await self.rooms(2)
        answer = await self.slide(self.bob, lists={"all": window(1)})
        await self.send(self.alice, first, "one")
        await self.send(self.alice, second, "two")
        answer = await self.slide(self.bob, answer["pos"], lists={"all": window(0)})
        self.assertEqual(set(answer["rooms"]), {second})
        answer = await self.slide(self.bob, answer["pos"], lists={"all": window(1)})
        self.assertEqual(set(answer["rooms"]), {first})
        self.assertEqual([event["content"]["body"] for event in answer["rooms"][first]["timeline"]], ["one"])
        self.assertNotIn("initial", answer["rooms"][first])

    async def test_a_subscription_expands_the_timeline(self) -> None:
        (room,) = await self.rooms(1)
        for number in range(5):
            await self.send(self.alice, room, str(number))
        answer = await self.slide(self.bob, lists={"all": window(9)})
        self.assertEqual(len(answer["rooms"][room]["timeline"]), 1)
        more = {room: {"timeline_limit": 4, "required_state": [["m.room.power_levels", ""]]}}
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, answer["pos"], timeout=30_000, lists=lists, room_subscriptions=more)
        result = answer["rooms"][room]
        self.assertEqual([event["content"]["body"] for event in result["timeline"]], ["1", "2", "3", "4"])
        self.assertTrue(result["unstable_expanded_timeline"])
        self.assertEqual([event["type"] for event in result["required_state"]], ["m.room.power_levels"])
        answer = await self.slide(self.bob, answer["pos"], lists=lists, room_subscriptions=more)
        self.assertEqual(answer["rooms"], {})

    async def test_positions_are_the_connections_own(self) -> None:
        await self.rooms(1)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists, conn_id="room-list")
        again = await self.slide(self.bob, answer["pos"], lists=lists, conn_id="room-list")
        repeated = await self.slide(self.bob, answer["pos"], lists=lists, conn_id="room-list")
        self.assertEqual(again["rooms"], repeated["rooms"])
        for pos, who, name in (
            ("nonsense", self.bob, "room-list"),
            (answer["pos"], self.bob, "encryption"),
            (answer["pos"], self.alice, "room-list"),
            (answer["pos"] + "9", self.bob, "room-list"),
        ):
            wrong = await self.slide(who, pos, expect=400, lists=lists, conn_id=name)
            self.assertEqual(wrong["errcode"], "M_UNKNOWN_POS")
        third = await self.slide(self.bob, repeated["pos"], lists=lists, conn_id="room-list")
        wrong = await self.slide(self.bob, answer["pos"], expect=400, lists=lists, conn_id="room-list")
        self.assertEqual(wrong["errcode"], "M_UNKNOWN_POS")
        await self.slide(self.bob, third["pos"], lists=lists, conn_id="room-list")

    async def test_a_lost_answer_is_given_again(self) -> None:
        (room,) = await self.rooms(1)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists)
        await self.send(self.alice, room, "hello")
        for _ in range(3):
            lost = await self.slide(self.bob, answer["pos"], lists=lists)
            self.assertEqual(lost["rooms"][room]["timeline"][0]["content"]["body"], "hello")

    async def test_a_connection_outlives_a_restart(self) -> None:
        (room,) = await self.rooms(1)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists)
        await self.restart_server()
        await self.send(self.alice, room, "hello")
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertNotIn("initial", answer["rooms"][room])
        self.assertEqual(answer["rooms"][room]["timeline"][0]["content"]["body"], "hello")

    async def test_filters_of_lists(self) -> None:
        plain, direct, tagged = await self.rooms(3)
        secret = await self.create_room(
            self.bob,
            name="secret",
            initial_state=[{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}],
        )
        space = await self.create_room(self.bob, name="space", creation_content={"type": "m.space"})
        invite = await self.create_room(self.alice, name="invite", invite=[self.bob.user_id])
        await self.state(self.bob, space, "m.space.child", {"via": ["parley.test"]}, plain)
        base = f"/_matrix/client/v3/user/{quote(self.bob.user_id)}"
        await self.request("PUT", f"{base}/account_data/m.direct", {self.alice.user_id: [direct]}, self.bob, expect=200)
        await self.request("PUT", f"{base}/rooms/{quote(tagged)}/tags/m.favourite", {}, self.bob, expect=200)
        everything = {plain, direct, tagged, secret, space, invite}
        for filters, expected in (
            ({}, everything),
            ({"is_dm": True}, {direct}),
            ({"is_dm": False}, everything - {direct}),
            ({"is_encrypted": True}, {secret}),
            ({"is_encrypted": False}, everything - {secret}),
            ({"is_invite": True}, {invite}),
            ({"is_invite": False}, everything - {invite}),
            ({"room_types": ["m.space"]}, {space}),
            ({"room_types": [None]}, everything - {space}),
            ({"not_room_types": ["m.space"]}, everything - {space}),
            ({"tags": ["m.favourite"]}, {tagged}),
            ({"not_tags": ["m.favourite"]}, everything - {tagged}),
            ({"spaces": [space]}, {plain}),
        ):
            answer = await self.slide(self.bob, lists={"a": window(99, **filters)})
            self.assertEqual(set(answer["lists"]["a"]["ops"][0]["room_ids"]), expected, filters)
            self.assertEqual(answer["lists"]["a"]["count"], len(expected))

    async def test_a_room_that_becomes_a_direct_chat_says_so(self) -> None:
        (room,) = await self.rooms(1)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists)
        self.assertNotIn("is_dm", answer["rooms"][room])
        path = f"/_matrix/client/v3/user/{quote(self.bob.user_id)}/account_data/m.direct"
        for content, expected in (({self.alice.user_id: [room]}, True), ({}, False)):
            await self.request("PUT", path, content, self.bob, expect=200)
            answer = await self.slide(self.bob, answer["pos"], lists=lists)
            self.assertEqual(answer["rooms"][room]["is_dm"], expected)
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertEqual(answer["rooms"], {})

    async def test_an_invite_and_its_acceptance(self) -> None:
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists)
        room = await self.create_room(self.alice, name="In", invite=[self.bob.user_id])
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        result = answer["rooms"][room]
        self.assertIn("m.room.name", {event["type"] for event in result["invite_state"]})
        self.assertNotIn("timeline", result)
        await self.join(self.bob, room)
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertTrue(answer["rooms"][room]["initial"])
        self.assertEqual(answer["rooms"][room]["name"], "In")

    async def test_leaving_and_being_kicked(self) -> None:
        first, second = await self.rooms(2)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists)
        await self.request("POST", f"/_matrix/client/v3/rooms/{quote(first)}/leave", {}, self.bob, expect=200)
        kick = {"user_id": self.bob.user_id}
        await self.request("POST", f"/_matrix/client/v3/rooms/{quote(second)}/kick", kick, self.alice, expect=200)
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        for room in (first, second):
            self.assertEqual(answer["rooms"][room]["timeline"][-1]["content"]["membership"], "leave")
            self.assertEqual(answer["rooms"][room]["membership"], "leave")
        await self.send(self.alice, first, "unseen")
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertEqual(answer["rooms"], {})
        self.assertEqual(answer["lists"]["all"]["count"], 1)
        fresh = await self.slide(self.bob, lists=lists, conn_id="fresh")
        self.assertEqual(set(fresh["rooms"]), {second})

    async def test_a_withdrawn_invite_shows_nothing_of_the_room(self) -> None:
        lists = {"all": {**window(9), "required_state": [["*", "*"]]}}
        room = await self.create_room(self.alice, invite=[self.bob.user_id], name="x", topic="secret")
        answer = await self.slide(self.bob, lists=lists)
        await self.state(self.alice, room, "m.room.topic", {"topic": "more secret"})
        kick = {"user_id": self.bob.user_id}
        await self.request("POST", f"/_matrix/client/v3/rooms/{quote(room)}/kick", kick, self.alice, expect=200)
        for pos, name in ((answer["pos"], ""), (None, "fresh")):
            result = (await self.slide(self.bob, pos, lists=lists, conn_id=name))["rooms"][room]
            self.assertEqual([event["type"] for event in result["timeline"]], ["m.room.member"])
            self.assertEqual(result.get("required_state", []), [])
            self.assertNotIn("name", result)

    async def test_lazy_members_come_once(self) -> None:
        (room,) = await self.rooms(1)
        carol = await self.register("carol")
        await self.join(carol, room)
        lists = {"all": window(9)}
        await self.send(self.alice, room, "hi")
        answer = await self.slide(self.bob, lists=lists)
        self.assertEqual(self.members(answer, room), {self.alice.user_id, self.bob.user_id})
        await self.send(carol, room, "hi")
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertEqual(self.members(answer, room), {carol.user_id})
        await self.send(carol, room, "hi")
        answer = await self.slide(self.bob, answer["pos"], lists=lists)
        self.assertEqual(self.members(answer, room), set())

    def members(self, answer: Any, room: str) -> set[str]:
        events = answer["rooms"][room].get("required_state", ())
        return {event["state_key"] for event in events if event["type"] == "m.room.member"}

    async def test_wrong_requests_are_refused(self) -> None:
        for body in (
            {"lists": []},
            {"lists": {"a": 5}},
            {"lists": {"a": {"ranges": [[5, 1]]}}},
            {"lists": {"a": {"ranges": [[0]]}}},
            {"lists": {"a": {"timeline_limit": "x"}}},
            {"lists": {"a": {"required_state": [["x"]]}}},
            {"lists": {"a": {"filters": {"is_dm": 1}}}},
            {"room_subscriptions": {"!a:b": None}},
            {"lists": {str(number): window(1) for number in range(101)}},
            {"extensions": {"to_device": {"enabled": 1}}},
            {"extensions": {"to_device": {"enabled": True, "since": "x"}}},
            {"conn_id": 5},
        ):
            await self.slide(self.bob, expect=400, **body)
        await self.request("POST", TODAY, {}, self.bob, query={"timeout": "x"}, expect=400)
        await self.request("POST", TODAY, {}, self.bob, query={"set_presence": "x"}, expect=400)
        await self.request("POST", TODAY, {}, expect=401)

    async def test_the_merged_form(self) -> None:
        (room,) = await self.rooms(1)
        invite = await self.create_room(self.alice, name="In", invite=[self.bob.user_id])
        await self.state(self.alice, room, "a.b", {"x": 1})
        config = {
            "timeline_limit": 1,
            "required_state": {
                "include": [{}],
                "exclude": [{"type": "m.room.create"}],
                "lazy_members": True,
            },
            "range": [0, 9],
        }
        body: dict[str, Any] = {"lists": {"all": config}}
        answer = (await self.request("POST", MERGED, body, self.bob, expect=200)).json
        self.assertEqual(answer["lists"], {"all": {"count": 2}})
        result = answer["rooms"][room]
        self.assertEqual((result["membership"], result["lists"]), ("join", ["all"]))
        kinds = {event["type"] for event in result["required_state"]}
        self.assertIn("a.b", kinds)
        self.assertNotIn("m.room.create", kinds)
        self.assertNotIn("notification_count", result)
        self.assertIn("m.room.name", {event["type"] for event in answer["rooms"][invite]["stripped_state"]})
        older = await self.request(
            "GET",
            f"/_matrix/client/v3/rooms/{quote(room)}/messages",
            None,
            self.bob,
            query={"dir": "b", "from": answer["pos"], "limit": 1},
            expect=200,
        )
        self.assertEqual(older.json["chunk"][0]["type"], "a.b")
        await self.state(self.alice, room, "m.room.name", {})
        answer = (await self.request("POST", MERGED, {**body, "pos": answer["pos"]}, self.bob, expect=200)).json
        self.assertIsNone(answer["rooms"][room]["name"])
        bare = {"lists": {"all": {"timeline_limit": 0, "required_state": {}, "filters": {"is_invited": True}}}}
        answer = (await self.request("POST", MERGED, bare, self.bob, expect=200)).json
        self.assertEqual(set(answer["rooms"]), {invite})
        await self.request("POST", MERGED, {"lists": {"a b": config}}, self.bob, expect=400)
        await self.request("POST", MERGED, {"lists": {"a": {"required_state": {}}}}, self.bob, expect=400)


class ExtensionsTest(SlidingCase):
    ALL = {name: {"enabled": True} for name in ("to_device", "e2ee", "account_data", "receipts", "typing")}

    async def test_to_device_has_a_token_of_its_own(self) -> None:
        messages = {self.bob.user_id: {self.bob.device_id: {"n": 1}}}
        path = "/_matrix/client/v3/sendToDevice/a.b/t1"
        await self.request("PUT", path, {"messages": messages}, self.alice, expect=200)
        answer = await self.slide(self.bob, extensions={"to_device": {"enabled": True}}, conn_id="encryption")
        part = answer["extensions"]["to_device"]
        self.assertEqual([event["content"] for event in part["events"]], [{"n": 1}])
        again = {"to_device": {"enabled": True}}
        answer = await self.slide(self.bob, answer["pos"], extensions=again, conn_id="encryption")
        self.assertEqual(len(answer["extensions"]["to_device"]["events"]), 1)
        have = {"to_device": {"enabled": True, "since": part["next_batch"]}}
        answer = await self.slide(self.bob, answer["pos"], extensions=have, conn_id="encryption")
        self.assertEqual(answer["extensions"]["to_device"]["events"], [])
        await self.settle(0.05)
        answer = await self.slide(self.bob, extensions=again)
        self.assertEqual(answer["extensions"]["to_device"]["events"], [])

    async def test_a_message_wakes_the_encryption_connection(self) -> None:
        answer = await self.slide(self.bob, extensions={"to_device": {"enabled": True}}, conn_id="encryption")
        have = {"to_device": {"enabled": True, "since": answer["extensions"]["to_device"]["next_batch"]}}
        query = {"pos": answer["pos"], "timeout": 30_000}
        waiting = self.begin("POST", TODAY, {"extensions": have, "conn_id": "encryption"}, self.bob, query=query)
        await self.settle(0.01)
        self.assertFalse(waiting.called)
        messages = {self.bob.user_id: {self.bob.device_id: {"n": 1}}}
        await self.request(
            "PUT", "/_matrix/client/v3/sendToDevice/a.b/t1", {"messages": messages}, self.alice, expect=200
        )
        reply = await self.eventually(waiting)
        self.assertEqual(len(reply.json["extensions"]["to_device"]["events"]), 1)

    async def test_account_data_receipts_and_typing(self) -> None:
        (room,) = await self.rooms(1)
        base = f"/_matrix/client/v3/user/{quote(self.bob.user_id)}"
        event_id = await self.send(self.alice, room, "read me")
        await self.request("PUT", f"{base}/account_data/a.b", {"x": 1}, self.bob, expect=200)
        await self.request("PUT", f"{base}/rooms/{quote(room)}/account_data/c.d", {"y": 2}, self.bob, expect=200)
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists, extensions=self.ALL)
        part = answer["extensions"]["account_data"]
        self.assertIn({"type": "a.b", "content": {"x": 1}}, part["global"])
        self.assertEqual(part["rooms"][room], [{"type": "c.d", "content": {"y": 2}}])
        self.assertEqual(answer["extensions"]["e2ee"]["device_one_time_keys_count"], {"signed_curve25519": 0})
        rooms = f"/_matrix/client/v3/rooms/{quote(room)}"
        await self.request("POST", f"{rooms}/receipt/m.read/{quote(event_id)}", {}, self.bob, expect=200)
        typing = {"typing": True, "timeout": 9000}
        await self.request("PUT", f"{rooms}/typing/{quote(self.alice.user_id)}", typing, self.alice, expect=200)
        await self.request("PUT", f"{base}/rooms/{quote(room)}/tags/u.x", {}, self.bob, expect=200)
        answer = await self.slide(self.bob, answer["pos"], lists=lists, extensions=self.ALL)
        part = answer["extensions"]
        self.assertEqual(part["typing"]["rooms"][room]["content"], {"user_ids": [self.alice.user_id]})
        self.assertIn(self.bob.user_id, part["receipts"]["rooms"][room]["content"][event_id]["m.read"])
        self.assertEqual([event["type"] for event in part["account_data"]["rooms"][room]], ["m.tag"])
        self.clock.advance(10)
        answer = await self.slide(self.bob, answer["pos"], lists=lists, extensions=self.ALL)
        self.assertEqual(answer["extensions"]["typing"]["rooms"][room]["content"], {"user_ids": []})

    async def test_device_lists(self) -> None:
        lists = {"all": window(9)}
        answer = await self.slide(self.bob, lists=lists, extensions=self.ALL)
        await self.rooms(1)
        answer = await self.slide(self.bob, answer["pos"], lists=lists, extensions=self.ALL)
        self.assertIn(self.alice.user_id, answer["extensions"]["e2ee"]["device_lists"]["changed"])
