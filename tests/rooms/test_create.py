# SPDX-License-Identifier: Apache-2.0
"""Creating rooms: every wish becomes state, in one commit, or nothing at all does."""

from typing import Any

from twisted.internet.defer import ensureDeferred, gatherResults

from storage import membership, names
from tests.harness.server import SERVER_NAME, HomeserverCase

PATH = "/_matrix/client/v3/createRoom"


class Creating(HomeserverCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def create(self, body: dict[str, Any]) -> Any:
        return await self.request("POST", PATH, body, token=self.alice.token)

    async def state(self, body: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
        """The contents of the state of a room made as asked."""
        reply = await self.create(body)
        self.assertEqual(reply.status, 200, reply.json)
        self.room_id = reply.json["room_id"]
        from homeserver.services.rooms.state import RoomState

        found = await RoomState(self.app.base.db).all_current(self.room_id)
        self.events = found
        return {key: event.content for key, event in found.items()}

    async def refused(self, body: dict[str, Any], status: int, errcode: str) -> None:
        before = await self.app.base.db.read(_rooms)
        reply = await self.create(body)
        self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), reply.json)
        self.assertEqual(await self.app.base.db.read(_rooms), before)

    async def test_a_plain_room_is_private_and_of_version_12(self) -> None:
        state = await self.state({})
        create = self.events[("m.room.create", "")]
        self.assertEqual(self.room_id, "!" + create.event_id[1:])
        self.assertEqual(state[("m.room.create", "")], {"room_version": "12"})
        self.assertEqual(state[("m.room.join_rules", "")], {"join_rule": "invite"})
        self.assertEqual(state[("m.room.history_visibility", "")], {"history_visibility": "shared"})
        self.assertEqual(state[("m.room.guest_access", "")], {"guest_access": "can_join"})
        levels = state[("m.room.power_levels", "")]
        self.assertEqual(levels["users"], {})
        self.assertGreater(levels["events"]["m.room.tombstone"], levels["state_default"])
        self.assertEqual(state[("m.room.member", self.alice.user_id)]["membership"], "join")

    async def test_every_version_can_be_made(self) -> None:
        for version in map(str, range(1, 13)):
            state = await self.state({"room_version": version, "name": "v"})
            create = state[("m.room.create", "")]
            self.assertEqual(create["room_version"], version)
            self.assertEqual(create.get("creator"), self.alice.user_id if int(version) <= 10 else None)
            if int(version) < 12:
                self.assertEqual(state[("m.room.power_levels", "")]["users"], {self.alice.user_id: 100})
                self.assertTrue(self.room_id.endswith(f":{SERVER_NAME}"))

    async def test_a_public_room_is_open_and_listed(self) -> None:
        state = await self.state({"visibility": "public"})
        self.assertEqual(state[("m.room.join_rules", "")], {"join_rule": "public"})
        self.assertEqual(state[("m.room.guest_access", "")], {"guest_access": "forbidden"})

        def listed(txn: Any) -> Any:
            return txn.one("SELECT count(*) FROM published")

        self.assertEqual(await self.app.base.db.read(listed), (1,))

    async def test_everything_else_that_can_be_wished(self) -> None:
        state = await self.state(
            {
                "name": "Name",
                "topic": "Topic",
                "room_alias_name": "nice",
                "preset": "public_chat",
                "creation_content": {"m.federate": False, "type": "m.space", "room_version": "1", "creator": "@x:y"},
                "initial_state": [
                    {"type": "m.room.name", "content": {"name": "overridden"}},
                    {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}},
                    {"type": "org.example", "state_key": "key", "content": {"a": [1, {"b": None}]}},
                ],
                "power_level_content_override": {"invite": 77},
            }
        )
        self.assertEqual(state[("m.room.name", "")], {"name": "Name"})
        topic = state[("m.room.topic", "")]
        self.assertEqual((topic["topic"], topic["m.topic"]["m.text"][0]["body"]), ("Topic", "Topic"))
        self.assertEqual(state[("m.room.canonical_alias", "")], {"alias": f"#nice:{SERVER_NAME}"})
        create = {"room_version": "12", "m.federate": False, "type": "m.space"}
        self.assertEqual(state[("m.room.create", "")], create)
        self.assertEqual(state[("m.room.join_rules", "")], {"join_rule": "knock"})
        self.assertEqual(state[("org.example", "key")], {"a": [1, {"b": None}]})
        self.assertEqual(state[("m.room.power_levels", "")]["invite"], 77)

    async def test_invites_are_in_the_same_commit_with_what_they_show(self) -> None:
        batches = self.app.base.db.batches
        state = await self.state({"invite": [self.bob.user_id], "is_direct": True, "name": "Us"})
        self.assertEqual(self.app.base.db.batches, batches + 1)
        member = state[("m.room.member", self.bob.user_id)]
        self.assertEqual((member["membership"], member["is_direct"]), ("invite", True))

        def invited(txn: Any) -> Any:
            usr, room = names.user_nid(txn, self.bob.user_id), names.room_nid(txn, self.room_id)
            assert usr is not None and room is not None
            return membership.of(txn, usr, room), membership.stripped(txn, usr, room)

        row, stripped = await self.app.base.db.read(invited)
        self.assertEqual(row.kind, membership.INVITE)
        self.assertIn(b'"m.room.create"', stripped)
        self.assertIn(b'"Us"', stripped)

    async def test_trusted_private_chat_makes_equals(self) -> None:
        body = {"preset": "trusted_private_chat", "invite": [self.bob.user_id]}
        state = await self.state({**body, "creation_content": {"additional_creators": [f"@carol:{SERVER_NAME}"]}})
        creators = state[("m.room.create", "")]["additional_creators"]
        self.assertEqual(creators, [f"@carol:{SERVER_NAME}", self.bob.user_id])
        state = await self.state({**body, "room_version": "11"})
        self.assertEqual(state[("m.room.power_levels", "")]["users"][self.bob.user_id], 100)

    async def test_what_cannot_be_is_refused_and_changes_nothing(self) -> None:
        await self.refused({"room_version": "13"}, 400, "M_UNSUPPORTED_ROOM_VERSION")
        await self.refused({"preset": "x"}, 400, "M_BAD_JSON")
        await self.refused({"invite": ["bob"]}, 400, "M_INVALID_PARAM")
        await self.refused({"initial_state": [{"content": {}}]}, 400, "M_BAD_JSON")
        await self.refused({"name": 1}, 400, "M_BAD_JSON")
        await self.refused({"creation_content": {"x": 1.5}}, 400, "M_BAD_JSON")
        await self.refused({"room_alias_name": "a:b"}, 400, "M_INVALID_PARAM")
        await self.refused(
            {"power_level_content_override": {"users": {self.alice.user_id: 100}}}, 400, "M_INVALID_ROOM_STATE"
        )
        too_low = {
            "power_level_content_override": {"users": {self.alice.user_id: 0}},
            "name": "N",
            "room_version": "11",
        }
        await self.refused(too_low, 400, "M_INVALID_ROOM_STATE")
        await self.refused({"creation_content": {"additional_creators": ["x"]}}, 400, "M_INVALID_ROOM_STATE")
        await self.refused({"invite_3pid": [{"medium": "email", "address": "a@b.c"}]}, 403, "M_FORBIDDEN")
        await self.refused({"name": "x" * 70_000}, 413, "M_TOO_LARGE")

    async def test_a_taken_alias_is_refused(self) -> None:
        await self.state({"room_alias_name": "mine"})
        await self.refused({"room_alias_name": "mine"}, 400, "M_ROOM_IN_USE")

    async def test_two_who_want_one_alias_at_once_get_one_room(self) -> None:
        replies = await gatherResults([ensureDeferred(self.create({"room_alias_name": "race"})) for _ in range(4)])
        self.assertEqual(sorted(reply.status for reply in replies), [200, 400, 400, 400])

    async def test_equal_rooms_made_in_one_millisecond_are_two(self) -> None:
        replies = await gatherResults([ensureDeferred(self.create({})) for _ in range(5)])
        self.assertEqual(len({reply.json.get("room_id") for reply in replies}), 5)


def _rooms(txn: Any) -> Any:
    return txn.one("SELECT count(*), (SELECT count(*) FROM event) FROM room")
