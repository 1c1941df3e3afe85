# SPDX-License-Identifier: Apache-2.0
"""Searching messages, names and topics, and looking for people."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase


class SearchCase(RoomCase):
    async def search(
        self, user: Session, term: str, expect: int = 200, token: str | None = None, **criteria: object
    ) -> Any:
        body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
        query = {} if token is None else {"next_batch": token}
        reply = await self.request("POST", f"{V3}/search", body, user, query=query, expect=expect)
        return reply.json["search_categories"]["room_events"] if expect == 200 else reply.json

    async def found(self, user: Session, term: str, **criteria: object) -> list[str]:
        return [one["result"]["event_id"] for one in (await self.search(user, term, **criteria))["results"]]

    async def edit(self, user: Session, room: str, event: str, body: str) -> str:
        content = {
            "msgtype": "m.text",
            "body": f"* {body}",
            "m.new_content": {"msgtype": "m.text", "body": body},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event},
        }
        return await self.send_event(user, room, "m.room.message", content)

    async def redact(self, user: Session, room: str, event: str) -> None:
        path = f"{V3}/rooms/{quote(room)}/redact/{quote(event)}/{self.runtime.token(8)}"
        await self.request("PUT", path, {}, user, expect=200)


class Messages(SearchCase):
    async def test_a_message_is_found_with_its_rank_and_highlights(self) -> None:
        room = await self.create_room(self.alice)
        event = await self.send(self.alice, room, "Martians and Men")
        await self.send(self.alice, room, "nothing else")
        found = await self.search(self.alice, "martian MEN")
        self.assertEqual([one["result"]["event_id"] for one in found["results"]], [event])
        self.assertEqual((found["count"], found["highlights"]), (1, ["martian", "men"]))
        self.assertEqual(found["results"][0]["result"]["content"]["body"], "Martians and Men")
        self.assertEqual(await self.found(self.alice, "venusians"), [])
        self.assertEqual(await self.found(self.alice, "!?"), [])

    async def test_the_newest_edit_is_what_is_found(self) -> None:
        room = await self.create_room(self.alice)
        event = await self.send(self.alice, room, "apple")
        self.assertEqual(await self.found(self.alice, "apple"), [event])
        edit = await self.edit(self.alice, room, event, "pear")
        self.assertEqual(await self.found(self.alice, "apple"), [])
        found = await self.search(self.alice, "pear")
        self.assertEqual([one["result"]["event_id"] for one in found["results"]], [event])
        self.assertEqual(found["results"][0]["result"]["unsigned"]["m.relations"]["m.replace"]["event_id"], edit)
        await self.redact(self.alice, room, edit)
        self.assertEqual(await self.found(self.alice, "apple"), [event])
        self.assertEqual(await self.found(self.alice, "pear"), [])

    async def test_what_is_redacted_is_not_found(self) -> None:
        for version in ("10", "12"):
            room = await self.create_room(self.alice, room_version=version)
            event = await self.send(self.alice, room, f"secret{version}")
            self.assertEqual(await self.found(self.alice, f"secret{version}"), [event])
            await self.redact(self.alice, room, event)
            self.assertEqual(await self.found(self.alice, f"secret{version}"), [])

    async def test_names_and_topics(self) -> None:
        room = await self.create_room(self.alice, name="whales", topic="whales swim")
        await self.send(self.alice, room, "whales sing")
        self.assertEqual(len(await self.found(self.alice, "whales")), 3)
        self.assertEqual(len(await self.found(self.alice, "whales", keys=["content.name"])), 1)
        self.assertEqual(len(await self.found(self.alice, "whales", keys=["content.topic", "content.body"])), 2)

    async def test_only_what_the_seeker_may_see(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.send(self.alice, room, "tea early")
        self.assertEqual(await self.found(self.bob, "tea"), [])
        await self.join(self.bob, room)
        together = await self.send(self.alice, room, "tea together")
        self.assertEqual(len(await self.found(self.bob, "tea")), 2)
        await self.act(self.bob, room, "leave")
        await self.send(self.alice, room, "tea alone")
        self.assertEqual((await self.found(self.bob, "tea", order_by="recent"))[0], together)
        self.assertEqual(len(await self.found(self.alice, "tea")), 3)
        await self.act(self.bob, room, "forget")
        self.assertEqual(await self.found(self.bob, "tea"), [])

    async def test_filters_order_and_pages(self) -> None:
        room, other = await self.create_room(self.alice), await self.create_room(self.alice)
        sent = [await self.send(self.alice, room, f"cake {n}") for n in range(5)]
        await self.send(self.alice, other, "cake elsewhere")
        chosen = {"rooms": [room], "limit": 2}
        pages, token = [], None
        while True:
            page = await self.search(self.alice, "cake", token=token, filter=chosen, order_by="recent")
            pages.append([one["result"]["event_id"] for one in page["results"]])
            token = page.get("next_batch")
            if token is None:
                break
        self.assertEqual(pages, [sent[:2:-1], sent[2:0:-1], sent[:1]])
        self.assertEqual(await self.found(self.alice, "cake", filter={"senders": [self.bob.user_id]}), [])
        self.assertEqual(len(await self.found(self.alice, "cake", filter={"not_rooms": [room]})), 1)

    async def test_a_full_page_has_a_token_even_if_it_leads_nowhere(self) -> None:
        room = await self.create_room(self.alice)
        await self.send(self.alice, room, "plum")
        full = await self.search(self.alice, "plum", filter={"limit": 1})
        empty = await self.search(self.alice, "plum", token=full["next_batch"], filter={"limit": 1})
        self.assertEqual((empty["results"], empty["count"]), ([], 1))
        self.assertNotIn("next_batch", empty)

    async def test_a_replaced_room_is_searched_with_its_successor(self) -> None:
        old = await self.create_room(self.alice)
        early = await self.send(self.alice, old, "fig early")
        path = f"{V3}/rooms/{quote(old)}/upgrade"
        new = (await self.request("POST", path, {"new_version": "11"}, self.alice, expect=200)).json["replacement_room"]
        late = await self.send(self.alice, new, "fig late")
        found = await self.found(self.alice, "fig", filter={"rooms": [new]}, order_by="recent")
        self.assertEqual(found, [late, early])
        self.assertEqual(await self.found(self.alice, "fig", filter={"rooms": [old]}), [early])

    async def test_groups(self) -> None:
        one, two = await self.create_room(self.alice), await self.create_room(self.alice)
        first, second = await self.send(self.alice, one, "cat"), await self.send(self.alice, two, "cat")
        keys = {"group_by": [{"key": "room_id"}, {"key": "sender"}]}
        groups = (await self.search(self.alice, "cat", groupings=keys, order_by="recent"))["groups"]
        self.assertEqual(groups["room_id"][one]["results"], [first])
        self.assertEqual(groups["sender"][self.alice.user_id]["results"], [second, first])
        third = await self.send(self.alice, two, "cat")
        page = await self.search(self.alice, "cat", groupings=keys, order_by="recent", filter={"limit": 1})
        token = page["groups"]["room_id"][two]["next_batch"]
        self.assertEqual(page["results"][0]["result"]["event_id"], third)
        inside = await self.search(self.alice, "cat", token=token, groupings=keys, order_by="recent")
        self.assertEqual([hit["result"]["event_id"] for hit in inside["results"]], [second])

    async def test_context_profiles_and_state(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, room)
        ids = [
            await self.send(self.bob if n == 2 else self.alice, room, "needle" if n == 2 else "hay") for n in range(5)
        ]
        wish = {"before_limit": 1, "after_limit": 1, "include_profile": True}
        found = await self.search(self.alice, "needle", event_context=wish, include_state=True)
        context = found["results"][0]["context"]
        self.assertEqual([event["event_id"] for event in context["events_before"]], [ids[1]])
        self.assertEqual([event["event_id"] for event in context["events_after"]], [ids[3]])
        self.assertEqual(set(context["profile_info"]), {self.alice.user_id, self.bob.user_id})
        self.assertIn("m.room.create", [event["type"] for event in found["state"][room]])
        path = f"{V3}/rooms/{quote(room)}/messages"
        query = {"dir": "b", "limit": 1, "from": context["start"]}
        page = (await self.request("GET", path, None, self.alice, query=query, expect=200)).json
        self.assertEqual(page["chunk"][0]["event_id"], ids[0])

    async def test_encrypted_rooms_and_other_events_are_not_searched(self) -> None:
        room = await self.create_room(self.alice)
        await self.send_event(self.alice, room, "m.room.encrypted", {"body": "hidden"})
        await self.send_event(self.alice, room, "org.note", {"body": "hidden"})
        self.assertEqual(await self.found(self.alice, "hidden"), [])

    async def test_the_index_follows_by_itself_and_survives_a_restart(self) -> None:
        room = await self.create_room(self.alice)
        event = await self.send(self.alice, room, "lasting")
        self.clock.advance(3)
        await self.settle(0.1)
        await self.restart_server()
        self.assertEqual(await self.found(self.alice, "lasting"), [event])

    async def test_bad_questions(self) -> None:
        for criteria in ({"keys": ["content.secret"]}, {"order_by": "luck"}, {"filter": {"limit": -1}}):
            self.assertEqual((await self.search(self.alice, "x", 400, **criteria))["errcode"], "M_BAD_JSON")
        await self.search(self.alice, "x", 400, token="nonsense")
        await self.request("POST", f"{V3}/search", {}, self.alice, expect=400)
        empty = await self.request("POST", f"{V3}/search", {"search_categories": {}}, self.alice, expect=200)
        self.assertEqual(empty.json, {"search_categories": {}})


class People(SearchCase):
    async def look(self, user: Session, term: str, expect: int = 200, **more: object) -> Any:
        body = {"search_term": term, **more}
        return (await self.request("POST", f"{V3}/user_directory/search", body, user, expect=expect)).json

    async def ids(self, user: Session, term: str) -> list[str]:
        return [one["user_id"] for one in (await self.look(user, term))["results"]]

    async def test_people_one_shares_a_room_with(self) -> None:
        name = f"{V3}/profile/{quote(self.bob.user_id)}/displayname"
        await self.request("PUT", name, {"displayname": "Robert Größe"}, self.bob, expect=200)
        carol = await self.register("carol")
        room = await self.create_room(self.alice, invite=[self.bob.user_id])
        await self.join(self.bob, room)
        found = await self.look(self.alice, "grosse")
        expected = {"user_id": self.bob.user_id, "display_name": "Robert Größe"}
        self.assertEqual(found, {"results": [expected], "limited": False})
        self.assertEqual(await self.ids(self.alice, "bob"), [self.bob.user_id])
        self.assertEqual(await self.ids(carol, "bob"), [])
        await self.act(self.bob, room, "leave")
        self.assertEqual(await self.ids(self.alice, "bob"), [])

    async def test_people_in_public_rooms(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        self.assertEqual(await self.ids(self.bob, "alice"), [self.alice.user_id])
        await self.put_state(self.alice, room, "m.room.join_rules", {"join_rule": "invite"})
        self.assertEqual(await self.ids(self.bob, "alice"), [])

    async def test_a_name_for_one_room_is_found_by_nobody(self) -> None:
        await self.create_room(self.alice, preset="public_chat")
        private = await self.create_room(self.alice)
        content = {"membership": "join", "displayname": "Freddie"}
        await self.put_state(self.alice, private, "m.room.member", content, self.alice.user_id)
        self.assertEqual(await self.ids(self.bob, "freddie"), [])
        self.assertEqual(await self.ids(self.bob, "alice"), [self.alice.user_id])

    async def test_no_more_than_asked_for(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        for number in range(3):
            await self.join(await self.register(f"fan{number}"), room)
        found = await self.look(self.alice, "fan", limit=2)
        self.assertEqual((len(found["results"]), found["limited"]), (2, True))
        self.assertEqual(await self.look(self.alice, "  "), {"results": [], "limited": False})
        await self.look(self.alice, "x", 400, limit="many")
        await self.request("POST", f"{V3}/user_directory/search", {}, self.alice, expect=400)


class Everybody(SearchCase):
    settings = "user_directory: {everybody: true}"

    async def test_people_in_no_room_are_found_by_their_newest_name(self) -> None:
        async def ids(term: str) -> list[str]:
            body = {"search_term": term}
            reply = await self.request("POST", f"{V3}/user_directory/search", body, self.alice, expect=200)
            return [one["user_id"] for one in reply.json["results"]]

        self.assertEqual(await ids("bob"), [self.bob.user_id])
        path = f"{V3}/profile/{quote(self.bob.user_id)}/displayname"
        await self.request("PUT", path, {"displayname": "Zebulon"}, self.bob, expect=200)
        self.assertEqual(await ids("zebu"), [self.bob.user_id])
        self.assertEqual(await ids("nobody"), [])
