# SPDX-License-Identifier: Apache-2.0
"""Finding rooms: aliases, the published list, summaries, the hierarchy of spaces."""

from typing import Any
from urllib.parse import quote

from homeserver.protocol.errors import MatrixError
from homeserver.services.rooms.aliases import ResolvedAlias
from homeserver.services.rooms.hierarchy import Hierarchy, Walk
from homeserver.services.rooms.summary import RoomFacts, Summaries
from homeserver.services.sessions import Sessions
from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase

ALIAS = "#cave:parley.test"


def alias_path(alias: str) -> str:
    return f"{V3}/directory/room/{quote(alias, safe='')}"


class Aliases(RoomCase):
    async def test_an_alias_is_made_resolved_listed_and_deleted(self) -> None:
        room = await self.create_room(self.alice)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.alice, expect=200)
        found = await self.request("GET", alias_path(ALIAS), expect=200)
        self.assertEqual(found.json, {"room_id": room, "servers": ["parley.test"]})
        listed = await self.request("GET", f"{V3}/rooms/{quote(room)}/aliases", None, self.alice, expect=200)
        self.assertEqual(listed.json, {"aliases": [ALIAS]})
        await self.request("DELETE", alias_path(ALIAS), None, self.alice, expect=200)
        gone = await self.request("GET", alias_path(ALIAS), expect=404)
        self.assertEqual(gone.json["errcode"], "M_NOT_FOUND")
        await self.request("DELETE", alias_path(ALIAS), None, self.alice, expect=404)

    async def test_an_alias_is_taken_once(self) -> None:
        room = await self.create_room(self.alice)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.alice, expect=200)
        taken = await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.alice, expect=409)
        self.assertEqual(taken.json["errcode"], "M_UNKNOWN")

    async def test_what_is_no_alias_of_this_server_is_refused(self) -> None:
        room = await self.create_room(self.alice)
        for alias in ("cave", "#cave", "#cave:elsewhere.test", "#" + "x" * 300 + ":parley.test"):
            reply = await self.request("PUT", alias_path(alias), {"room_id": room}, self.alice, expect=400)
            self.assertEqual(reply.json["errcode"], "M_INVALID_PARAM", alias)
        await self.request("PUT", alias_path(ALIAS), {"room_id": "nonsense"}, self.alice, expect=400)
        await self.request("PUT", alias_path(ALIAS), {}, self.alice, expect=400)
        await self.request("GET", alias_path("cave"), expect=400)

    async def test_strangers_make_and_delete_no_aliases(self) -> None:
        room = await self.create_room(self.alice)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.bob, expect=403)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.alice, expect=200)
        await self.request("DELETE", alias_path(ALIAS), None, self.bob, expect=403)
        await self.request("GET", f"{V3}/rooms/{quote(room)}/aliases", None, self.bob, expect=403)
        await self.request("GET", alias_path(ALIAS), expect=200)

    async def test_moderators_delete_the_aliases_of_others(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, room)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.bob, expect=200)
        await self.request("DELETE", alias_path(ALIAS), None, self.alice, expect=200)

    async def test_a_canonical_alias_leads_to_its_room(self) -> None:
        room, other = await self.create_room(self.alice), await self.create_room(self.alice)
        await self.request("PUT", alias_path(ALIAS), {"room_id": room}, self.alice, expect=200)
        kind = "m.room.canonical_alias"
        await self.put_state(self.alice, room, kind, {"alias": ALIAS, "alt_aliases": [ALIAS]})
        wrong = await self.put_state(self.alice, other, kind, {"alias": ALIAS}, expect=400)
        self.assertEqual(wrong.json["errcode"], "M_BAD_ALIAS")
        missing = await self.put_state(self.alice, room, kind, {"alt_aliases": ["#no:parley.test"]}, expect=400)
        self.assertEqual(missing.json["errcode"], "M_BAD_ALIAS")
        malformed = await self.put_state(self.alice, room, kind, {"alias": "cave"}, expect=400)
        self.assertEqual(malformed.json["errcode"], "M_INVALID_PARAM")

    async def test_a_deleted_alias_leaves_the_canonical_ones(self) -> None:
        room = await self.create_room(self.alice, room_alias_name="cave")
        await self.put_state(self.alice, room, "m.room.canonical_alias", {"alias": ALIAS, "alt_aliases": [ALIAS]})
        await self.request("DELETE", alias_path(ALIAS), None, self.alice, expect=200)
        path = f"{V3}/rooms/{quote(room)}/state/m.room.canonical_alias"
        self.assertEqual((await self.request("GET", path, None, self.alice)).json, {"alt_aliases": []})


