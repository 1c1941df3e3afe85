# SPDX-License-Identifier: Apache-2.0
"""Events that relate to others: pages of them, threads of a room."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase


class RelationCase(RoomCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, self.room)

    async def relate(self, user: Session, kind: str, parent: str, body: str = "x", type: str = "m.room.message") -> str:
        content: dict[str, Any] = {"msgtype": "m.text", "body": body}
        content["m.relates_to"] = {"rel_type": kind, "event_id": parent}
        if kind == "m.annotation":
            content = {"m.relates_to": {"rel_type": kind, "event_id": parent, "key": body}}
        if kind == "m.replace":
            content["m.new_content"] = {"msgtype": "m.text", "body": body}
        return await self.send_event(user, self.room, type, content)

    async def relations(self, user: Session, parent: str, rest: str = "", expect: int = 200, **query: object) -> Any:
        path = f"/_matrix/client/v1/rooms/{quote(self.room)}/relations/{quote(parent)}{rest}"
        return (await self.request("GET", path, None, user, query=query, expect=expect)).json

    async def ids(self, user: Session, parent: str, rest: str = "", **query: object) -> list[str]:
        return [event["event_id"] for event in (await self.relations(user, parent, rest, **query))["chunk"]]

    async def redact(self, user: Session, event: str) -> None:
        path = f"{V3}/rooms/{quote(self.room)}/redact/{quote(event)}/{self.runtime.token(8)}"
        await self.request("PUT", path, {}, user, expect=200)


class Relating(RelationCase):
    async def test_the_three_forms(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        reply = await self.relate(self.bob, "m.thread", parent)
        heart = await self.relate(self.bob, "m.annotation", parent, "❤", "m.reaction")
        own = await self.relate(self.bob, "org.example.kind", parent)
        other = await self.relate(self.bob, "org.example.other", parent)
        self.assertEqual(await self.ids(self.alice, parent), [other, own, heart, reply])
        self.assertEqual(await self.ids(self.alice, parent, dir="f"), [reply, heart, own, other])
        self.assertEqual(await self.ids(self.alice, parent, "/m.thread"), [reply])
        self.assertEqual(await self.ids(self.alice, parent, "/org.example.kind"), [own])
        self.assertEqual(await self.ids(self.alice, parent, "/m.annotation/m.reaction"), [heart])
        self.assertEqual(await self.ids(self.alice, parent, "/m.annotation/m.room.message"), [])

    async def test_pages(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        sent = [await self.relate(self.bob, "m.reference", parent, str(n)) for n in range(5)]
        first = await self.relations(self.alice, parent, limit=3)
        self.assertNotIn("prev_batch", first)
        second = await self.relations(self.alice, parent, limit=3, **{"from": first["next_batch"]})
        self.assertNotIn("next_batch", second)
        self.assertEqual([e["event_id"] for e in first["chunk"] + second["chunk"]], sent[::-1])
        forward = await self.relations(self.alice, parent, dir="f", limit=2)
        rest = await self.relations(self.alice, parent, dir="f", **{"from": forward["next_batch"]})
        self.assertEqual([e["event_id"] for e in forward["chunk"] + rest["chunk"]], sent)
        until = await self.ids(self.alice, parent, to=first["next_batch"])
        self.assertEqual(until, sent[:1:-1])

    async def test_further_relations_are_followed(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        child = await self.relate(self.alice, "m.thread", parent)
        grandchild = await self.relate(self.alice, "m.annotation", child, "+1", "m.reaction")
        self.assertEqual(await self.ids(self.alice, parent), [child])
        page = await self.relations(self.alice, parent, recurse="true")
        self.assertEqual([e["event_id"] for e in page["chunk"]], [grandchild, child])
        self.assertGreaterEqual(page["recursion_depth"], 2)
        self.assertNotIn("recursion_depth", await self.relations(self.alice, parent))
        self.assertEqual(await self.ids(self.alice, parent, "/m.annotation", recurse="true"), [grandchild])

    async def test_redacted_relations_are_gone(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        child = await self.relate(self.bob, "m.annotation", parent, "+1", "m.reaction")
        await self.redact(self.bob, child)
        self.assertEqual(await self.ids(self.alice, parent), [])

    async def test_an_edit_of_a_child_comes_bundled(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        child = await self.relate(self.bob, "m.thread", parent, "old")
        edit = await self.relate(self.bob, "m.replace", child, "new")
        event = (await self.relations(self.alice, parent, "/m.thread"))["chunk"][0]
        self.assertEqual(event["event_id"], child)
        self.assertEqual(event["unsigned"]["m.relations"]["m.replace"]["event_id"], edit)

    async def test_parents_that_cannot_be_seen(self) -> None:
        carol = await self.register("carol")
        parent = await self.send(self.alice, self.room, "p")
        await self.relations(carol, parent, expect=403)
        self.assertEqual((await self.relations(self.alice, "$none", expect=404))["errcode"], "M_NOT_FOUND")
        for query in ({"dir": "x"}, {"from": "nonsense"}, {"limit": 0}, {"recurse": "maybe"}):
            await self.relations(self.alice, parent, expect=400, **query)

    async def test_who_left_sees_no_later_relations(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        early = await self.relate(self.alice, "m.thread", parent)
        await self.act(self.bob, self.room, "leave")
        await self.relate(self.alice, "m.thread", parent)
        self.assertEqual(await self.ids(self.bob, parent), [early])
        path = f"{V3}/rooms/{quote(self.room)}/event/{quote(parent)}"
        event = (await self.request("GET", path, None, self.bob, expect=200)).json
        thread = event["unsigned"]["m.relations"]["m.thread"]
        self.assertEqual((thread["count"], thread["latest_event"]["event_id"]), (1, early))


class RedactingRelations(RelationCase):
    async def take(self, user: Session, event: str, expect: int = 200, **body: object) -> None:
        path = f"{V3}/rooms/{quote(self.room)}/redact/{quote(event)}/{self.runtime.token(8)}"
        await self.request("PUT", path, body, user, expect=expect)
        await self.settle(0.1)

    async def is_redacted(self, event: str) -> bool:
        path = f"{V3}/rooms/{quote(self.room)}/event/{quote(event)}"
        return (await self.request("GET", path, None, self.alice, expect=200)).json["content"] == {}

    async def test_what_relates_goes_with_the_event(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        thread = await self.relate(self.bob, "m.thread", parent)
        reference = await self.relate(self.bob, "m.reference", parent)
        await self.take(self.alice, parent, reason="old", **{"org.matrix.msc3912.with_relations": ["m.thread"]})
        self.assertEqual([await self.is_redacted(one) for one in (parent, thread, reference)], [True, True, False])
        await self.take(self.alice, parent, with_rel_types=["*"])
        self.assertTrue(await self.is_redacted(reference))

    async def test_only_what_the_sender_may_redact(self) -> None:
        parent = await self.send(self.bob, self.room, "p")
        own, other = await self.relate(self.bob, "m.thread", parent), await self.relate(self.alice, "m.thread", parent)
        await self.take(self.bob, parent, with_rel_types=["m.thread"])
        self.assertEqual([await self.is_redacted(one) for one in (parent, own, other)], [True, True, False])

    async def test_relation_types_that_are_none(self) -> None:
        parent = await self.send(self.alice, self.room, "p")
        await self.take(self.alice, parent, 400, with_rel_types="m.thread")
        self.assertFalse(await self.is_redacted(parent))


class ThreadsOfARoom(RelationCase):
    async def threads(self, user: Session, expect: int = 200, **query: object) -> Any:
        path = f"/_matrix/client/v1/rooms/{quote(self.room)}/threads"
        return (await self.request("GET", path, None, user, query=query, expect=expect)).json

    async def roots(self, user: Session, **query: object) -> list[str]:
        return [event["event_id"] for event in (await self.threads(user, **query))["chunk"]]

    async def test_the_thread_spoken_in_last_comes_first(self) -> None:
        one, two = [await self.send(self.alice, self.room, text) for text in ("1", "2")]
        await self.relate(self.alice, "m.thread", two)
        await self.relate(self.alice, "m.thread", one)
        self.assertEqual(await self.roots(self.bob), [one, two])
        await self.relate(self.alice, "m.thread", two)
        self.assertEqual(await self.roots(self.bob), [two, one])

    async def test_threads_that_somebody_took_part_in(self) -> None:
        one, two = await self.send(self.alice, self.room, "1"), await self.send(self.bob, self.room, "2")
        three = await self.send(self.alice, self.room, "3")
        await self.relate(self.alice, "m.thread", one)
        await self.relate(self.alice, "m.thread", two)
        await self.relate(self.bob, "m.thread", three)
        self.assertEqual(await self.roots(self.bob, include="participated"), [three, two])
        self.assertEqual(len(await self.roots(self.bob, include="all")), 3)

    async def test_pages(self) -> None:
        roots = []
        for number in range(4):
            root = await self.send(self.alice, self.room, str(number))
            await self.relate(self.alice, "m.thread", root)
            roots.append(root)
        first = await self.threads(self.alice, limit=3)
        second = await self.threads(self.alice, limit=3, **{"from": first["next_batch"]})
        self.assertNotIn("next_batch", second)
        self.assertEqual([e["event_id"] for e in first["chunk"] + second["chunk"]], roots[::-1])

    async def test_what_ignored_people_start_and_say(self) -> None:
        root, theirs = await self.send(self.alice, self.room, "1"), await self.send(self.bob, self.room, "2")
        own = await self.relate(self.alice, "m.thread", root)
        await self.relate(self.bob, "m.thread", root)
        await self.relate(self.alice, "m.thread", theirs)
        path = f"{V3}/user/{quote(self.alice.user_id)}/account_data/m.ignored_user_list"
        await self.request("PUT", path, {"ignored_users": {self.bob.user_id: {}}}, self.alice, expect=200)
        chunk = {event["event_id"]: event for event in (await self.threads(self.alice))["chunk"]}
        self.assertEqual(chunk[theirs]["content"], {})
        thread = chunk[root]["unsigned"]["m.relations"]["m.thread"]
        self.assertEqual((thread["count"], thread["latest_event"]["event_id"]), (1, own))

    async def test_bad_questions(self) -> None:
        carol = await self.register("carol")
        await self.threads(carol, 403)
        for query in ({"include": "some"}, {"limit": 0}, {"from": "nonsense"}):
            self.assertEqual((await self.threads(self.alice, 400, **query))["errcode"], "M_INVALID_PARAM")
