# SPDX-License-Identifier: Apache-2.0
"""Who may read what of a room: messages, context, single events, state, members, at every boundary of visibility."""

import json
from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase


class ReadingCase(RoomCase):
    async def messages(self, user: Session, room: str, expect: int = 200, **query: object) -> Any:
        path = f"{V3}/rooms/{quote(room)}/messages"
        return (await self.request("GET", path, None, user, query={"dir": "b", **query}, expect=expect)).json

    async def get(self, user: Session, room: str, what: str, expect: int = 200, **query: object) -> Any:
        return (
            await self.request("GET", f"{V3}/rooms/{quote(room)}/{what}", None, user, query=query, expect=expect)
        ).json

    async def everything(
        self, user: Session, room: str, direction: str = "b", limit: int = 3, **query: object
    ) -> list[Any]:
        """All events by paging to the end."""
        found: list[Any] = []
        page = await self.messages(user, room, dir=direction, limit=limit, **query)
        while True:
            found += page["chunk"]
            if "end" not in page:
                return found
            page = await self.messages(user, room, dir=direction, limit=limit, **{**query, "from": page["end"]})

    async def texts(self, user: Session, room: str) -> list[str]:
        """The bodies of the messages that somebody sees, oldest first."""
        events = await self.everything(user, room, limit=100)
        return [event["content"]["body"] for event in reversed(events) if event["type"] == "m.room.message"]


