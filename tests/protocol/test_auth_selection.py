# SPDX-License-Identifier: Apache-2.0
"""Which state an event cites."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.auth_selection import auth_keys, deciding_keys
from homeserver.protocol.room_versions import V7, V8, V11, V12, RoomVersion
from tests.protocol.dag import ALICE, ALL, BOB, CAROL, Room

LEVELS = ("m.room.power_levels", "")
RULES = ("m.room.join_rules", "")


def member(user: str) -> tuple[str, str]:
    return ("m.room.member", user)


class Selection(SynchronousTestCase):
    def keys(self, version: RoomVersion, event_type: str, state_key: str | None, content: dict[str, Any]) -> set[Any]:
        found = auth_keys(version, event_type, ALICE, state_key, content)
        self.assertEqual(len(found), len(set(found)))
        return set(found) - {("m.room.create", "")}

    def test_the_create_event_cites_nothing(self) -> None:
        for version in ALL:
            self.assertEqual(auth_keys(version, "m.room.create", ALICE, "", {}), [])

    def test_the_create_event_is_cited_before_version_12(self) -> None:
        for version in ALL:
            cited = ("m.room.create", "") in auth_keys(version, "m.room.message", ALICE, None, {})
            self.assertEqual(cited, version.create_in_auth_events)
            event = Room(version).event("m.room.message", {})
            self.assertIn(("m.room.create", ""), deciding_keys(event))

    def test_a_message_cites_levels_and_sender(self) -> None:
        for event_type, state_key in (("m.room.message", None), ("m.room.topic", ""), ("m.room.power_levels", "")):
            self.assertEqual(self.keys(V11, event_type, state_key, {}), {LEVELS, member(ALICE)})

    def test_memberships_cite_the_target_and_where_it_matters_the_join_rules(self) -> None:
        for membership, cites_rules in [
            ("join", True),
            ("invite", True),
            ("knock", True),
            ("leave", False),
            ("ban", False),
        ]:
            expected = {LEVELS, member(ALICE), member(BOB)} | ({RULES} if cites_rules else set())
            self.assertEqual(self.keys(V12, "m.room.member", BOB, {"membership": membership}), expected)

    def test_a_third_party_invite_cites_its_offer(self) -> None:
        content: dict[str, Any] = {"membership": "invite", "third_party_invite": {"signed": {"token": "tok"}}}
        self.assertIn(("m.room.third_party_invite", "tok"), self.keys(V11, "m.room.member", BOB, content))
        for malformed in ({}, {"signed": []}, {"signed": {"token": 7}}, "x", None):
            content["third_party_invite"] = malformed
            self.assertEqual(self.keys(V11, "m.room.member", BOB, content), {LEVELS, RULES, member(ALICE), member(BOB)})

    def test_a_restricted_join_cites_the_authorizing_user_from_version_8_on(self) -> None:
        content = {"membership": "join", "join_authorised_via_users_server": CAROL}
        self.assertIn(member(CAROL), self.keys(V8, "m.room.member", ALICE, content))
        self.assertNotIn(member(CAROL), self.keys(V7, "m.room.member", ALICE, content))
        self.assertNotIn(member(CAROL), self.keys(V8, "m.room.member", ALICE, {**content, "membership": "invite"}))
        self.keys(V8, "m.room.member", ALICE, {"membership": "join", "join_authorised_via_users_server": ALICE})
        self.keys(V8, "m.room.member", ALICE, {"membership": "join", "join_authorised_via_users_server": []})

    def test_a_membership_without_a_state_key_cites_as_a_message(self) -> None:
        self.assertEqual(self.keys(V11, "m.room.member", None, {"membership": "join"}), {LEVELS, member(ALICE)})
