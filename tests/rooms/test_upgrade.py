# SPDX-License-Identifier: Apache-2.0
"""Replacing a room by one of another version."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase


class Upgrading(RoomCase):
    async def upgrade(self, user: Session, room: str, version: str = "12", expect: int = 200, **more: object) -> Any:
        body = {"new_version": version, **more}
        return (await self.request("POST", f"{V3}/rooms/{quote(room)}/upgrade", body, user, expect=expect)).json

    async def state(self, user: Session, room: str) -> dict[tuple[str, str], Any]:
        found = (await self.request("GET", f"{V3}/rooms/{quote(room)}/state", None, user, expect=200)).json
        return {(event["type"], event["state_key"]): event["content"] for event in found}

    async def test_what_moves(self) -> None:
        old = await self.create_room(
            self.alice,
            room_version="9",
            name="Cave",
            topic="dark",
            preset="public_chat",
            room_alias_name="cave",
            visibility="public",
            creation_content={"type": "org.kind"},
        )
        await self.act(self.alice, old, "ban", {"user_id": "@troll:parley.test", "reason": "loud"})
        await self.request(
            "PUT", f"{V3}/user/{quote(self.alice.user_id)}/rooms/{quote(old)}/tags/u.work", {}, self.alice
        )
        new = (await self.upgrade(self.alice, old))["replacement_room"]
        before, after = await self.state(self.alice, old), await self.state(self.alice, new)
        self.assertEqual(before["m.room.tombstone", ""]["replacement_room"], new)
        self.assertEqual(after["m.room.create", ""]["predecessor"], {"room_id": old})
        self.assertEqual(after["m.room.create", ""]["type"], "org.kind")
        for kind in ("m.room.name", "m.room.topic", "m.room.join_rules", "m.room.history_visibility"):
            self.assertEqual(after[kind, ""], before[kind, ""], kind)
        self.assertEqual(after["m.room.member", "@troll:parley.test"], {"membership": "ban", "reason": "loud"})
        self.assertEqual(after["m.room.canonical_alias", ""], {"alias": "#cave:parley.test"})
        self.assertEqual(before["m.room.canonical_alias", ""], {})
        self.assertNotIn(self.alice.user_id, after["m.room.power_levels", ""]["users"])
        self.assertEqual(before["m.room.power_levels", ""]["events_default"], 50)
        found = await self.request("GET", f"{V3}/directory/room/{quote('#cave:parley.test')}")
        self.assertEqual(found.json["room_id"], new)
        listed = (await self.request("GET", f"{V3}/publicRooms")).json["chunk"]
        self.assertEqual([one["room_id"] for one in listed], [new])
        tags = f"{V3}/user/{quote(self.alice.user_id)}/rooms/{quote(new)}/tags"
        self.assertEqual((await self.request("GET", tags, None, self.alice)).json, {"tags": {"u.work": {}}})

    async def test_to_an_older_version_the_predecessor_names_an_event(self) -> None:
        old = await self.create_room(self.alice)
        last = await self.send(self.alice, old, "last")
        new = (await self.upgrade(self.alice, old, "10"))["replacement_room"]
        after = await self.state(self.alice, new)
        self.assertEqual(after["m.room.create", ""]["predecessor"], {"room_id": old, "event_id": last})
        self.assertEqual(after["m.room.power_levels", ""]["users"][self.alice.user_id], 100)

    async def test_additional_creators(self) -> None:
        old = await self.create_room(self.alice, room_version="11")
        creators = [self.bob.user_id]
        new = (await self.upgrade(self.alice, old, additional_creators=creators))["replacement_room"]
        self.assertEqual((await self.state(self.alice, new))["m.room.create", ""]["additional_creators"], creators)
        bad = await self.upgrade(self.alice, new, expect=400, additional_creators=["bob"])
        self.assertEqual(bad["errcode"], "M_INVALID_PARAM")

    async def test_settings_follow_those_who_join(self) -> None:
        old = await self.create_room(self.alice, room_version="10", preset="public_chat")
        await self.join(self.bob, old)
        path = f"{V3}/user/{quote(self.bob.user_id)}/rooms"
        await self.request("PUT", f"{path}/{quote(old)}/tags/m.favourite", {"order": 0.5}, self.bob, expect=200)
        new = (await self.upgrade(self.alice, old))["replacement_room"]
        await self.join(self.bob, new)
        tags = (await self.request("GET", f"{path}/{quote(new)}/tags", None, self.bob)).json
        self.assertEqual(tags, {"tags": {"m.favourite": {"order": 0.5}}})

    async def test_spaces_lead_to_the_new_room(self) -> None:
        space = await self.create_room(self.alice, creation_content={"type": "m.space"})
        old = await self.create_room(self.alice)
        await self.put_state(self.alice, space, "m.space.child", {"via": ["parley.test"]}, old)
        new = (await self.upgrade(self.alice, old))["replacement_room"]
        children = {
            key: content
            for (kind, key), content in (await self.state(self.alice, space)).items()
            if kind == "m.space.child"
        }
        self.assertEqual(children, {old: {}, new: {"via": ["parley.test"]}})

    async def test_who_may_not_and_what_is_unknown(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, room)
        self.assertEqual((await self.upgrade(self.bob, room, expect=403))["errcode"], "M_FORBIDDEN")
        self.assertEqual((await self.upgrade(self.alice, room, "99", 400))["errcode"], "M_UNSUPPORTED_ROOM_VERSION")
        await self.upgrade(self.alice, "!none:parley.test", expect=404)
        self.assertNotIn(("m.room.tombstone", ""), await self.state(self.alice, room))

    async def test_a_moderator_upgrades_and_gets_no_more_power(self) -> None:
        room = await self.create_room(self.alice, room_version="10", preset="public_chat")
        await self.join(self.bob, room)
        levels = (await self.state(self.alice, room))["m.room.power_levels", ""]
        levels["users"][self.bob.user_id] = 60
        levels["events"]["m.room.tombstone"] = 60
        await self.put_state(self.alice, room, "m.room.power_levels", levels)
        new = (await self.upgrade(self.bob, room, "11"))["replacement_room"]
        users = (await self.state(self.bob, new))["m.room.power_levels", ""]["users"]
        self.assertEqual(users, {self.alice.user_id: 100, self.bob.user_id: 60})
