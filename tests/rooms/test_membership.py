# SPDX-License-Identifier: Apache-2.0
"""Coming into rooms and leaving them."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import HomeserverCase, Reply, Session

V3 = "/_matrix/client/v3"


class RoomCase(HomeserverCase):
    """Short names for what these tests do all the time."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def act(self, user: Session, room: str, what: str, body: Any = None, expect: int | None = 200) -> Reply:
        return await self.request("POST", f"{V3}/rooms/{quote(room)}/{what}", body or {}, user, expect=expect)

    async def member(self, viewer: Session, room: str, user: Session | str) -> Any:
        """The content of a user's membership as somebody sees it; None where there is none."""
        user_id = user if isinstance(user, str) else user.user_id
        reply = await self.request(
            "GET", f"{V3}/rooms/{quote(room)}/state/m.room.member/{quote(user_id)}", None, viewer
        )
        return reply.json if reply.status == 200 else None

    async def put_state(
        self, user: Session, room: str, kind: str, content: Any, key: str = "", expect: int | None = 200
    ) -> Reply:
        path = f"{V3}/rooms/{quote(room)}/state/{quote(kind)}/{quote(key)}"
        return await self.request("PUT", path, content, user, expect=expect)


class Joining(RoomCase):
    async def test_anybody_joins_a_public_room_by_its_id(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        reply = await self.act(self.bob, room, "join", {"reason": "curious"})
        self.assertEqual(reply.json, {"room_id": room})
        self.assertEqual((await self.member(self.alice, room, self.bob))["reason"], "curious")

    async def test_joining_again_writes_nothing(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        before = self.app.base.db.published
        await self.act(self.bob, room, "join", {"reason": "again"})
        self.assertEqual(self.app.base.db.published, before)

    async def test_a_private_room_wants_an_invite(self) -> None:
        room = await self.create_room(self.alice)
        reply = await self.act(self.bob, room, "join", expect=403)
        self.assertEqual(reply.json["errcode"], "M_FORBIDDEN")
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        await self.act(self.bob, room, "join")
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "join")

    async def test_an_unknown_room_is_not_found(self) -> None:
        await self.act(self.bob, "!nothing:parley.test", "join", expect=404)

    async def test_a_room_is_joined_by_its_alias(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat", room_alias_name="cave")
        path = f"{V3}/join/{quote('#cave:parley.test')}"
        reply = await self.request("POST", path, None, self.bob, expect=200)
        self.assertEqual(reply.json, {"room_id": room})
        missing = await self.request("POST", f"{V3}/join/{quote('#none:parley.test')}", {}, self.bob, expect=404)
        self.assertEqual(missing.json["errcode"], "M_NOT_FOUND")
        bad = await self.request("POST", f"{V3}/join/nonsense", {}, self.bob, expect=400)
        self.assertEqual(bad.json["errcode"], "M_INVALID_PARAM")

    async def test_name_and_avatar_come_from_the_profile(self) -> None:
        await self.request(
            "PUT", f"{V3}/profile/{quote(self.bob.user_id)}/displayname", {"displayname": "Bob"}, self.bob
        )
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        self.assertEqual((await self.member(self.alice, room, self.bob))["displayname"], "Bob")

    async def test_joined_rooms_are_listed(self) -> None:
        first, second = await self.create_room(self.alice), await self.create_room(self.alice)
        await self.act(self.alice, second, "leave")
        reply = await self.request("GET", f"{V3}/joined_rooms", None, self.alice, expect=200)
        self.assertEqual(reply.json, {"joined_rooms": [first]})

    async def test_keys_of_the_clients_own_go_into_the_membership(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        body = {"org.x": 1, "membership": "ban", "join_authorised_via_users_server": "@x:y", "reason": "r"}
        await self.act(self.bob, room, "join", body)
        member = await self.member(self.alice, room, self.bob)
        self.assertEqual((member["membership"], member["org.x"], member["reason"]), ("join", 1, "r"))
        self.assertNotIn("join_authorised_via_users_server", member)

    async def test_a_body_of_the_wrong_form_is_refused(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        reply = await self.act(self.bob, room, "join", {"reason": 7}, expect=400)
        self.assertEqual(reply.json["errcode"], "M_BAD_JSON")
        self.assertIsNone(await self.member(self.alice, room, self.bob))


class Inviting(RoomCase):
    async def test_who_is_in_the_room_cannot_be_invited(self) -> None:
        room = await self.create_room(self.alice)
        reply = await self.act(self.alice, room, "invite", {"user_id": self.alice.user_id}, expect=403)
        self.assertEqual(reply.json["errcode"], "M_FORBIDDEN")

    async def test_who_is_banned_cannot_be_invited(self) -> None:
        room = await self.create_room(self.alice)
        await self.act(self.alice, room, "ban", {"user_id": self.bob.user_id})
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id}, expect=403)

    async def test_strangers_cannot_invite(self) -> None:
        carol = await self.register("carol")
        room = await self.create_room(self.alice)
        await self.act(self.bob, room, "invite", {"user_id": carol.user_id}, expect=403)
        await self.act(self.bob, "!none:parley.test", "invite", {"user_id": carol.user_id}, expect=403)

    async def test_an_invite_needs_somebody(self) -> None:
        room = await self.create_room(self.alice)
        self.assertEqual(
            (await self.act(self.alice, room, "invite", {}, expect=400)).json["errcode"], "M_MISSING_PARAM"
        )
        reply = await self.act(self.alice, room, "invite", {"user_id": "bob"}, expect=400)
        self.assertEqual(reply.json["errcode"], "M_INVALID_PARAM")

    async def test_who_wants_no_invites_gets_none(self) -> None:
        path = f"{V3}/user/{quote(self.bob.user_id)}/account_data/m.invite_permission_config"
        await self.request("PUT", path, {"default_action": "block"}, self.bob, expect=200)
        room = await self.create_room(self.alice)
        reply = await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id}, expect=403)
        self.assertEqual(reply.json["errcode"], "M_INVITE_BLOCKED")
        by_state = await self.put_state(
            self.alice, room, "m.room.member", {"membership": "invite"}, self.bob.user_id, expect=403
        )
        self.assertEqual(by_state.json["errcode"], "M_INVITE_BLOCKED")

    async def test_an_invite_is_rejected_by_leaving(self) -> None:
        room = await self.create_room(self.alice, invite=[self.bob.user_id])
        await self.act(self.bob, room, "leave", {"reason": "no thanks"})
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "leave")

    async def test_an_invite_to_an_address_needs_an_identity_server(self) -> None:
        room = await self.create_room(self.alice)
        body = {"medium": "email", "address": "x@example.org", "id_server": "id.example.org", "id_access_token": "t"}
        reply = await self.act(self.alice, room, "invite", body, expect=403)
        self.assertEqual(reply.json["errcode"], "M_SERVER_NOT_TRUSTED")


