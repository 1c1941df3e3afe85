# SPDX-License-Identifier: Apache-2.0
"""Users come into rooms of other servers, by every rule, and leave them."""

from urllib.parse import quote

from tests.federation.case import FederationCase


class Joining(FederationCase):
    async def test_joining_by_id_and_alias_in_every_version(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        for version in map(str, range(1, 13)):
            room = await one.create_room(
                alice, preset="public_chat", room_version=version, room_alias_name=f"v{version}"
            )
            await one.send(alice, room, "before")
            await two.join(bob, f"#v{version}:{one.name}")
            for peer, user in ((one, alice), (two, bob)):
                self.assertEqual(await peer.members(user, room), {alice.user_id: "join", bob.user_id: "join"}, version)
            self.assertEqual(await state_of(one, alice, room), await state_of(two, bob, room))

    async def test_a_room_nobody_can_be_asked_about(self) -> None:
        one, two = self.peers
        bob = await two.register("bob")
        await two.join(bob, "!nobody:nowhere.invalid", expect=502)
        await two.join(bob, f"!nobody:{one.name}", expect=404)
        await two.join(bob, f"#nothing:{one.name}", expect=404)

    async def test_an_invite_is_seen_and_taken_up(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        for version in ("1", "6", "11", "12"):
            room = await one.create_room(alice, preset="private_chat", name="Secret", room_version=version)
            await two.join(bob, room, one.name, expect=403)
            await one.post(f"rooms/{quote(room)}/invite", {"user_id": bob.user_id}, alice)
            seen = (await two.sync(bob))["rooms"]["invite"][room]["invite_state"]["events"]
            self.assertIn(("m.room.name", {"name": "Secret"}), [(e["type"], e["content"]) for e in seen])
            self.assertEqual((await one.members(alice, room))[bob.user_id], "invite")
            await two.join(bob, room)
            self.assertEqual((await one.members(alice, room))[bob.user_id], "join")
            self.assertEqual(await state_of(one, alice, room), await state_of(two, bob, room))

    async def test_an_invite_is_refused(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="private_chat")
        await one.post(f"rooms/{quote(room)}/invite", {"user_id": bob.user_id}, alice)
        await two.post(f"rooms/{quote(room)}/leave", {}, bob)
        self.assertEqual((await one.members(alice, room))[bob.user_id], "leave")
        self.assertNotIn("invite", (await two.sync(bob)).get("rooms", {}))
        await one.post(f"rooms/{quote(room)}/invite", {"user_id": bob.user_id}, alice)
        await one.stop()
        await two.post(f"rooms/{quote(room)}/leave", {}, bob)
        self.assertNotIn("invite", (await two.sync(bob)).get("rooms", {}))

    async def test_inviting_nobody_changes_nothing(self) -> None:
        one, two = self.peers
        alice = await one.register("alice")
        room = await one.create_room(alice, preset="private_chat")
        path = f"rooms/{quote(room)}/invite"
        await one.post(path, {"user_id": f"@nobody:{two.name}"}, alice, expect=404)
        await one.post(path, {"user_id": "@nobody:nowhere.invalid"}, alice, expect=502)
        self.assertEqual(list(await one.members(alice, room)), [alice.user_id])

    async def test_a_room_that_does_not_federate_stays_at_home(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat", creation_content={"m.federate": False})
        await two.join(bob, room, one.name, expect=403)
        await one.post(f"rooms/{quote(room)}/invite", {"user_id": bob.user_id}, alice, expect=403)
        self.assertEqual(list(await one.members(alice, room)), [alice.user_id])

    async def test_a_room_is_made_with_somebody_from_elsewhere(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="trusted_private_chat", invite=[bob.user_id], is_direct=True)
        await two.join(bob, room)
        self.assertEqual((await one.members(alice, room))[bob.user_id], "join")

    async def test_knocking(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(
            alice,
            preset="private_chat",
            name="Door",
            initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
        )
        await two.request(
            "POST", f"/_matrix/client/v3/knock/{quote(room)}", {"reason": "hi"}, bob, query={"via": one.name}
        )
        self.assertEqual((await one.members(alice, room))[bob.user_id], "knock")
        self.assertIn(room, (await two.sync(bob))["rooms"]["knock"])
        await two.post(f"rooms/{quote(room)}/leave", {}, bob)
        self.assertEqual((await one.members(alice, room))[bob.user_id], "leave")
        closed = await one.create_room(alice, preset="private_chat")
        await two.request(
            "POST", f"/_matrix/client/v3/knock/{quote(closed)}", {}, bob, query={"via": one.name}, expect=403
        )

    async def test_restricted_rooms(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        for version in ("8", "10", "12"):
            club = await one.create_room(alice, preset="public_chat", room_version=version)
            allow = [{"type": "m.room_membership", "room_id": club}]
            rule = {"join_rule": "restricted", "allow": allow}
            room = await one.create_room(
                alice,
                preset="private_chat",
                room_version=version,
                initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}],
            )
            await two.join(bob, room, one.name, expect=403)
            await two.join(bob, club, one.name)
            await two.join(bob, room, one.name)
            self.assertEqual((await one.members(alice, room))[bob.user_id], "join")
            self.assertEqual(await state_of(one, alice, room), await state_of(two, bob, room))

    async def test_a_server_that_cannot_let_its_own_user_in_asks_one_that_can(self) -> None:
        one, two = self.peers
        alice, bob, carol = await one.register("alice"), await two.register("bob"), await two.register("carol")
        club = await one.create_room(alice, preset="public_chat", room_version="11")
        rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
        room = await one.create_room(
            alice,
            preset="private_chat",
            room_version="11",
            power_level_content_override={"invite": 50},
            initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}],
        )
        await two.join(bob, club, one.name)
        await two.join(carol, club, one.name)
        await two.join(bob, room, one.name)
        await two.join(carol, room)
        for peer, user in ((one, alice), (two, carol)):
            self.assertEqual((await peer.members(user, room))[carol.user_id], "join")

        async def same() -> bool:
            return bool(await state_of(one, alice, room) == await state_of(two, bob, room))

        await self.until(same)

    async def test_who_is_banned_stays_out_and_can_come_back_later(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await one.post(f"rooms/{quote(room)}/ban", {"user_id": bob.user_id}, alice)
        await two.join(bob, room, one.name, expect=403)
        await one.post(f"rooms/{quote(room)}/unban", {"user_id": bob.user_id}, alice)
        await two.join(bob, room, one.name)

    async def test_a_denied_server_stays_out(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await one.set_state(alice, room, "m.room.server_acl", {"allow": ["*"], "deny": ["local*"]})
        await two.join(bob, room, one.name, expect=403)
        await one.set_state(alice, room, "m.room.server_acl", {"allow": ["localhost"]})
        await two.join(bob, room, one.name)


async def state_of(peer, user, room):  # type: ignore[no-untyped-def]
    found = await peer.get(f"rooms/{quote(room)}/state", user)
    return {(one["type"], one["state_key"]): one["event_id"] for one in found}
