# SPDX-License-Identifier: Apache-2.0
"""State events and redactions, through the pages."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import HomeserverCase, Session

ROOMS = "/_matrix/client/v3/rooms"


class RoomCase(HomeserverCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def room(self, **wishes: Any) -> str:
        body = {"preset": "public_chat", **wishes}
        reply = await self.request("POST", "/_matrix/client/v3/createRoom", body, token=self.alice.token)
        room = str(reply.json["room_id"])
        await self.request("POST", f"{ROOMS}/{quote(room)}/join", {}, token=self.bob.token)
        return room

    async def put(
        self, room: str, event_type: str, content: Any, key: str | None = "", who: Session | None = None
    ) -> Any:
        path = f"{ROOMS}/{quote(room)}/state/{event_type}" + ("" if key is None else f"/{quote(key, safe='')}")
        return await self.request("PUT", path, content, token=(who or self.alice).token)

    async def get(self, room: str, event_type: str, key: str = "", query: str = "", who: Session | None = None) -> Any:
        path = f"{ROOMS}/{quote(room)}/state/{event_type}/{quote(key, safe='')}{query}"
        return await self.request("GET", path, token=(who or self.alice).token)

    async def say(self, room: str, content: dict[str, Any], txn: str, who: Session | None = None) -> Any:
        path = f"{ROOMS}/{quote(room)}/send/m.room.message/{txn}"
        return await self.request("PUT", path, content, token=(who or self.alice).token)

    async def event(self, room: str, event_id: str) -> Any:
        path = f"{ROOMS}/{quote(room)}/event/{quote(event_id, safe='')}"
        reply = await self.request("GET", path, token=self.alice.token)
        self.assertEqual(reply.status, 200, reply.json)
        return reply.json


class State(RoomCase):
    async def test_what_is_put_is_got_in_both_formats(self) -> None:
        room = await self.room()
        put = await self.put(room, "m.room.name", {"name": "N"})
        self.assertEqual(put.status, 200, put.json)
        self.assertEqual((await self.get(room, "m.room.name")).json, {"name": "N"})
        self.assertEqual((await self.get(room, "m.room.name", query="?format=content")).json, {"name": "N"})
        event = (await self.get(room, "m.room.name", query="?format=event")).json
        self.assertEqual((event["event_id"], event["content"]), (put.json["event_id"], {"name": "N"}))
        self.assertEqual((event["room_id"], event["state_key"], event["sender"]), (room, "", self.alice.user_id))
        self.assertEqual((await self.get(room, "m.room.name", query="?format=x")).json["errcode"], "M_INVALID_PARAM")

    async def test_a_room_does_not_follow_itself(self) -> None:
        room = await self.room()
        refused = await self.put(room, "m.room.tombstone", {"body": "moved", "replacement_room": room})
        self.assertEqual((refused.status, refused.json["errcode"]), (400, "M_INVALID_PARAM"))
        self.assertEqual((await self.get(room, "m.room.tombstone")).status, 404)

    async def test_sending_and_redacting_without_a_transaction_id(self) -> None:
        room = await self.room()
        path = f"{ROOMS}/{quote(room)}"
        said = []
        for _ in range(2):
            sent = await self.request("POST", f"{path}/send/m.room.message", {"body": "x"}, token=self.bob.token)
            said.append(sent.json["event_id"])
        self.assertNotEqual(*said)
        gone = f"{path}/redact/{quote(said[0], safe='')}"
        self.assertEqual((await self.request("POST", gone, {}, token=self.bob.token)).status, 200)
        self.assertEqual([(await self.event(room, one))["content"] for one in said], [{}, {"body": "x"}])
        carol = await self.register("carol")
        refused = await self.request("POST", f"{path}/send/m.room.message", {"body": "x"}, token=carol.token)
        self.assertEqual((refused.status, refused.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_an_event_of_another_room_is_not_redacted(self) -> None:
        one, other = await self.room(), await self.room()
        said = (await self.say(other, {"body": "x"}, "1")).json["event_id"]
        path = f"{ROOMS}/{quote(one)}/redact/{quote(said, safe='')}/1"
        refused = await self.request("PUT", path, {}, token=self.alice.token)
        self.assertEqual((refused.status, refused.json["errcode"]), (400, "M_INVALID_PARAM"))
        self.assertEqual((await self.event(other, said))["content"], {"body": "x"})

    async def test_an_empty_key_may_be_left_out(self) -> None:
        room = await self.room()
        self.assertEqual((await self.put(room, "m.room.topic", {"topic": "T"}, None)).status, 200)
        reply = await self.request("GET", f"{ROOMS}/{quote(room)}/state/m.room.topic", token=self.alice.token)
        self.assertEqual(reply.json, {"topic": "T"})

    async def test_keys_of_any_kind_are_kept(self) -> None:
        room = await self.room()
        for key in ("a/b", "ü ☃", "%2F", "x" * 255):
            self.assertEqual((await self.put(room, "org.example", {"k": key}, key)).status, 200, key)
            self.assertEqual((await self.get(room, "org.example", key)).json, {"k": key})

    async def test_the_same_state_again_is_the_same_event(self) -> None:
        room = await self.room()
        first = (await self.put(room, "m.room.name", {"name": "N"})).json["event_id"]
        self.assertEqual((await self.put(room, "m.room.name", {"name": "N"})).json["event_id"], first)
        other = (await self.put(room, "m.room.name", {"name": "M"})).json["event_id"]
        self.assertNotEqual(other, first)
        event = (await self.get(room, "m.room.name", query="?format=event")).json
        self.assertEqual(event["unsigned"]["replaces_state"], first)
        self.assertEqual(event["unsigned"]["prev_content"], {"name": "N"})

    async def test_what_nobody_may_send_is_malformed(self) -> None:
        room = await self.room(room_version="12")
        for kind, content in (
            ("m.room.create", {"room_version": "12"}),
            ("m.room.power_levels", {"users": {self.alice.user_id: 100}}),
            ("m.room.power_levels", {"users": {"bob": 50}}),
            ("m.room.power_levels", {"users": {self.bob.user_id: "50"}}),
            ("m.room.power_levels", {"events": []}),
        ):
            reply = await self.put(room, kind, content)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), content)
        self.assertEqual((await self.get(room, "m.room.power_levels")).json["users"], {})

    async def test_what_the_rules_refuse(self) -> None:
        room = await self.room()
        for reply in (
            await self.put(room, "m.room.name", {"name": "B"}, who=self.bob),
            await self.put(room, "org.example", {}, self.bob.user_id),
            await self.put("!unknown:parley.test", "m.room.name", {}),
        ):
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        missing = await self.get(room, "org.nothing")
        self.assertEqual((missing.status, missing.json["errcode"]), (404, "M_NOT_FOUND"))

    async def test_what_is_malformed(self) -> None:
        room = await self.room()
        for content in ({"x": 1.5}, {"x": 2**53}, {"x": [[[1e300]]]}):
            reply = await self.put(room, "org.example", content)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), content)
        large = await self.put(room, "org.example", {"x": "y" * 66_000})
        self.assertEqual((large.status, large.json["errcode"]), (413, "M_TOO_LARGE"))
        long_key = await self.put(room, "org.example", {}, "k" * 256)
        self.assertIn((long_key.status, long_key.json["errcode"]), ((413, "M_TOO_LARGE"), (400, "M_INVALID_PARAM")))

    async def test_levels_are_integers_also_where_old_rooms_take_more(self) -> None:
        room = await self.room(room_version="5")
        levels = (await self.get(room, "m.room.power_levels")).json
        for bad in ({"ban": "50"}, {"ban": 50.0}, {"users": {self.alice.user_id: "100"}}, {"events": [1]}):
            reply = await self.put(room, "m.room.power_levels", {**levels, **bad})
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        self.assertEqual((await self.put(room, "m.room.power_levels", {**levels, "ban": 60})).status, 200)

    async def test_a_membership_may_be_put(self) -> None:
        room = await self.room()
        reply = await self.put(room, "m.room.member", {"membership": "ban"}, self.bob.user_id)
        self.assertEqual(reply.status, 200, reply.json)
        self.assertEqual((await self.get(room, "m.room.member", self.bob.user_id)).json["membership"], "ban")

    async def test_an_alias_that_leads_elsewhere_is_refused(self) -> None:
        room = await self.room()
        reply = await self.put(room, "m.room.canonical_alias", {"alias": "#nowhere:parley.test"})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_ALIAS"))


class Redacting(RoomCase):
    async def redact(self, room: str, event_id: str, txn: str, who: Session | None = None, body: Any = None) -> Any:
        path = f"{ROOMS}/{quote(room)}/redact/{quote(event_id, safe='')}/{txn}"
        return await self.request("PUT", path, body or {}, token=(who or self.alice).token)

    async def test_a_redacted_message_is_empty_and_says_why_in_every_version(self) -> None:
        for version in map(str, range(1, 13)):
            room = await self.room(room_version=version)
            said = (await self.say(room, {"msgtype": "m.text", "body": "secret"}, f"s{version}")).json["event_id"]
            done = await self.redact(room, said, f"r{version}", body={"reason": "why"})
            self.assertEqual(done.status, 200, done.json)
            event = await self.event(room, said)
            self.assertEqual(event["content"], {})
            because = event["unsigned"]["redacted_because"]
            self.assertEqual((because["event_id"], because["content"]["reason"]), (done.json["event_id"], "why"))
            redaction = await self.event(room, done.json["event_id"])
            self.assertEqual((redaction["redacts"], redaction["content"]["redacts"]), (said, said))

    async def test_a_redaction_may_be_sent_like_any_event(self) -> None:
        for version in ("10", "11", "12"):
            room = await self.room(room_version=version)
            said = (await self.say(room, {"body": "secret"}, f"s{version}")).json["event_id"]
            path = f"{ROOMS}/{quote(room)}/send/m.room.redaction/x{version}"
            done = await self.request("PUT", path, {"redacts": said, "reason": "r"}, token=self.alice.token)
            self.assertEqual(done.status, 200, done.json)
            self.assertEqual((await self.event(room, said))["content"], {})

    async def test_others_events_need_power(self) -> None:
        room = await self.room()
        said = (await self.say(room, {"body": "mine"}, "1")).json["event_id"]
        reply = await self.redact(room, said, "1", self.bob)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        own = (await self.say(room, {"body": "bob's"}, "2", self.bob)).json["event_id"]
        self.assertEqual((await self.redact(room, own, "2", self.bob)).status, 200)
        another = (await self.say(room, {"body": "bob's"}, "3", self.bob)).json["event_id"]
        self.assertEqual((await self.redact(room, another, "3")).status, 200)

    async def test_resending_a_redaction_is_one_event(self) -> None:
        room = await self.room()
        said = (await self.say(room, {"body": "x"}, "1")).json["event_id"]
        first = (await self.redact(room, said, "t")).json["event_id"]
        self.assertEqual((await self.redact(room, said, "t")).json["event_id"], first)

    async def test_what_is_not_there_cannot_be_redacted(self) -> None:
        room = await self.room()
        reply = await self.redact(room, "$" + "a" * 43, "t")
        self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
        path = f"{ROOMS}/{quote(room)}/send/m.room.redaction/y"
        reply = await self.request("PUT", path, {}, token=self.alice.token)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))

    async def test_redacting_state_takes_effect_on_the_next_event(self) -> None:
        room = await self.room(room_version="10")
        levels = (await self.get(room, "m.room.power_levels")).json
        levels["events"]["m.room.message"] = 0
        levels["notifications"] = {"room": 0}
        put = (await self.put(room, "m.room.power_levels", levels)).json["event_id"]
        self.assertEqual((await self.redact(room, put, "r")).status, 200)
        now = (await self.get(room, "m.room.power_levels")).json
        self.assertNotIn("notifications", now)
        self.assertEqual((await self.say(room, {"body": "still works"}, "2")).status, 200)


class Relating(RoomCase):
    async def test_edits_threads_and_references_are_bundled(self) -> None:
        room = await self.room()
        root = (await self.say(room, {"body": "root"}, "1")).json["event_id"]
        edit = {
            "body": "*",
            "m.new_content": {"body": "new"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": root},
        }
        edited = (await self.say(room, edit, "2")).json["event_id"]
        foreign = await self.say(room, edit, "3", self.bob)
        self.assertEqual(foreign.status, 200)
        in_thread = {"body": "t", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        await self.say(room, in_thread, "4")
        last = (await self.say(room, in_thread, "5", self.bob)).json["event_id"]
        refers = {"body": "r", "m.relates_to": {"rel_type": "m.reference", "event_id": root}}
        reference = (await self.say(room, refers, "6")).json["event_id"]
        bundle = (await self.event(room, root))["unsigned"]["m.relations"]
        self.assertEqual(bundle["m.replace"]["event_id"], edited)
        self.assertEqual(bundle["m.thread"]["count"], 2)
        self.assertEqual(bundle["m.thread"]["latest_event"]["event_id"], last)
        self.assertTrue(bundle["m.thread"]["current_user_participated"])
        self.assertEqual(bundle["m.reference"], {"chunk": [{"event_id": reference}]})

    async def test_a_redacted_reply_leaves_the_thread(self) -> None:
        room = await self.room()
        root = (await self.say(room, {"body": "root"}, "1")).json["event_id"]
        in_thread = {"body": "t", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        first = (await self.say(room, in_thread, "2")).json["event_id"]
        second = (await self.say(room, in_thread, "3")).json["event_id"]
        path = f"{ROOMS}/{quote(room)}/redact/{quote(second, safe='')}/t"
        await self.request("PUT", path, {}, token=self.alice.token)
        thread = (await self.event(room, root))["unsigned"]["m.relations"]["m.thread"]
        self.assertEqual((thread["count"], thread["latest_event"]["event_id"]), (1, first))

    async def test_the_same_reaction_twice_is_refused(self) -> None:
        room = await self.room()
        root = (await self.say(room, {"body": "root"}, "1")).json["event_id"]
        body = {"m.relates_to": {"rel_type": "m.annotation", "event_id": root, "key": "👍"}}
        path = f"{ROOMS}/{quote(room)}/send/m.reaction/"
        self.assertEqual((await self.request("PUT", path + "a", body, token=self.alice.token)).status, 200)
        again = await self.request("PUT", path + "b", body, token=self.alice.token)
        self.assertEqual((again.status, again.json["errcode"]), (400, "M_DUPLICATE_ANNOTATION"))
        self.assertEqual((await self.request("PUT", path + "c", body, token=self.bob.token)).status, 200)

    async def test_a_thread_cannot_start_from_a_reply_in_one(self) -> None:
        room = await self.room()
        root = (await self.say(room, {"body": "root"}, "1")).json["event_id"]
        in_thread = {"body": "t", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        child = (await self.say(room, in_thread, "2")).json["event_id"]
        nested = {"body": "t", "m.relates_to": {"rel_type": "m.thread", "event_id": child}}
        self.assertEqual((await self.say(room, nested, "3")).status, 400)
