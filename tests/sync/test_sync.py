# SPDX-License-Identifier: Apache-2.0
"""What `/sync` answers, through the real router."""

from typing import Any
from urllib.parse import quote

import orjson

from storage import events, names
from tests.harness.server import HomeserverCase, Session

LAZY = {"room": {"state": {"lazy_load_members": True}}}


def bodies(section: dict[str, Any]) -> list[str]:
    return [event["content"].get("body", event["type"]) for event in section["timeline"]["events"]]


class SyncTest(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def state(self, user: Session, room: str, kind: str, content: dict[str, Any], key: str = "") -> str:
        path = f"/_matrix/client/v3/rooms/{quote(room)}/state/{quote(kind)}/{quote(key)}"
        return str((await self.request("PUT", path, content, user, expect=200)).json["event_id"])

    async def act(self, user: Session, room: str, deed: str, body: dict[str, Any] | None = None) -> None:
        await self.request("POST", f"/_matrix/client/v3/rooms/{quote(room)}/{deed}", body or {}, user, expect=200)

    async def shared_room(self, **body: Any) -> str:
        room = await self.create_room(self.alice, preset="public_chat", **body)
        await self.join(self.bob, room)
        return room

    async def test_a_client_that_starts_gets_everything(self) -> None:
        room = await self.shared_room(name="Lamps")
        await self.send(self.alice, room, "one")
        answer = await self.sync(self.bob)
        section = answer["rooms"]["join"][room]
        self.assertEqual(bodies(section)[-1], "one")
        self.assertEqual(section["summary"]["m.joined_member_count"], 2)
        self.assertNotIn("m.heroes", section["summary"])
        self.assertEqual(section["unread_notifications"], {"notification_count": 1, "highlight_count": 0})
        self.assertIn("m.push_rules", [event["type"] for event in answer["account_data"]["events"]])

    async def test_a_token_gives_what_came_since(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        event_id = await self.send(self.alice, room, "two")
        answer = await self.sync(self.bob, since)
        section = answer["rooms"]["join"][room]
        self.assertEqual([event["event_id"] for event in section["timeline"]["events"]], [event_id])
        self.assertFalse(section["timeline"]["limited"])
        self.assertEqual(section["state"]["events"], [])
        self.assertNotIn("rooms", await self.sync(self.bob, answer["next_batch"]))

    async def test_the_sending_device_sees_its_transaction_id(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.alice))["next_batch"]
        await self.send(self.alice, room, "mine", txn="abc")
        event = (await self.sync(self.alice, since))["rooms"]["join"][room]["timeline"]["events"][-1]
        self.assertEqual(event["unsigned"]["transaction_id"], "abc")
        self.assertEqual(event["unsigned"]["membership"], "join")
        event = (await self.sync(self.bob))["rooms"]["join"][room]["timeline"]["events"][-1]
        self.assertNotIn("transaction_id", event["unsigned"])

    async def test_a_gap_brings_the_state_that_changed_in_it(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.state(self.alice, room, "m.room.topic", {"topic": "early"})
        for number in range(12):
            await self.send(self.alice, room, f"m{number}")
        answer = await self.sync(self.bob, since)
        section = answer["rooms"]["join"][room]
        self.assertTrue(section["timeline"]["limited"])
        self.assertEqual(bodies(section), [f"m{number}" for number in range(2, 12)])
        self.assertEqual([event["content"] for event in section["state"]["events"]], [{"topic": "early"}])
        older = await self.request(
            "GET",
            f"/_matrix/client/v3/rooms/{quote(room)}/messages",
            None,
            self.bob,
            query={"dir": "b", "from": section["timeline"]["prev_batch"], "limit": 3},
            expect=200,
        )
        self.assertEqual(
            [event["content"].get("body", event["type"]) for event in older.json["chunk"]], ["m1", "m0", "m.room.topic"]
        )

    async def test_state_before_and_state_after_the_timeline(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.state(self.alice, room, "m.room.topic", {"topic": "one"})
        await self.state(self.alice, room, "m.room.topic", {"topic": "two"})
        limit = orjson.dumps({"room": {"timeline": {"limit": 1}}}).decode()
        before = (await self.sync(self.bob, since, filter=limit))["rooms"]["join"][room]
        self.assertEqual([event["content"] for event in before["state"]["events"]], [{"topic": "one"}])
        self.assertNotIn("state_after", before)
        for name in ("use_state_after", "org.matrix.msc4222.use_state_after"):
            after = (await self.sync(self.bob, since, filter=limit, **{name: "true"}))["rooms"]["join"][room]
            self.assertEqual([event["content"] for event in after["state_after"]["events"]], [{"topic": "two"}])
            self.assertEqual(after["state_after"], after["org.matrix.msc4222.state_after"])
            self.assertNotIn("state", after)

    async def test_prev_content_of_a_state_event(self) -> None:
        room = await self.shared_room()
        first = await self.state(self.alice, room, "m.room.topic", {"topic": "one"})
        since = (await self.sync(self.bob))["next_batch"]
        await self.state(self.alice, room, "m.room.topic", {"topic": "two"})
        event = (await self.sync(self.bob, since))["rooms"]["join"][room]["timeline"]["events"][0]
        self.assertEqual(event["unsigned"]["prev_content"], {"topic": "one"})
        self.assertEqual(event["unsigned"]["replaces_state"], first)

    async def test_a_joined_room_comes_whole(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat", topic="old")
        since = (await self.sync(self.bob))["next_batch"]
        await self.join(self.bob, room)
        section = (await self.sync(self.bob, since))["rooms"]["join"][room]
        self.assertTrue(section["timeline"]["limited"])
        kinds = {event["type"] for event in [*section["state"]["events"], *section["timeline"]["events"]]}
        self.assertTrue({"m.room.create", "m.room.topic", "m.room.power_levels"} <= kinds)
        self.assertEqual(section["summary"]["m.joined_member_count"], 2)

    async def test_an_invite_shows_the_stripped_state(self) -> None:
        since = (await self.sync(self.bob))["next_batch"]
        room = await self.create_room(self.alice, name="Secret", invite=[self.bob.user_id])
        invite = (await self.sync(self.bob, since))["rooms"]["invite"][room]["invite_state"]["events"]
        kinds = {event["type"] for event in invite}
        self.assertTrue({"m.room.create", "m.room.name", "m.room.member"} <= kinds)
        members = {event["state_key"] for event in invite if event["type"] == "m.room.member"}
        self.assertEqual(members, {self.alice.user_id, self.bob.user_id})
        started = await self.sync(self.bob)
        self.assertIn(room, started["rooms"]["invite"])
        self.assertNotIn("join", started["rooms"])

    async def test_ignored_users_invite_and_write_in_vain(self) -> None:
        room = await self.shared_room()
        await self.request(
            "PUT",
            f"/_matrix/client/v3/user/{quote(self.bob.user_id)}/account_data/m.ignored_user_list",
            {"ignored_users": {self.alice.user_id: {}}},
            self.bob,
            expect=200,
        )
        since = (await self.sync(self.bob))["next_batch"]
        await self.send(self.alice, room, "psst")
        await self.create_room(self.alice, invite=[self.bob.user_id])
        await self.state(self.alice, room, "m.room.topic", {"topic": "seen"})
        rooms = (await self.sync(self.bob, since))["rooms"]
        self.assertNotIn("invite", rooms)
        self.assertEqual(bodies(rooms["join"][room]), ["m.room.topic"])

    async def test_leaving_shows_the_room_up_to_the_leave(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.send(self.alice, room, "before")
        await self.act(self.bob, room, "leave")
        await self.send(self.alice, room, "after")
        answer = await self.sync(self.bob, since)
        section = answer["rooms"]["leave"][room]
        self.assertEqual(bodies(section), ["before", "m.room.member"])
        self.assertNotIn("join", answer["rooms"])
        self.assertNotIn("rooms", await self.sync(self.bob, answer["next_batch"]))
        self.assertNotIn("rooms", await self.sync(self.bob))

    async def test_left_rooms_on_request(self) -> None:
        room = await self.shared_room(topic="then")
        await self.act(self.bob, room, "leave")
        await self.state(self.alice, room, "m.room.topic", {"topic": "now"})
        wanted = orjson.dumps({"room": {"include_leave": True, "timeline": {"limit": 1}}}).decode()
        section = (await self.sync(self.bob, filter=wanted))["rooms"]["leave"][room]
        topics = [event["content"]["topic"] for event in section["state"]["events"] if event["type"] == "m.room.topic"]
        self.assertEqual(topics, ["then"])
        self.assertEqual(bodies(section), ["m.room.member"])

    async def test_a_kick_and_a_ban_are_told(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.act(self.alice, room, "ban", {"user_id": self.bob.user_id})
        event = (await self.sync(self.bob, since))["rooms"]["leave"][room]["timeline"]["events"][-1]
        self.assertEqual(event["content"]["membership"], "ban")
        self.assertEqual(event["unsigned"]["membership"], "ban")

    async def test_history_from_before_the_join_stays_hidden(self) -> None:
        room = await self.create_room(
            self.alice,
            preset="public_chat",
            initial_state=[{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}],
        )
        await self.send(self.alice, room, "hidden")
        await self.join(self.bob, room)
        await self.send(self.alice, room, "shown")
        shown = bodies((await self.sync(self.bob))["rooms"]["join"][room])
        self.assertEqual(shown[-3:], ["m.room.history_visibility", "m.room.member", "shown"])
        self.assertNotIn("hidden", shown)

    async def test_lazy_loading_sends_members_once(self) -> None:
        room = await self.shared_room()
        carol = await self.register("carol")
        await self.join(carol, room)
        lazy = orjson.dumps({"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 1}}}).decode()
        await self.send(self.alice, room, "hi")
        answer = await self.sync(self.bob, filter=lazy)
        section = answer["rooms"]["join"][room]
        self.assertEqual(self.members(section), {self.alice.user_id, self.bob.user_id, carol.user_id})
        self.assertEqual(len(section["summary"]["m.heroes"]), 2)
        await self.send(self.alice, room, "again")
        section = (await self.sync(self.bob, answer["next_batch"], filter=lazy))["rooms"]["join"][room]
        self.assertEqual(self.members(section), set())
        redundant = orjson.dumps(
            {"room": {"state": {"lazy_load_members": True, "include_redundant_members": True}}}
        ).decode()
        section = (await self.sync(self.bob, answer["next_batch"], filter=redundant))["rooms"]["join"][room]
        self.assertEqual(self.members(section), {self.alice.user_id})

    def members(self, section: dict[str, Any]) -> set[str]:
        return {event["state_key"] for event in section["state"]["events"] if event["type"] == "m.room.member"}

    async def test_filters_apply(self) -> None:
        room = await self.shared_room()
        other = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        for place in (room, other):
            await self.send(self.alice, place, "text")
            await self.send_event(self.alice, place, "m.sticker", {"body": "sticker", "url": "mxc://a/b"})

        async def shown(part: dict[str, Any], **rest: Any) -> dict[str, list[str]]:
            chosen = orjson.dumps({"room": {"timeline": part, **rest}}).decode()
            answer = await self.sync(self.bob, since, filter=chosen)
            joined = answer.get("rooms", {}).get("join", {})
            return {place: bodies(section) for place, section in joined.items() if bodies(section)}

        both = ["text", "sticker"]
        self.assertEqual(await shown({}), {room: both, other: both})
        self.assertEqual(await shown({"types": ["m.room.*"]}), {room: ["text"], other: ["text"]})
        self.assertEqual(await shown({"types": ["m.sticker"]}), {room: ["sticker"], other: ["sticker"]})
        self.assertEqual(await shown({"not_types": ["m.sticker"]}), {room: ["text"], other: ["text"]})
        self.assertEqual(await shown({"contains_url": True}), {room: ["sticker"], other: ["sticker"]})
        self.assertEqual(await shown({"contains_url": False}), {room: ["text"], other: ["text"]})
        self.assertEqual(await shown({"senders": [self.bob.user_id]}), {})
        self.assertEqual(await shown({"not_senders": [self.alice.user_id]}), {})
        self.assertEqual(await shown({"rooms": [room]}), {room: both})
        self.assertEqual(await shown({"not_rooms": [room]}), {other: both})
        self.assertEqual(await shown({}, rooms=[room]), {room: both})
        self.assertEqual(await shown({}, not_rooms=[room]), {other: both})
        self.assertEqual(await shown({"limit": 1}), {room: ["sticker"], other: ["sticker"]})

    async def test_a_filter_comes_back_without_what_is_null(self) -> None:
        path = f"/_matrix/client/v3/user/{self.alice.user_id}/filter"
        given = {"room": {"account_data": None, "timeline": {"limit": 3, "types": None}}, "presence": None}
        made = await self.request("POST", path, given, self.alice, expect=200)
        kept = await self.request("GET", f"{path}/{made.json['filter_id']}", None, self.alice, expect=200)
        self.assertEqual(kept.json, {"room": {"timeline": {"limit": 3}}})

    async def test_stored_filters_and_formats(self) -> None:
        room = await self.shared_room()
        await self.send(self.alice, room, "text")
        path = f"/_matrix/client/v3/user/{quote(self.bob.user_id)}/filter"
        body = {"event_fields": ["content.body", "type", "sender", "event_id", "origin_server_ts"]}
        made = await self.request("POST", path, body, self.bob, expect=200)
        self.assertEqual((await self.request("GET", f"{path}/{made.json['filter_id']}", None, self.bob)).json, body)
        again = await self.request("POST", path, body, self.bob, expect=200)
        self.assertEqual(again.json, made.json)
        reply = await self.request(
            "GET",
            "/_matrix/client/v3/sync",
            None,
            self.bob,
            query={"filter": made.json["filter_id"]},
            expect=200,
            validate=False,
        )
        event = reply.json["rooms"]["join"][room]["timeline"]["events"][-1]
        self.assertEqual(event["content"], {"body": "text"})
        self.assertNotIn("unsigned", event)
        raw = orjson.dumps({"event_format": "federation"}).decode()
        reply = await self.request(
            "GET", "/_matrix/client/v3/sync", None, self.bob, query={"filter": raw}, expect=200, validate=False
        )
        self.assertIn("hashes", reply.json["rooms"]["join"][room]["timeline"]["events"][-1])
        await self.request("POST", path, {"room": 5}, self.bob, expect=400)
        await self.request("POST", path, {}, self.alice, expect=403)
        await self.request("GET", f"{path}/{made.json['filter_id']}", None, self.alice, expect=403)
        await self.request("GET", f"{path}/999", None, self.bob, expect=404)

    async def test_wrong_requests_are_refused(self) -> None:
        for query in (
            {"since": "nonsense"},
            {"since": "s1"},
            {"since": "s1_x"},
            {"since": "s-1_0"},
            {"filter": "999"},
            {"filter": "nonsense"},
            {"filter": "{"},
            {"filter": '{"room":1}'},
            {"timeout": "soon"},
            {"timeout": "-1"},
            {"full_state": "maybe"},
            {"set_presence": "drunk"},
        ):
            reply = await self.request("GET", "/_matrix/client/v3/sync", None, self.bob, query=query)
            self.assertEqual(reply.status, 400, query)
        await self.request("GET", "/_matrix/client/v3/sync", expect=401)

    async def test_full_state_on_request(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        section = (await self.sync(self.bob, since, full_state="true", timeout=30_000))["rooms"]["join"][room]
        self.assertEqual(section["timeline"]["events"], [])
        self.assertIn("m.room.create", {event["type"] for event in section["state"]["events"]})

    async def test_a_new_room_that_is_shown_whole_is_not_limited(self) -> None:
        since = (await self.sync(self.alice))["next_batch"]
        room = await self.create_room(self.alice)
        timeline = (await self.sync(self.alice, since))["rooms"]["join"][room]["timeline"]
        self.assertEqual((timeline["events"][0]["type"], timeline["limited"]), ("m.room.create", False))
        small = orjson.dumps({"room": {"timeline": {"limit": 2}}}).decode()
        timeline = (await self.sync(self.alice, since, filter=small))["rooms"]["join"][room]["timeline"]
        self.assertEqual((len(timeline["events"]), timeline["limited"]), (2, True))

    async def test_a_room_forgotten_meanwhile_is_still_let_go(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.act(self.bob, room, "leave")
        await self.act(self.bob, room, "forget")
        answer = await self.sync(self.bob, since)
        self.assertIn(room, answer["rooms"]["leave"])
        self.assertNotIn("rooms", await self.sync(self.bob, answer["next_batch"]))
        wanted = orjson.dumps({"room": {"include_leave": True}}).decode()
        self.assertNotIn("rooms", await self.sync(self.bob, filter=wanted))

    async def test_full_state_shows_left_rooms_to_who_wants_them(self) -> None:
        room = await self.shared_room()
        await self.act(self.bob, room, "leave")
        since = (await self.sync(self.bob))["next_batch"]
        wanted = orjson.dumps({"room": {"include_leave": True}}).decode()
        answer = await self.sync(self.bob, since, full_state="true", filter=wanted)
        self.assertIn("timeline", answer["rooms"]["leave"][room])
        self.assertNotIn("rooms", await self.sync(self.bob, since, full_state="true"))
        self.assertNotIn("rooms", await self.sync(self.bob, since, filter=wanted))

    async def test_a_waiting_client_gets_news_at_once(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        waiting = self.begin(
            "GET", "/_matrix/client/v3/sync", None, self.bob, query={"since": since, "timeout": 30_000}
        )
        await self.settle(0.01)
        self.assertFalse(waiting.called)
        await self.send(self.alice, room, "news")
        reply = await self.eventually(waiting)
        self.assertEqual(bodies(reply.json["rooms"]["join"][room]), ["news"])

    async def test_a_waiting_client_gets_an_empty_answer_in_the_end(self) -> None:
        await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        waiting = self.begin(
            "GET", "/_matrix/client/v3/sync", None, self.bob, query={"since": since, "timeout": 30_000}
        )
        await self.settle(0.01)
        self.clock.advance(29)
        await self.settle(0.01)
        self.assertFalse(waiting.called)
        self.clock.advance(2)
        reply = await self.eventually(waiting)
        self.assertEqual(reply.status, 200)
        self.assertNotIn("rooms", reply.json)

    async def test_typing_receipts_and_account_data(self) -> None:
        room = await self.shared_room()
        event_id = await self.send(self.alice, room, "read me")
        since = (await self.sync(self.alice))["next_batch"]
        bob_since = (await self.sync(self.bob))["next_batch"]
        base = f"/_matrix/client/v3/rooms/{quote(room)}"
        await self.request(
            "PUT", f"{base}/typing/{quote(self.bob.user_id)}", {"typing": True, "timeout": 9000}, self.bob, expect=200
        )
        answer = await self.sync(self.alice, since)
        ephemeral = answer["rooms"]["join"][room]["ephemeral"]["events"]
        self.assertEqual(ephemeral, [{"type": "m.typing", "content": {"user_ids": [self.bob.user_id]}}])
        await self.request("POST", f"{base}/receipt/m.read/{quote(event_id)}", {}, self.bob, expect=200)
        answer = await self.sync(self.alice, answer["next_batch"])
        (receipt,) = answer["rooms"]["join"][room]["ephemeral"]["events"]
        self.assertIn(self.bob.user_id, receipt["content"][event_id]["m.read"])
        self.clock.advance(10)
        answer = await self.sync(self.alice, answer["next_batch"])
        ephemeral = answer["rooms"]["join"][room]["ephemeral"]["events"]
        self.assertEqual(ephemeral, [{"type": "m.typing", "content": {"user_ids": []}}])
        section = (await self.sync(self.bob, bob_since))["rooms"]["join"][room]
        self.assertEqual(section["unread_notifications"]["notification_count"], 0)

    async def test_private_receipts_are_the_readers_own(self) -> None:
        room = await self.shared_room()
        event_id = await self.send(self.alice, room, "read me")
        since, bobs = (await self.sync(self.alice))["next_batch"], (await self.sync(self.bob))["next_batch"]
        path = f"/_matrix/client/v3/rooms/{quote(room)}/receipt/m.read.private/{quote(event_id)}"
        await self.request("POST", path, {}, self.bob, expect=200)
        self.assertNotIn("rooms", await self.sync(self.alice, since))
        section = (await self.sync(self.bob, bobs))["rooms"]["join"][room]
        self.assertEqual(section["unread_notifications"]["notification_count"], 0)
        (receipt,) = section["ephemeral"]["events"]
        self.assertIn(self.bob.user_id, receipt["content"][event_id]["m.read.private"])

    async def test_account_data_of_the_account_and_of_a_room(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        base = f"/_matrix/client/v3/user/{quote(self.bob.user_id)}"
        await self.request("PUT", f"{base}/account_data/a.b", {"x": 1}, self.bob, expect=200)
        await self.request("PUT", f"{base}/rooms/{quote(room)}/account_data/c.d", {"y": 2}, self.bob, expect=200)
        await self.request("PUT", f"{base}/rooms/{quote(room)}/tags/u.work", {"order": 0.5}, self.bob, expect=200)
        answer = await self.sync(self.bob, since)
        self.assertEqual(answer["account_data"]["events"], [{"type": "a.b", "content": {"x": 1}}])
        events = answer["rooms"]["join"][room]["account_data"]["events"]
        self.assertEqual({event["type"] for event in events}, {"c.d", "m.tag"})
        only = orjson.dumps({"account_data": {"not_types": ["a.*"]}, "room": {"account_data": {"types": ["c.d"]}}})
        answer = await self.sync(self.bob, since, filter=only.decode())
        self.assertNotIn("account_data", answer)
        (event,) = answer["rooms"]["join"][room]["account_data"]["events"]
        self.assertEqual(event["type"], "c.d")

    async def test_to_device_messages_stay_until_the_next_token(self) -> None:
        since = (await self.sync(self.bob))["next_batch"]
        messages = {self.bob.user_id: {self.bob.device_id: {"n": 1}}}
        path = "/_matrix/client/v3/sendToDevice/a.b/t1"
        await self.request("PUT", path, {"messages": messages}, self.alice, expect=200)
        for _ in range(2):
            answer = await self.sync(self.bob, since)
            self.assertEqual([event["content"] for event in answer["to_device"]["events"]], [{"n": 1}])
        answer = await self.sync(self.bob, answer["next_batch"])
        self.assertNotIn("to_device", answer)
        await self.settle(0.05)
        self.assertNotIn("to_device", await self.sync(self.bob))

    async def test_more_to_device_messages_than_fit_come_in_order(self) -> None:
        since = (await self.sync(self.bob))["next_batch"]
        for number in range(230):
            messages = {self.bob.user_id: {self.bob.device_id: {"n": number}}}
            path = f"/_matrix/client/v3/sendToDevice/a.b/t{number}"
            await self.request("PUT", path, {"messages": messages}, self.alice, expect=200, validate=False)
        got: list[int] = []
        for _ in range(4):
            answer = await self.sync(self.bob, since)
            since = answer["next_batch"]
            got += [event["content"]["n"] for event in answer.get("to_device", {}).get("events", ())]
        self.assertEqual(got, list(range(230)))

    async def test_device_lists_tell_of_new_devices_and_neighbors(self) -> None:
        await self.shared_room()
        since = (await self.sync(self.alice))["next_batch"]
        device = await self.login("bob")
        keys = {
            "user_id": device.user_id,
            "device_id": device.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {f"curve25519:{device.device_id}": "A" * 43, f"ed25519:{device.device_id}": "B" * 43},
            "signatures": {device.user_id: {f"ed25519:{device.device_id}": "C" * 86}},
        }
        await self.request("POST", "/_matrix/client/v3/keys/upload", {"device_keys": keys}, device, expect=200)
        answer = await self.sync(self.alice, since)
        self.assertIn(self.bob.user_id, answer["device_lists"]["changed"])
        carol = await self.register("carol")
        room = await self.create_room(self.alice, preset="public_chat")
        since = (await self.sync(self.alice))["next_batch"]
        await self.join(carol, room)
        answer = await self.sync(self.alice, since)
        self.assertIn(carol.user_id, answer["device_lists"]["changed"])
        await self.act(carol, room, "leave")
        answer = await self.sync(self.alice, answer["next_batch"])
        self.assertIn(carol.user_id, answer["device_lists"]["left"])

    async def test_tokens_work_after_a_restart(self) -> None:
        room = await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.send(self.alice, room, "kept")
        await self.restart_server()
        self.assertEqual(bodies((await self.sync(self.bob, since))["rooms"]["join"][room]), ["kept"])

    async def test_who_rejects_an_invite_learns_no_more_of_the_room(self) -> None:
        room = await self.create_room(self.alice, invite=[self.bob.user_id], topic="secret")
        since = (await self.sync(self.bob))["next_batch"]
        await self.act(self.bob, room, "leave")
        wanted = orjson.dumps({"room": {"include_leave": True}}).decode()
        for token in (since, None):
            section = (await self.sync(self.bob, token, filter=wanted))["rooms"]["leave"][room]
            self.assertEqual(bodies(section), ["m.room.member"])
            kinds = {(event["type"], event["state_key"]) for event in section["state"]["events"]}
            self.assertTrue(kinds <= {("m.room.member", self.bob.user_id)}, kinds)

    async def test_a_knock_shows_the_stripped_state(self) -> None:
        rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
        room = await self.create_room(self.alice, name="Door", initial_state=rules)
        since = (await self.sync(self.bob))["next_batch"]
        await self.request("POST", f"/_matrix/client/v3/knock/{quote(room)}", {}, self.bob, expect=200)
        answer = await self.sync(self.bob, since)
        events = answer["rooms"]["knock"][room]["knock_state"]["events"]
        self.assertTrue({"m.room.name", "m.room.member"} <= {event["type"] for event in events})
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        rooms = (await self.sync(self.bob, answer["next_batch"]))["rooms"]
        self.assertIn(room, rooms["invite"])
        self.assertNotIn("knock", rooms)

    async def test_nothing_new_costs_no_query(self) -> None:
        await self.shared_room()
        since = (await self.sync(self.bob))["next_batch"]
        await self.sync(self.bob, since)
        ran: list[str] = []
        inline = self.app.base.db._inline
        if inline is None:
            return  # on PostgreSQL there is no connection of the reactor's own to listen on
        inline.connection.set_trace_callback(ran.append)  # type: ignore[attr-defined]
        for _ in range(3):
            await self.sync(self.bob, since)
        self.assertEqual(ran, [])
        await self.request(
            "PUT", f"/_matrix/client/v3/user/{quote(self.bob.user_id)}/account_data/a.b", {}, self.bob, expect=200
        )
        await self.sync(self.bob, since)
        self.assertNotEqual(ran, [])

    async def test_relations_are_bundled(self) -> None:
        room = await self.shared_room()
        root = await self.send(self.alice, room, "root")
        thread = {"rel_type": "m.thread", "event_id": root}
        reply = {"msgtype": "m.text", "body": "reply", "m.relates_to": thread}
        await self.send_event(self.bob, room, "m.room.message", reply)
        event = (await self.sync(self.bob))["rooms"]["join"][room]["timeline"]["events"][-2]
        summary = event["unsigned"]["m.relations"]["m.thread"]
        self.assertEqual((summary["count"], summary["current_user_participated"]), (1, True))
        self.assertEqual(summary["latest_event"]["content"]["body"], "reply")
        chosen = orjson.dumps({"room": {"timeline": {"unread_thread_notifications": True}}}).decode()
        section = (await self.sync(self.alice, filter=chosen))["rooms"]["join"][room]
        self.assertEqual(section["unread_notifications"]["notification_count"], 0)
        self.assertEqual(section["unread_thread_notifications"][root]["notification_count"], 1)

    async def test_redactions_show_their_target_and_redacted_events_their_redaction(self) -> None:
        room = await self.shared_room()
        event_id = await self.send(self.alice, room, "regret")
        path = f"/_matrix/client/v3/rooms/{quote(room)}/redact/{quote(event_id)}/t1"
        redaction_id = (await self.request("PUT", path, {"reason": "oops"}, self.alice, expect=200)).json["event_id"]
        events = (await self.sync(self.bob))["rooms"]["join"][room]["timeline"]["events"]
        redacted, redaction = events[-2:]
        self.assertEqual(redacted["content"], {})
        self.assertEqual(redacted["unsigned"]["redacted_because"]["event_id"], redaction_id)
        self.assertEqual((redaction["redacts"], redaction["content"]["redacts"]), (event_id, event_id))


class PresenceTest(HomeserverCase):
    async def test_neighbors_presence_is_told_when_it_changes_and_when_they_come_near(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        status = f"/_matrix/client/v3/presence/{quote(bob.user_id)}/status"
        await self.request("PUT", status, {"presence": "online", "status_msg": "here"}, bob, expect=200)
        since = (await self.sync(alice, set_presence="offline"))["next_batch"]
        room = await self.create_room(alice, preset="public_chat")
        await self.join(bob, room)
        answer = await self.sync(alice, since, set_presence="offline")
        (event,) = [one for one in answer["presence"]["events"] if one["sender"] == bob.user_id]
        self.assertEqual(event["content"]["status_msg"], "here")
        await self.request("PUT", status, {"presence": "unavailable"}, bob, expect=200)
        answer = await self.sync(alice, answer["next_batch"], set_presence="offline")
        (event,) = answer["presence"]["events"]
        self.assertEqual(event["content"]["presence"], "unavailable")
        nothing = orjson.dumps({"presence": {"types": []}}).decode()
        answer = await self.sync(alice, since, set_presence="offline", filter=nothing)
        self.assertNotIn("presence", answer)


class HoleTest(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def test_a_timeline_is_not_shown_across_a_hole_in_the_history(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.create_room(alice, preset="public_chat")
        await self.join(bob, room)
        since = (await self.sync(bob))["next_batch"]
        await self.send(alice, room, "before the hole")
        after = await self.send(alice, room, "after the hole")
        await self.send(alice, room, "newest")
        await self.app.base.db.write(make_hole, room, after)
        for token in (since, None):
            timeline = (await self.sync(bob, token))["rooms"]["join"][room]["timeline"]
            self.assertEqual([event["content"]["body"] for event in timeline["events"]], ["after the hole", "newest"])
            self.assertTrue(timeline["limited"])
        older = await self.request(
            "GET",
            f"/_matrix/client/v3/rooms/{quote(room)}/messages",
            None,
            bob,
            query={"dir": "b", "from": timeline["prev_batch"], "limit": 1},
            expect=200,
        )
        self.assertEqual(older.json["chunk"][0]["content"]["body"], "before the hole")


def make_hole(txn: Any, room_id: str, event_id: str) -> None:
    """Note that what came before an event is missing, as federation does."""
    room, event = names.room_nid(txn, room_id), events.nid_of(txn, event_id)
    assert event is not None
    txn.run(
        "INSERT INTO gap (room, event, next_ord, missing) VALUES (?, ?, ?, ?)", (room, event, (event << 20) - 1, b"")
    )