class Published(RoomCase):
    async def listing(self, **body: object) -> Any:
        return (await self.request("POST", f"{V3}/publicRooms", body, self.bob, expect=200)).json

    async def test_listing_a_room_and_taking_it_off(self) -> None:
        room = await self.create_room(self.alice, name="Cave", topic="dark", preset="public_chat")
        path = f"{V3}/directory/list/room/{quote(room)}"
        self.assertEqual((await self.request("GET", path)).json, {"visibility": "private"})
        await self.request("PUT", path, {"visibility": "public"}, self.alice, expect=200)
        self.assertEqual((await self.request("GET", path)).json, {"visibility": "public"})
        page = (await self.request("GET", f"{V3}/publicRooms", expect=200)).json
        expected = {
            "room_id": room,
            "name": "Cave",
            "topic": "dark",
            "num_joined_members": 1,
            "join_rule": "public",
            "guest_can_join": False,
            "world_readable": False,
        }
        self.assertEqual(page, {"chunk": [expected], "total_room_count_estimate": 1})
        await self.request("PUT", path, {"visibility": "private"}, self.alice, expect=200)
        self.assertEqual((await self.listing())["chunk"], [])

    async def test_who_may_not_list_a_room(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        path = f"{V3}/directory/list/room/{quote(room)}"
        await self.request("PUT", path, {"visibility": "public"}, self.bob, expect=403)
        await self.join(self.bob, room)
        await self.request("PUT", path, {"visibility": "public"}, self.bob, expect=403)
        await self.request("PUT", path, {"visibility": "secret"}, self.alice, expect=400)
        unknown = f"{V3}/directory/list/room/{quote('!none:parley.test')}"
        await self.request("GET", unknown, expect=404)
        await self.request("PUT", unknown, {}, self.alice, expect=404)
        self.assertEqual((await self.listing())["chunk"], [])

    async def test_search_types_and_pages(self) -> None:
        rooms = [await self.create_room(self.alice, visibility="public", name=f"Room {n}") for n in range(5)]
        space = await self.create_room(
            self.alice, visibility="public", name="Überraum", creation_content={"type": "m.space"}
        )
        await self.join(self.bob, rooms[3])
        everything = await self.listing()
        self.assertEqual(everything["chunk"][0]["room_id"], rooms[3])
        self.assertEqual(everything["total_room_count_estimate"], 6)
        found = await self.listing(filter={"generic_search_term": "uberRAUM"})
        self.assertEqual([one["room_id"] for one in found["chunk"]], [space])
        typed = await self.listing(filter={"room_types": ["m.space"]})
        self.assertEqual([one["room_id"] for one in typed["chunk"]], [space])
        untyped = await self.listing(filter={"room_types": [None]})
        self.assertEqual(len(untyped["chunk"]), 5)
        first = await self.listing(limit=4)
        second = await self.listing(limit=4, since=first["next_batch"])
        self.assertNotIn("next_batch", second)
        ids = [one["room_id"] for one in first["chunk"] + second["chunk"]]
        self.assertEqual(sorted(ids), sorted([*rooms, space]))
        back = await self.listing(limit=4, since=second["prev_batch"])
        self.assertEqual(back["chunk"], first["chunk"])

    async def test_a_changed_name_shows(self) -> None:
        room = await self.create_room(self.alice, visibility="public", name="old")
        await self.listing()
        await self.put_state(self.alice, room, "m.room.name", {"name": "new"})
        self.assertEqual((await self.listing())["chunk"][0]["name"], "new")

    async def test_bad_questions(self) -> None:
        await self.request("POST", f"{V3}/publicRooms", {"since": "nonsense"}, self.bob, expect=400)
        await self.request("POST", f"{V3}/publicRooms", {"filter": {"room_types": [1]}}, self.bob, expect=400)
        await self.request("POST", f"{V3}/publicRooms", {"limit": "x"}, self.bob, expect=400)
        await self.request("GET", f"{V3}/publicRooms", query={"server": "elsewhere.test"}, expect=404)


class SummaryOfRooms(RoomCase):
    async def summary(self, room: str, user: Session | None, expect: int = 200) -> Any:
        path = f"/_matrix/client/v1/room_summary/{quote(room, safe='')}"
        return (await self.request("GET", path, None, user, expect=expect)).json

    async def test_a_public_room_by_alias_without_an_account(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat", room_alias_name="cave", name="Cave")
        found = await self.summary(ALIAS, None)
        self.assertEqual((found["room_id"], found["name"], found["room_version"]), (room, "Cave", "12"))
        self.assertNotIn("membership", found)
        self.assertEqual((await self.summary(room, self.alice))["membership"], "join")

    async def test_both_older_names(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        for path in (f"summary/{quote(room)}", f"rooms/{quote(room)}/summary"):
            reply = await self.request("GET", f"/_matrix/client/unstable/im.nheko.summary/{path}", None, self.bob)
            self.assertEqual((reply.status, reply.json["room_id"]), (200, room))

    async def test_private_rooms_are_not_found_by_strangers(self) -> None:
        room = await self.create_room(self.alice)
        self.assertEqual((await self.summary(room, self.bob, 404))["errcode"], "M_NOT_FOUND")
        await self.summary(room, None, 404)
        await self.summary("!none:parley.test", self.bob, 404)
        await self.summary("nonsense", self.bob, 400)
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        self.assertEqual((await self.summary(room, self.bob))["membership"], "invite")

    async def test_a_restricted_room_for_those_who_may_join_it(self) -> None:
        space = await self.create_room(self.alice, preset="public_chat")
        rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]}
        rules = {"type": "m.room.join_rules", "state_key": "", "content": rule}
        room = await self.create_room(self.alice, initial_state=[rules])
        await self.summary(room, self.bob, 404)
        await self.join(self.bob, space)
        self.assertEqual((await self.summary(room, self.bob))["allowed_room_ids"], [space])


class Hierarchies(RoomCase):
    async def child(self, parent: str, child: str, **content: object) -> None:
        await self.put_state(self.alice, parent, "m.space.child", {"via": ["parley.test"], **content}, child)

    async def space(self, **body: object) -> str:
        return await self.create_room(self.alice, preset="public_chat", creation_content={"type": "m.space"}, **body)

    async def walk(self, user: Session, room: str, expect: int = 200, **query: object) -> Any:
        path = f"/_matrix/client/v1/rooms/{quote(room)}/hierarchy"
        return (await self.request("GET", path, None, user, query=query, expect=expect)).json

    async def ids(self, user: Session, room: str, **query: object) -> list[str]:
        return [one["room_id"] for one in (await self.walk(user, room, **query))["rooms"]]

    async def test_depth_first_in_the_order_of_the_children(self) -> None:
        root, sub = await self.space(), await self.space()
        first, second, deep, secret = [await self.create_room(self.alice, preset="public_chat") for _ in range(3)] + [
            await self.create_room(self.alice)
        ]
        await self.child(root, second, order="c")
        await self.child(root, sub, order="b")
        await self.child(root, first)
        await self.child(root, secret, order="a")
        await self.child(sub, deep)
        await self.child(sub, root)
        await self.put_state(self.alice, root, "m.space.child", {}, "!removed:parley.test")
        self.assertEqual(await self.ids(self.bob, root), [root, sub, deep, second, first])
        self.assertEqual(await self.ids(self.alice, root), [root, secret, sub, deep, second, first])
        self.assertEqual(await self.ids(self.bob, root, max_depth=1), [root, sub, second, first])
        self.assertEqual(await self.ids(self.bob, root, max_depth=0), [root])
        shown = (await self.walk(self.bob, root))["rooms"][0]
        self.assertEqual(shown["room_type"], "m.space")
        self.assertEqual(len(shown["children_state"]), 4)

    async def test_only_what_is_suggested(self) -> None:
        root = await self.space()
        one, other = [await self.create_room(self.alice, preset="public_chat") for _ in range(2)]
        await self.child(root, one, suggested=True)
        await self.child(root, other)
        self.assertEqual(await self.ids(self.bob, root, suggested_only="true"), [root, one])

    async def test_pages(self) -> None:
        root = await self.space()
        for _ in range(4):
            await self.child(root, await self.create_room(self.alice, preset="public_chat"))
        first = await self.walk(self.bob, root, limit=3)
        second = await self.walk(self.bob, root, limit=3, **{"from": first["next_batch"]})
        self.assertNotIn("next_batch", second)
        both = [one["room_id"] for one in first["rooms"] + second["rooms"]]
        self.assertEqual(both, await self.ids(self.bob, root))
        for query in ({"max_depth": 3}, {"suggested_only": "true"}):
            bad = await self.walk(self.bob, root, 400, **{"from": first["next_batch"]}, **query)
            self.assertEqual(bad["errcode"], "M_INVALID_PARAM")
        await self.walk(self.bob, root, 400, **{"from": "nonsense"})
        await self.walk(self.bob, root, 400, limit=0)

    async def test_rooms_that_cannot_be_seen(self) -> None:
        private = await self.create_room(self.alice)
        self.assertEqual((await self.walk(self.bob, private, 403))["errcode"], "M_FORBIDDEN")
        await self.walk(self.bob, "!none:parley.test", 403)


class OtherServers(RoomCase):
    """A space whose child is elsewhere, and what a server is shown that asks."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.told: dict[str, Any] = {}
        db = self.app.base.db
        self.hierarchy = Hierarchy(db, RoomFacts(db), self)
        self.summaries = Summaries(db, RoomFacts(db), self, self)
        self.space = await self.create_room(self.alice, preset="public_chat", creation_content={"type": "m.space"})

    async def room(self, room_id: str, via: tuple[str, ...], suggested_only: bool) -> dict[str, Any] | None:
        """The port: what other servers tell."""
        return self.told.get(room_id)

    async def resolve(self, alias: str) -> ResolvedAlias:
        return ResolvedAlias("!far:elsewhere.test", ("elsewhere.test",))

    def chunk(self, room_id: str, **more: object) -> dict[str, Any]:
        known = {"room_id": room_id, "num_joined_members": 3, "world_readable": False, "guest_can_join": False}
        return {**known, "children_state": [], "join_rule": "public", "name": "Far", **more}

    async def walk(self, session: Session) -> list[Any]:
        sessions = Sessions(self.app.base.db, self.runtime)
        user = await sessions.by_token(session.token)
        page = await self.hierarchy.page(user, Walk(self.space, False, None), 50, None)
        return [one["room_id"] for one in page["rooms"]]

    async def test_rooms_of_other_servers_are_part_of_the_tree(self) -> None:
        far, deep, secret = "!far:elsewhere.test", "!deep:elsewhere.test", "!secret:elsewhere.test"
        for child in (far, secret):
            await self.put_state(self.alice, self.space, "m.space.child", {"via": ["elsewhere.test"]}, child)
        link = {"type": "m.space.child", "state_key": deep, "sender": "@x:elsewhere.test", "origin_server_ts": 1}
        children = [{**link, "content": {"via": ["elsewhere.test"]}}, {**link, "content": {}}, "nonsense"]
        self.told = {
            far: self.chunk(far, room_type="m.space", children_state=children),
            deep: self.chunk(deep),
            secret: self.chunk(secret, join_rule="invite"),
        }
        self.assertEqual(await self.walk(self.bob), [self.space, far, deep])
        self.told = {}
        self.assertEqual(await self.walk(self.bob), [self.space])

    async def test_the_summary_of_a_room_elsewhere(self) -> None:
        far = "!far:elsewhere.test"
        self.told = {far: self.chunk(far, room_version="9")}
        found = await self.summaries.of(None, "#far:elsewhere.test", [])
        self.assertEqual((found["room_id"], found["name"], found["room_version"]), (far, "Far", "9"))
        self.told = {far: self.chunk(far, join_rule="invite")}
        with self.assertRaises(MatrixError):
            await self.summaries.of(None, far, [])

    async def test_what_a_server_is_shown(self) -> None:
        seen, hidden = await self.create_room(self.alice, preset="public_chat"), await self.create_room(self.alice)
        for child in (seen, hidden, "!unknown:elsewhere.test"):
            await self.put_state(self.alice, self.space, "m.space.child", {"via": ["parley.test"]}, child)
        shown = await self.hierarchy.for_server("elsewhere.test", self.space, False)
        assert shown is not None
        self.assertEqual(shown["room"]["room_id"], self.space)
        self.assertEqual(len(shown["room"]["children_state"]), 3)
        self.assertEqual([one["room_id"] for one in shown["children"]], [seen])
        self.assertEqual(shown["inaccessible_children"], [hidden])
        self.assertIsNone(await self.hierarchy.for_server("elsewhere.test", hidden, False))
        self.assertIsNotNone(await self.hierarchy.for_server("parley.test", hidden, False))
