# SPDX-License-Identifier: Apache-2.0
"""Rule 5: who may change whose membership, per version."""

from typing import Any

from homeserver.protocol import signing
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import V7, V8, V9, V10, V11, V12, RoomVersion
from homeserver.protocol.signing import Signer, SigningKey
from tests.protocol.dag import ALICE, ALL, BOB, CAROL, DAVE, Room, State, versions
from tests.protocol.test_auth_rules import AuthCase

IDENTITY = Signer("id.org", SigningKey.from_seed("0", b"i" * 32))


class MemberCase(AuthCase):
    """A room with some members, made anew for each question."""

    def room(
        self,
        version: RoomVersion,
        join_rule: str = "invite",
        levels: dict[str, Any] | None = None,
        members: tuple[str, ...] = (BOB,),
        **memberships: str,
    ) -> tuple[Room, State]:
        room = Room(version)
        state = room.open({"invite": 0, **(levels or {})}, join_rule, members)
        for user, membership in memberships.items():
            user_id = {"carol": CAROL, "dave": DAVE}[user]
            state[("m.room.member", user_id)] = room.member(user_id, membership, state, ALICE)
        return room, state

    def users(self, version: RoomVersion, **levels: int) -> dict[str, Any]:
        named = {"alice": ALICE, "bob": BOB, "carol": CAROL, "dave": DAVE}
        users = {named[name]: level for name, level in levels.items()}
        if version.creators_are_privileged:
            users.pop(ALICE, None)
        return {"users": users}


class Shape(MemberCase):
    def test_a_membership_event_has_a_state_key_and_a_membership(self) -> None:
        for version in ALL:
            room, state = self.room(version)
            self.rejects("5.1", room.event("m.room.member", {"membership": "join"}, BOB, None, state), state)
            self.rejects("5.1", room.event("m.room.member", {}, BOB, BOB, state), state)

    def test_other_memberships_are_unknown(self) -> None:
        for version in ALL:
            room, state = self.room(version)
            for membership in ("", "Join", "kick", 7, ["join"]):
                event = room.event("m.room.member", {"membership": membership}, BOB, BOB, state)
                self.rejects("5.8", event, state)