class Leaving(RoomCase):
    async def test_leaving_twice_is_as_leaving_once(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        await self.act(self.bob, room, "leave")
        before = self.app.base.db.published
        await self.act(self.bob, room, "leave")
        self.assertEqual(self.app.base.db.published, before)

    async def test_a_stranger_cannot_leave(self) -> None:
        room = await self.create_room(self.alice)
        await self.act(self.bob, room, "leave", expect=403)
        await self.act(self.bob, "!none:parley.test", "leave", expect=404)

    async def test_a_room_is_forgotten_after_leaving_only(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        reply = await self.act(self.bob, room, "forget", expect=400)
        self.assertEqual(reply.json["errcode"], "M_UNKNOWN")
        await self.act(self.bob, room, "leave")
        messages = f"{V3}/rooms/{quote(room)}/messages?dir=b"
        await self.request("GET", messages, None, self.bob, expect=200)
        await self.act(self.bob, room, "forget")
        await self.act(self.bob, room, "forget")
        await self.request("GET", messages, None, self.bob, expect=403)
        await self.act(self.bob, room, "join")
        await self.request("GET", messages, None, self.bob, expect=200)


class Removing(RoomCase):
    async def test_kick_ban_and_unban(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        await self.act(self.alice, room, "kick", {"user_id": self.bob.user_id, "reason": "spam"})
        self.assertEqual(await self.member(self.alice, room, self.bob), {"membership": "leave", "reason": "spam"})
        await self.act(self.alice, room, "kick", {"user_id": self.bob.user_id}, expect=403)
        await self.act(self.alice, room, "unban", {"user_id": self.bob.user_id}, expect=403)
        await self.act(self.alice, room, "ban", {"user_id": self.bob.user_id})
        await self.act(self.bob, room, "join", expect=403)
        await self.act(self.alice, room, "kick", {"user_id": self.bob.user_id}, expect=403)
        await self.act(self.alice, room, "unban", {"user_id": self.bob.user_id})
        await self.act(self.bob, room, "join")

    async def test_only_those_with_power_remove_others(self) -> None:
        carol = await self.register("carol")
        room = await self.create_room(self.alice, preset="public_chat")
        await self.act(self.bob, room, "join")
        await self.act(carol, room, "join")
        for what in ("kick", "ban"):
            await self.act(self.bob, room, what, {"user_id": carol.user_id}, expect=403)
            await self.act(self.bob, room, what, {"user_id": self.alice.user_id}, expect=403)
            await self.act(self.alice, room, what, {"user_id": "nobody"}, expect=400)
            await self.act(self.alice, room, what, {}, expect=400)
        self.assertEqual((await self.member(self.alice, room, carol))["membership"], "join")


class ByStateEvent(RoomCase):
    async def test_memberships_set_by_state_obey_the_same_rules(self) -> None:
        room = await self.create_room(self.alice)
        await self.put_state(self.bob, room, "m.room.member", {"membership": "join"}, self.bob.user_id, expect=403)
        await self.put_state(self.alice, room, "m.room.member", {"membership": "invite"}, self.bob.user_id)
        await self.put_state(
            self.bob, room, "m.room.member", {"membership": "join", "displayname": "B"}, self.bob.user_id
        )
        self.assertEqual((await self.member(self.alice, room, self.bob))["displayname"], "B")
        await self.put_state(self.alice, room, "m.room.member", {"membership": "ban"}, self.bob.user_id)
        await self.put_state(self.bob, room, "m.room.member", {"membership": "join"}, self.bob.user_id, expect=403)

    async def test_what_is_no_membership_is_refused(self) -> None:
        room = await self.create_room(self.alice)
        await self.put_state(self.alice, room, "m.room.member", {"membership": "guest"}, self.bob.user_id, expect=400)
        await self.put_state(self.alice, room, "m.room.member", {}, self.bob.user_id, expect=400)
        await self.put_state(self.alice, room, "m.room.member", {"membership": "invite"}, "bob", expect=400)


class RestrictedRooms(RoomCase):
    async def make(self, kind: str = "restricted") -> tuple[str, str]:
        """A space, and a room that its members may join."""
        space = await self.create_room(self.alice, preset="public_chat", creation_content={"type": "m.space"})
        rule = {"join_rule": kind, "allow": [{"type": "m.room_membership", "room_id": space}]}
        rules = {"type": "m.room.join_rules", "state_key": "", "content": rule}
        return space, await self.create_room(self.alice, initial_state=[rules])

    async def test_members_of_an_allowed_room_join(self) -> None:
        space, room = await self.make()
        reply = await self.act(self.bob, room, "join", expect=403)
        self.assertEqual(reply.json["errcode"], "M_FORBIDDEN")
        await self.act(self.bob, space, "join")
        await self.act(self.bob, room, "join")
        member = await self.member(self.alice, room, self.bob)
        self.assertEqual(member["join_authorised_via_users_server"], self.alice.user_id)

    async def test_the_invited_need_no_other_room(self) -> None:
        _, room = await self.make()
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        await self.act(self.bob, room, "join")
        self.assertNotIn("join_authorised_via_users_server", await self.member(self.alice, room, self.bob))

    async def test_members_may_change_their_name_and_forge_nothing(self) -> None:
        space, room = await self.make()
        await self.act(self.bob, space, "join")
        await self.act(self.bob, room, "join")
        content = {"membership": "join", "displayname": "B", "join_authorised_via_users_server": "@x:y"}
        await self.put_state(self.bob, room, "m.room.member", content, self.bob.user_id)
        self.assertEqual(await self.member(self.alice, room, self.bob), {"membership": "join", "displayname": "B"})

    async def test_a_knock_restricted_room_is_joined_or_knocked_on(self) -> None:
        space, room = await self.make("knock_restricted")
        await self.request("POST", f"{V3}/knock/{quote(room)}", {"reason": "please"}, self.bob, expect=200)
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "knock")
        await self.act(self.bob, space, "join")
        await self.act(self.bob, room, "join")


class Knocking(RoomCase):
    async def test_knock_and_be_let_in(self) -> None:
        rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        room = await self.create_room(self.alice, initial_state=[rules])
        reply = await self.request("POST", f"{V3}/knock/{quote(room)}", {"reason": "please"}, self.bob, expect=200)
        self.assertEqual(reply.json, {"room_id": room})
        await self.act(self.bob, room, "join", expect=403)
        await self.act(self.alice, room, "invite", {"user_id": self.bob.user_id})
        await self.request("POST", f"{V3}/knock/{quote(room)}", {}, self.bob, expect=403)
        await self.act(self.bob, room, "join")

    async def test_rooms_that_want_no_knocks(self) -> None:
        room = await self.create_room(self.alice)
        await self.request("POST", f"{V3}/knock/{quote(room)}", {}, self.bob, expect=403)
        old = await self.create_room(self.alice, room_version="6")
        await self.request("POST", f"{V3}/knock/{quote(old)}", {}, self.bob, expect=403)
        await self.request("POST", f"{V3}/knock/{quote('!none:parley.test')}", {}, self.bob, expect=404)

    async def test_a_knock_is_taken_back_by_leaving(self) -> None:
        rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        room = await self.create_room(self.alice, initial_state=[rules])
        await self.request("POST", f"{V3}/knock/{quote(room)}", {}, self.bob, expect=200)
        await self.act(self.bob, room, "leave")
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "leave")


class MutualRooms(RoomCase):
    async def mutual(self, user: Session, other: str, expect: int = 200) -> Any:
        path = "/_matrix/client/v1/mutual_rooms"
        return (await self.request("GET", path, None, user, query={"user_id": other}, expect=expect)).json

    async def test_rooms_that_both_are_in(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.create_room(self.alice)
        self.assertEqual(await self.mutual(self.alice, self.bob.user_id), {"joined": [], "count": 0})
        await self.act(self.bob, room, "join")
        self.assertEqual(await self.mutual(self.alice, self.bob.user_id), {"joined": [room], "count": 1})
        self.assertEqual(await self.mutual(self.alice, "@nobody:parley.test"), {"joined": [], "count": 0})

    async def test_bad_questions(self) -> None:
        self.assertEqual((await self.mutual(self.alice, self.alice.user_id, 400))["errcode"], "M_INVALID_PARAM")
        await self.mutual(self.alice, "bob", 400)
        await self.request("GET", "/_matrix/client/v1/mutual_rooms", None, self.alice, expect=400)
        path = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"
        bad = {"user_id": self.bob.user_id, "from": "nonsense"}
        await self.request("GET", path, None, self.alice, query=bad, expect=400)