class Pages(ReadingCase):
    async def test_paging_finds_every_event_once_in_both_directions(self) -> None:
        room = await self.create_room(self.alice)
        sent = [await self.send(self.alice, room, f"{n}") for n in range(7)]
        backward = [event["event_id"] for event in await self.everything(self.alice, room)]
        forward = [event["event_id"] for event in await self.everything(self.alice, room, "f")]
        self.assertEqual(backward, forward[::-1])
        self.assertEqual(forward[-7:], sent)
        self.assertEqual((await self.messages(self.alice, room, dir="f", limit=1))["chunk"][0]["type"], "m.room.create")

    async def test_start_and_end(self) -> None:
        room = await self.create_room(self.alice)
        await self.send(self.alice, room, "last")
        page = await self.messages(self.alice, room, limit=2)
        again = await self.messages(self.alice, room, limit=2, **{"from": page["start"]})
        self.assertEqual(again["chunk"], page["chunk"])
        self.assertEqual(again["start"], page["start"])
        back = await self.messages(self.alice, room, dir="f", **{"from": page["end"]})
        self.assertEqual([e["event_id"] for e in back["chunk"]], [e["event_id"] for e in page["chunk"][::-1]])
        self.assertNotIn("end", back)
        between = await self.messages(self.alice, room, limit=50, **{"from": page["start"], "to": page["end"]})
        self.assertEqual(len(between["chunk"]), 2)

    async def test_filters(self) -> None:
        room = await self.create_room(self.alice)
        await self.send(self.alice, room, "text")
        await self.send_event(
            self.alice, room, "m.room.message", {"msgtype": "m.image", "body": "i", "url": "mxc://a/b"}
        )
        await self.send_event(self.alice, room, "org.x.y", {})
        cases: list[tuple[Any, int]] = [
            ({"types": ["m.room.message"]}, 2),
            ({"types": ["org.x.*"]}, 1),
            ({"types": ["m.room.message"], "contains_url": True}, 1),
            ({"types": ["m.room.message"], "contains_url": False}, 1),
            ({"senders": [self.bob.user_id]}, 0),
            ({"not_senders": [self.alice.user_id]}, 0),
            ({"not_rooms": [room]}, 0),
            ({"types": ["m.room.message", "org.x.y"], "not_types": ["m.*"]}, 1),
            ({"types": []}, 0),
        ]
        for chosen, number in cases:
            found = await self.everything(self.alice, room, filter=json.dumps(chosen))
            self.assertEqual(len(found), number, chosen)

    async def test_lazy_members_come_with_the_page(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, room)
        await self.send(self.bob, room, "hi")
        chosen = json.dumps({"lazy_load_members": True})
        page = await self.messages(self.alice, room, limit=1, filter=chosen)
        self.assertEqual([event["state_key"] for event in page["state"]], [self.bob.user_id])

    async def test_events_found_by_what_relates_to_them(self) -> None:
        room = await self.create_room(self.alice)
        root = await self.send(self.alice, room, "root")
        await self.send(self.alice, room, "other")
        reply = {"msgtype": "m.text", "body": "r", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        await self.send_event(self.alice, room, "m.room.message", reply)
        for chosen in ({"related_by_rel_types": ["m.thread"]}, {"related_by_senders": [self.alice.user_id]}):
            found = await self.everything(self.alice, room, filter=json.dumps(chosen))
            self.assertEqual([event["event_id"] for event in found], [root])
        none = await self.everything(self.alice, room, filter=json.dumps({"related_by_senders": [self.bob.user_id]}))
        self.assertEqual(none, [])

    async def test_sync_tokens_are_places_in_a_room(self) -> None:
        room = await self.create_room(self.alice)
        await self.send(self.alice, room, "before")
        token = (await self.sync(self.alice))["next_batch"]
        after = await self.send(self.alice, room, "after")
        page = await self.messages(self.alice, room, dir="f", **{"from": token})
        self.assertEqual([event["event_id"] for event in page["chunk"]], [after])
        page = await self.messages(self.alice, room, limit=1, **{"from": token})
        self.assertEqual(page["chunk"][0]["content"]["body"], "before")

    async def test_the_timeline_of_a_sync_continues_backward(self) -> None:
        room = await self.create_room(self.alice)
        for number in range(30):
            await self.send(self.alice, room, str(number))
        timeline = (await self.sync(self.alice))["rooms"]["join"][room]["timeline"]
        page = await self.messages(self.alice, room, limit=100, **{"from": timeline["prev_batch"]})
        ids = [event["event_id"] for event in page["chunk"][::-1]] + [e["event_id"] for e in timeline["events"]]
        self.assertEqual(ids, [event["event_id"] for event in await self.everything(self.alice, room, "f")])

    async def test_bad_questions(self) -> None:
        room = await self.create_room(self.alice)
        for query in ({"dir": "x"}, {"from": "nonsense"}, {"to": "t1.5"}, {"limit": -1}, {"limit": "many"}):
            self.assertEqual((await self.messages(self.alice, room, 400, **query))["errcode"], "M_INVALID_PARAM")
        self.assertEqual((await self.messages(self.alice, room, 400, filter="{"))["errcode"], "M_NOT_JSON")
        self.assertEqual((await self.messages(self.alice, room, 400, filter='{"types": 1}'))["errcode"], "M_BAD_JSON")
        await self.get(self.alice, room, "messages", 400)


class Visibility(ReadingCase):
    async def room_with(self, visibility: str | None) -> str:
        initial = []
        if visibility is not None:
            content = {"history_visibility": visibility}
            initial = [{"type": "m.room.history_visibility", "state_key": "", "content": content}]
        return await self.create_room(self.alice, preset="public_chat", initial_state=initial)

    async def lived(self, room: str) -> None:
        """Bob is invited, joins, leaves, is gone, and comes back; a message at each stage."""
        await self.send(self.alice, room, "before")
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        await self.send(self.alice, room, "invited")
        await self.act(self.bob, room, "join")
        await self.send(self.alice, room, "joined")
        await self.act(self.bob, room, "leave")
        await self.send(self.alice, room, "gone")

    async def test_what_each_setting_shows_to_who_left_and_who_came_back(self) -> None:
        shown = {
            "world_readable": (["before", "invited", "joined", "gone"], ["before", "invited", "joined", "gone"]),
            "shared": (["before", "invited", "joined"], ["before", "invited", "joined", "gone"]),
            "invited": (["invited", "joined"], ["invited", "joined"]),
            "joined": (["joined"], ["joined"]),
            "nonsense": (["before", "invited", "joined"], ["before", "invited", "joined", "gone"]),
        }
        for setting, (after_leaving, after_coming_back) in shown.items():
            room = await self.room_with(setting)
            await self.lived(room)
            self.assertEqual(await self.texts(self.bob, room), after_leaving, setting)
            await self.act(self.bob, room, "join")
            self.assertEqual(await self.texts(self.bob, room), after_coming_back, setting)

    async def test_strangers_see_what_is_world_readable_only(self) -> None:
        room = await self.room_with("world_readable")
        await self.send(self.alice, room, "open")
        await self.put_state(self.alice, room, "m.room.history_visibility", {"history_visibility": "shared"})
        await self.send(self.alice, room, "closed")
        await self.messages(self.bob, room, 403)
        await self.put_state(self.alice, room, "m.room.history_visibility", {"history_visibility": "world_readable"})
        await self.send(self.alice, room, "open again")
        self.assertEqual(await self.texts(self.bob, room), ["open", "open again"])
        settings = [e for e in await self.everything(self.bob, room) if e["type"] == "m.room.history_visibility"]
        self.assertEqual(len(settings), 3)

    async def test_the_banned_see_what_they_saw(self) -> None:
        room = await self.room_with("shared")
        await self.act(self.bob, room, "join")
        await self.send(self.alice, room, "together")
        await self.act(self.alice, room, "ban", {"user_id": self.bob.user_id})
        await self.send(self.alice, room, "without")
        self.assertEqual(await self.texts(self.bob, room), ["together"])
        newest = (await self.messages(self.bob, room, limit=1))["chunk"][0]
        self.assertEqual((newest["type"], newest["content"]["membership"]), ("m.room.member", "ban"))

    async def test_who_was_never_in_reads_nothing(self) -> None:
        room = await self.room_with("shared")
        event = await self.send(self.alice, room, "x")
        for what in ("messages?dir=b", "state", "members", "joined_members", f"context/{quote(event)}"):
            self.assertEqual((await self.get(self.bob, room, what, 403))["errcode"], "M_FORBIDDEN", what)
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        await self.messages(self.bob, room, 403)
        await self.act(self.bob, room, "leave")
        await self.messages(self.bob, room, 403)
        await self.messages(self.bob, "!none:parley.test", 403)

    async def test_ignored_people_say_nothing(self) -> None:
        room = await self.room_with("shared")
        await self.act(self.bob, room, "join")
        await self.send(self.bob, room, "blah")
        path = f"{V3}/user/{quote(self.alice.user_id)}/account_data/m.ignored_user_list"
        await self.request("PUT", path, {"ignored_users": {self.bob.user_id: {}}}, self.alice, expect=200)
        self.assertEqual(await self.texts(self.alice, room), [])
        self.assertEqual(await self.texts(self.bob, room), ["blah"])


class OneEvent(ReadingCase):
    async def test_an_event_and_its_context(self) -> None:
        room = await self.create_room(self.alice)
        ids = [await self.send(self.alice, room, str(n)) for n in range(9)]
        event = await self.get(self.alice, room, f"event/{quote(ids[4])}")
        self.assertEqual((event["content"]["body"], event["room_id"]), ("4", room))
        around = await self.get(self.alice, room, f"context/{quote(ids[4])}", limit=4)
        self.assertEqual(around["event"]["event_id"], ids[4])
        self.assertEqual([e["event_id"] for e in around["events_before"]], [ids[3], ids[2]])
        self.assertEqual([e["event_id"] for e in around["events_after"]], [ids[5], ids[6]])
        self.assertIn("m.room.create", [e["type"] for e in around["state"]])
        earlier = await self.messages(self.alice, room, limit=1, **{"from": around["start"]})
        later = await self.messages(self.alice, room, limit=1, dir="f", **{"from": around["end"]})
        self.assertEqual(earlier["chunk"][0]["event_id"], ids[1])
        self.assertEqual(later["chunk"][0]["event_id"], ids[7])

    async def test_context_with_a_filter_and_without_neighbors(self) -> None:
        room = await self.create_room(self.alice)
        target = await self.send(self.alice, room, "x")
        await self.send_event(self.alice, room, "org.other", {})
        chosen = json.dumps({"types": ["m.room.message"], "lazy_load_members": True})
        around = await self.get(self.alice, room, f"context/{quote(target)}", limit=5, filter=chosen)
        self.assertEqual((around["events_before"], around["events_after"]), ([], []))
        members = [e["state_key"] for e in around["state"] if e["type"] == "m.room.member"]
        self.assertEqual(members, [self.alice.user_id])
        alone = await self.get(self.alice, room, f"context/{quote(target)}", limit=0)
        self.assertEqual((alone["events_before"], alone["events_after"]), ([], []))

    async def test_events_that_are_not_there_or_not_for_everybody(self) -> None:
        room, other = await self.create_room(self.alice), await self.create_room(self.alice)
        elsewhere = await self.send(self.alice, other, "x")
        for event in ("$none", elsewhere, "nonsense"):
            for what in ("event", "context"):
                self.assertEqual(
                    (await self.get(self.alice, room, f"{what}/{quote(event)}", 404))["errcode"], "M_NOT_FOUND"
                )

    async def test_outsiders_are_not_told_what_else_is_wrong(self) -> None:
        room = await self.create_room(self.alice)
        self.assertEqual((await self.get(self.bob, room, "messages", 403))["errcode"], "M_FORBIDDEN")
        self.assertEqual((await self.get(self.alice, room, "messages", 400))["errcode"], "M_INVALID_PARAM")

    async def test_whether_an_event_exists_is_not_told_to_outsiders(self) -> None:
        room = await self.create_room(self.alice)
        event = await self.send(self.alice, room, "x")
        for where in (room, "!nowhere:parley.test"):
            reply = await self.get(self.bob, where, f"event/{quote(event)}", 404)
            self.assertEqual(reply["errcode"], "M_NOT_FOUND")
            await self.get(self.bob, where, f"context/{quote(event)}", 403)

    async def test_an_event_before_the_join_is_hidden(self) -> None:
        content = {"history_visibility": "joined"}
        initial = [{"type": "m.room.history_visibility", "state_key": "", "content": content}]
        room = await self.create_room(self.alice, preset="public_chat", initial_state=initial)
        early = await self.send(self.alice, room, "early")
        await self.join(self.bob, room)
        await self.get(self.bob, room, f"event/{quote(early)}", 404)

    async def test_the_event_of_a_time(self) -> None:
        room = await self.create_room(self.alice)
        events = []
        for number in range(5):
            self.clock.advance(10)
            events.append((await self.send(self.alice, room, str(number)), self.runtime.now_ms()))

        async def at(ts: int, direction: str, expect: int = 200) -> Any:
            path = f"/_matrix/client/v1/rooms/{quote(room)}/timestamp_to_event"
            query = {"ts": ts, "dir": direction}
            return (await self.request("GET", path, None, self.alice, query=query, expect=expect)).json

        event, ts = events[2]
        self.assertEqual(await at(ts, "f"), {"event_id": event, "origin_server_ts": ts})
        self.assertEqual(await at(ts, "b"), {"event_id": event, "origin_server_ts": ts})
        self.assertEqual((await at(ts + 1, "f"))["event_id"], events[3][0])
        self.assertEqual((await at(ts - 1, "b"))["event_id"], events[1][0])
        self.assertEqual((await at(ts + 10**9, "f", 404))["errcode"], "M_NOT_FOUND")
        self.assertEqual((await at(0, "b", 404))["errcode"], "M_NOT_FOUND")
        await at(0, "sideways", 400)


class StateAndMembers(ReadingCase):
    async def test_who_left_sees_the_state_of_then(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat", name="old")
        await self.join(self.bob, room)
        await self.act(self.bob, room, "leave")
        await self.put_state(self.alice, room, "m.room.name", {"name": "new"})
        await self.put_state(self.alice, room, "m.room.topic", {"topic": "t"})
        state = {(e["type"], e["state_key"]): e["content"] for e in await self.get(self.bob, room, "state")}
        self.assertEqual(state["m.room.name", ""], {"name": "old"})
        self.assertNotIn(("m.room.topic", ""), state)
        self.assertEqual(state["m.room.member", self.bob.user_id]["membership"], "leave")
        self.assertEqual(await self.get(self.bob, room, "state/m.room.name"), {"name": "old"})
        current = {(e["type"], e["state_key"]): e["content"] for e in await self.get(self.alice, room, "state")}
        self.assertEqual(current["m.room.name", ""], {"name": "new"})

    async def test_members_now_then_and_by_kind(self) -> None:
        carol = await self.register("carol")
        room = await self.create_room(self.alice, preset="public_chat", invite=[carol.user_id])
        token = (await self.sync(self.alice))["next_batch"]
        await self.join(self.bob, room)

        async def members(**query: object) -> dict[str, str]:
            chunk = (await self.get(self.alice, room, "members", **query))["chunk"]
            return {event["state_key"]: event["content"]["membership"] for event in chunk}

        alice, bob = self.alice.user_id, self.bob.user_id
        self.assertEqual(await members(), {alice: "join", bob: "join", carol.user_id: "invite"})
        self.assertEqual(await members(at=token), {alice: "join", carol.user_id: "invite"})
        self.assertEqual(await members(membership="invite"), {carol.user_id: "invite"})
        self.assertEqual(await members(not_membership="invite"), {alice: "join", bob: "join"})
        await self.get(self.alice, room, "members", 400, membership="boss")
        await self.get(self.alice, room, "members", 400, at="nonsense")

    async def test_joined_members_with_their_names(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.put_state(
            self.alice, room, "m.room.member", {"membership": "join", "displayname": "A"}, self.alice.user_id
        )
        joined = (await self.get(self.alice, room, "joined_members"))["joined"]
        self.assertEqual(joined, {self.alice.user_id: {"display_name": "A"}})
        await self.get(self.bob, room, "joined_members", 403)