class FirstJoin(MemberCase):
    def test_the_creator_joins_right_after_the_create_event(self) -> None:
        for version in ALL:
            room = Room(version)
            self.allows(room.member(ALICE, "join", room.state()), room.state())

    def test_nobody_else_does_and_not_later(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.state()
            self.rejects("5.3.4", room.member(BOB, "join", state), state)
            later = room.event("m.room.message", {})
            self.rejects("5.3.4", room.member(ALICE, "join", state, prev=[later]), state)
            self.rejects("5.3.4", room.member(ALICE, "join", state, prev=[room.create, later]), state)

    def test_up_to_version_10_the_creator_is_the_one_in_the_content(self) -> None:
        for version in ALL:
            room = Room(version, {"creator": BOB})
            state = room.state()
            if version.creator_in_content:
                self.allows(room.member(BOB, "join", state), state)
                self.rejects("5.3.4", room.member(ALICE, "join", state), state)
            else:
                self.rejects("5.3.4", room.member(BOB, "join", state), state)
                self.allows(room.member(ALICE, "join", state), state)

    def test_additional_creators_wait_to_be_let_in(self) -> None:
        room = Room(V12, {"additional_creators": [BOB]})
        state = room.state()
        self.rejects("5.3.4", room.member(BOB, "join", state), state)


class Join(MemberCase):
    def join(self, room: Room, state: State, user: str = CAROL, **content: Any) -> Event:
        return room.member(user, "join", state, prev=[state[("m.room.power_levels", "")]], content=content)

    def test_nobody_joins_for_somebody_else(self) -> None:
        for version in ALL:
            room, state = self.room(version, "public")
            self.rejects("5.3.2", room.member(CAROL, "join", state, ALICE, prev=[room.create, room.create]), state)

    def test_the_banned_stay_out_under_every_rule(self) -> None:
        for version in ALL:
            for rule in ("public", "invite", "restricted", "knock"):
                room, state = self.room(version, rule, carol="ban")
                self.rejects("5.3.3", self.join(room, state), state)

    def test_under_public_everybody_joins(self) -> None:
        for version in ALL:
            for membership in ("leave", "invite", "join", "knock"):
                room, state = self.room(version, "public", carol=membership)
                self.allows(self.join(room, state), state)
            room, state = self.room(version, "public")
            self.allows(self.join(room, state), state)

    def test_under_invite_the_invited_and_the_joined_join(self) -> None:
        for version in ALL:
            for membership in ("invite", "join"):
                room, state = self.room(version, "invite", carol=membership)
                self.allows(self.join(room, state), state)
            for membership in ("leave", "knock"):
                room, state = self.room(version, "invite", carol=membership)
                self.rejects("5.3.4", self.join(room, state), state)

    def test_without_join_rules_the_rule_is_invite(self) -> None:
        for version in ALL:
            for content in (None, {}):
                room, state = self.room(version, carol="invite")
                del state[("m.room.join_rules", "")]
                if content is not None:
                    room.put(state, "m.room.join_rules", content)
                self.allows(self.join(room, state), state)
                self.rejects("5.3.4", self.join(room, state, DAVE), state)

    def test_under_knock_the_invited_join_from_version_7_on(self) -> None:
        for version in ALL:
            room, state = self.room(version, "knock", carol="invite")
            if version.knocking:
                self.allows(self.join(room, state), state)
                self.rejects("5.3.4", self.join(room, state, DAVE), state)
            else:
                self.rejects("5.3.7", self.join(room, state), state)

    def test_under_restricted_and_knock_restricted_where_the_version_has_them(self) -> None:
        for version in ALL:
            for rule, known in [
                ("restricted", version.restricted_joins),
                ("knock_restricted", version.knock_restricted_joins),
            ]:
                room, state = self.room(version, rule, carol="invite")
                if known:
                    self.allows(self.join(room, state), state)
                    self.rejects("5.3.5.2", self.join(room, state, DAVE), state)
                else:
                    self.rejects("5.3.7", self.join(room, state), state)
                    self.rejects("5.3.7", self.join(room, state, DAVE), state)

    def test_other_rules_let_nobody_in(self) -> None:
        for version in ALL:
            for rule in ("private", "Public", "", 7, None, ["public"]):
                room, state = self.room(version, carol="invite")
                room.put(state, "m.room.join_rules", {"join_rule": rule})
                self.rejects("5.3.7", self.join(room, state), state)


class RestrictedJoin(MemberCase):
    def join(self, room: Room, state: State, authorizer: Any) -> Event:
        content = {"join_authorised_via_users_server": authorizer}
        return room.member(CAROL, "join", state, prev=[state[("m.room.power_levels", "")]], content=content)

    def test_a_member_with_the_power_to_invite_authorizes(self) -> None:
        for version in versions(restricted_joins=True):
            levels = {"invite": 50, **self.users(version, alice=100, bob=50)}
            room, state = self.room(version, "restricted", levels, members=(BOB, DAVE))
            self.allows(self.join(room, state, BOB), state)
            self.allows(self.join(room, state, ALICE), state)
            self.rejects("5.3.5.2", self.join(room, state, DAVE), state)

    def test_who_is_not_joined_does_not(self) -> None:
        for version in versions(restricted_joins=True):
            for membership in ("invite", "leave", "ban"):
                room, state = self.room(version, "restricted", dave=membership)
                self.rejects("5.3.5.2", self.join(room, state, DAVE), state)
            self.rejects("5.3.5.2", self.join(room, state, "@nobody:a.org"), state)

    def test_a_malformed_name_does_not(self) -> None:
        for name in (None, 7, "", [BOB]):
            room, state = self.room(V9, "restricted")
            self.rejects("5.3.5.2", self.join(room, state, name), state)

    def test_in_version_12_a_creator_always_can(self) -> None:
        for version in (V10, V11, V12):
            room = Room(version, {"additional_creators": [BOB]})
            state = room.open({"invite": 101, **self.users(version, alice=100)}, "knock_restricted", (BOB,))
            for creator in (ALICE, BOB):
                if version is V12:
                    self.allows(self.join(room, state, creator), state)
                else:
                    self.rejects("5.3.5.2", self.join(room, state, creator), state)


class Invite(MemberCase):
    def test_members_invite_strangers(self) -> None:
        for version in ALL:
            for membership in (None, "leave", "invite", "knock"):
                room, state = self.room(version, **({"carol": membership} if membership else {}))
                self.allows(room.member(CAROL, "invite", state, BOB), state)

    def test_strangers_invite_nobody(self) -> None:
        for version in ALL:
            room, state = self.room(version, carol="invite")
            self.rejects("5.4.2", room.member(DAVE, "invite", state, CAROL), state)

    def test_the_joined_and_the_banned_are_not_invited(self) -> None:
        for version in ALL:
            for membership in ("join", "ban"):
                room, state = self.room(version, carol=membership)
                self.rejects("5.4.3", room.member(CAROL, "invite", state, ALICE), state)

    def test_the_invite_level_counts(self) -> None:
        for version in ALL:
            room, state = self.room(version, levels={"invite": 10, **self.users(version, alice=100)})
            self.rejects("5.4.5", room.member(CAROL, "invite", state, BOB), state)
            self.allows(room.member(CAROL, "invite", state, ALICE), state)


class ThirdPartyInvite(MemberCase):
    def offer(self, version: RoomVersion, content: dict[str, Any] | None = None) -> tuple[Room, State]:
        room, state = self.room(version)
        key = IDENTITY.key.public_base64
        content = {"public_key": key} if content is None else content
        room.put(state, "m.room.third_party_invite", content, "tok", sender=BOB)
        return room, state

    def invite(self, room: Room, state: State, signed: Any = None, sender: str = BOB, **changes: Any) -> Event:
        if signed is None:
            signed = signing.sign_json({"mxid": CAROL, "token": "tok", **changes}, IDENTITY)
        return room.member(CAROL, "invite", state, sender, content={"third_party_invite": {"signed": signed}})

    def test_a_signed_offer_lets_the_invite_pass(self) -> None:
        for version in ALL:
            room, state = self.offer(version)
            self.allows(self.invite(room, state), state)
            del state[("m.room.member", BOB)]  # the one who made the offer may have left
            self.allows(self.invite(room, state), state)

    def test_keys_of_the_list_count_too(self) -> None:
        key = IDENTITY.key.public_base64
        for content in (
            {"public_keys": [{"public_key": "AAAA"}, 7, {}, {"public_key": key}]},
            {"public_key": "x", "public_keys": [{"public_key": key}]},
        ):
            room, state = self.offer(V11, content)
            self.allows(self.invite(room, state), state)

    def test_the_banned_are_not_invited(self) -> None:
        room, state = self.offer(V11)
        state[("m.room.member", CAROL)] = room.member(CAROL, "ban", state, ALICE)
        self.rejects("5.4.1.1", self.invite(room, state), state)

    def test_what_is_signed_must_be_there(self) -> None:
        room, state = self.offer(V11)
        for invite in (None, {}, "x", {"signed": None}, {"signed": []}):
            event = room.member(CAROL, "invite", state, BOB, content={"third_party_invite": invite})
            self.rejects("5.4.1.2", event, state)
        for signed in ({}, {"mxid": CAROL}, {"token": "tok"}, {"mxid": 7, "token": "tok"}):
            self.rejects("5.4.1.3", self.invite(room, state, signed), state)

    def test_it_is_for_this_user_this_token_and_this_sender(self) -> None:
        room, state = self.offer(V11)
        self.rejects("5.4.1.4", self.invite(room, state, mxid=DAVE), state)
        self.rejects("5.4.1.5", self.invite(room, state, token="other"), state)
        self.rejects("5.4.1.6", self.invite(room, state, sender=ALICE), state)

    def test_the_signature_must_fit_one_of_the_keys(self) -> None:
        for content in (
            {},
            {"public_key": "AAAA"},
            {"public_key": 7},
            {"public_keys": "x"},
            {"public_key": SigningKey.from_seed("0", b"x" * 32).public_base64},
        ):
            room, state = self.offer(V11, content)
            self.rejects("5.4.1.8", self.invite(room, state), state)
        room, state = self.offer(V11)
        good = signing.sign_json({"mxid": CAROL, "token": "tok"}, IDENTITY)
        for signed in (
            {**good, "extra": 1},
            {**good, "signatures": {}},
            {**good, "signatures": []},
            {**good, "signatures": {"id.org": {"ed25519:0": "AA"}}},
        ):
            self.rejects("5.4.1.8", self.invite(room, state, signed), state)


class Leave(MemberCase):
    def test_the_invited_and_joined_leave_by_themselves(self) -> None:
        for version in ALL:
            for membership in ("invite", "join"):
                room, state = self.room(version, carol=membership)
                self.allows(room.member(CAROL, "leave", state), state)
            for membership in ("leave", "ban"):
                room, state = self.room(version, carol=membership)
                self.rejects("5.5.1", room.member(CAROL, "leave", state), state)
            self.rejects("5.5.1", room.member("@x:x.org", "leave", state), state)

    def test_a_knock_is_taken_back_from_version_7_on(self) -> None:
        for version in ALL:
            room, state = self.room(version, carol="knock")
            event = room.member(CAROL, "leave", state)
            if version.knocking:
                self.allows(event, state)
            else:
                self.rejects("5.5.1", event, state)

    def test_who_is_not_in_the_room_removes_nobody(self) -> None:
        for version in ALL:
            room, state = self.room(version, carol="invite")
            self.rejects("5.5.2", room.member(BOB, "leave", state, CAROL), state)

    def test_kicking_takes_the_kick_level_and_more_than_the_target_has(self) -> None:
        for version in ALL:
            levels = {"kick": 50, **self.users(version, alice=100, bob=50, carol=50, dave=49)}
            room, state = self.room(version, levels=levels, members=(BOB, CAROL, DAVE))
            self.allows(room.member(DAVE, "leave", state, BOB), state)
            self.allows(room.member(BOB, "leave", state, ALICE), state)
            self.rejects("5.5.5", room.member(CAROL, "leave", state, BOB), state)
            self.rejects("5.5.5", room.member("@x:x.org", "leave", state, DAVE), state)
            self.rejects("5.5.5", room.member(ALICE, "leave", state, BOB), state)

    def test_lifting_a_ban_takes_the_ban_level_as_well(self) -> None:
        for version in ALL:
            levels = {"kick": 50, "ban": 60, **self.users(version, alice=100, bob=50, dave=60)}
            room, state = self.room(version, levels=levels, members=(BOB, DAVE), carol="ban")
            self.rejects("5.5.3", room.member(CAROL, "leave", state, BOB), state)
            self.allows(room.member(CAROL, "leave", state, DAVE), state)
            self.allows(room.member(CAROL, "leave", state, ALICE), state)
            levels = {"kick": 70, "ban": 60, **self.users(version, alice=100, dave=60)}
            room, state = self.room(version, levels=levels, members=(DAVE,), carol="ban")
            self.rejects("5.5.5", room.member(CAROL, "leave", state, DAVE), state)


class Ban(MemberCase):
    def test_banning_takes_the_ban_level_and_more_than_the_target_has(self) -> None:
        for version in ALL:
            levels = {"ban": 50, **self.users(version, alice=100, bob=50, carol=50, dave=49)}
            room, state = self.room(version, levels=levels, members=(BOB, CAROL, DAVE))
            self.allows(room.member(DAVE, "ban", state, BOB), state)
            self.allows(room.member("@x:x.org", "ban", state, BOB), state)
            self.rejects("5.6.3", room.member(CAROL, "ban", state, BOB), state)
            self.rejects("5.6.3", room.member(BOB, "ban", state, BOB), state)
            self.rejects("5.6.3", room.member("@x:x.org", "ban", state, DAVE), state)

    def test_who_is_not_in_the_room_bans_nobody(self) -> None:
        for version in ALL:
            room, state = self.room(version, levels={"ban": 0}, carol="invite")
            self.rejects("5.6.1", room.member(BOB, "ban", state, CAROL), state)

    def test_creators_of_version_12_are_equals(self) -> None:
        room = Room(V12, {"additional_creators": [BOB]})
        state = room.open({"users": {CAROL: 2**53 - 1}}, members=(BOB, CAROL))
        for membership, rule in (("ban", "5.6.3"), ("leave", "5.5.5")):
            self.rejects(rule, room.member(BOB, membership, state, ALICE), state)
            self.rejects(rule, room.member(ALICE, membership, state, BOB), state)
            self.rejects(rule, room.member(ALICE, membership, state, CAROL), state)
            self.allows(room.member(CAROL, membership, state, BOB), state)


class Knock(MemberCase):
    def test_knocking_exists_from_version_7_on(self) -> None:
        for version in ALL:
            room, state = self.room(version, "knock")
            event = room.member(CAROL, "knock", state)
            if version.knocking:
                self.allows(event, state)
            else:
                self.rejects("5.8", event, state)

    def test_knock_restricted_allows_it_from_version_10_on(self) -> None:
        for version in versions(knocking=True):
            room, state = self.room(version, "knock_restricted")
            event = room.member(CAROL, "knock", state)
            if version.knock_restricted_joins:
                self.allows(event, state)
            else:
                self.rejects("5.7.1", event, state)

    def test_other_rules_do_not(self) -> None:
        for version in (V7, V8, V12):
            for rule in ("public", "invite", "restricted", "x"):
                room, state = self.room(version, rule)
                self.rejects("5.7.1", room.member(CAROL, "knock", state), state)

    def test_nobody_knocks_for_somebody_else(self) -> None:
        room, state = self.room(V7, "knock")
        self.rejects("5.7.2", room.member(CAROL, "knock", state, BOB), state)

    def test_only_who_is_outside_knocks(self) -> None:
        for version in versions(knocking=True):
            for membership in ("ban", "invite", "join"):
                room, state = self.room(version, "knock", carol=membership)
                self.rejects("5.7.4", room.member(CAROL, "knock", state), state)
            for membership in ("leave", "knock"):
                room, state = self.room(version, "knock", carol=membership)
                self.allows(room.member(CAROL, "knock", state), state)
