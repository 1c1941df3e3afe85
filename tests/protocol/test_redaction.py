# SPDX-License-Identifier: Apache-2.0
"""What survives a redaction, per room version."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.redaction import applies, redact, redact_content
from homeserver.protocol.room_versions import ROOM_VERSIONS

TOP_LEVEL = {
    name: name
    for name in (
        "event_id type room_id sender state_key hashes signatures depth prev_events prev_state auth_events origin"
        " origin_server_ts membership redacts unsigned age other"
    ).split()
}
MEMBER = {
    "membership": "join",
    "displayname": "A",
    "join_authorised_via_users_server": "@a:b",
    "third_party_invite": {"display_name": "x", "signed": {"token": "t"}},
}
LEVELS = {
    name: 1
    for name in "ban events events_default kick redact state_default users users_default invite notifications x".split()
}
OLD_LEVELS = {name for name in LEVELS if name not in ("invite", "notifications", "x")}

# (event type, content, versions, keys that survive)
CASES: list[tuple[str, dict[str, Any], range, set[str]]] = [
    ("m.room.member", MEMBER, range(1, 9), {"membership"}),
    ("m.room.member", MEMBER, range(9, 11), {"membership", "join_authorised_via_users_server"}),
    ("m.room.member", MEMBER, range(11, 13), {"membership", "join_authorised_via_users_server", "third_party_invite"}),
    ("m.room.create", {"creator": "@a:b", "room_version": "1", "x": 1}, range(1, 11), {"creator"}),
    (
        "m.room.create",
        {"creator": "@a:b", "room_version": "1", "x": 1},
        range(11, 13),
        {"creator", "room_version", "x"},
    ),
    ("m.room.join_rules", {"join_rule": "x", "allow": [], "x": 1}, range(1, 8), {"join_rule"}),
    ("m.room.join_rules", {"join_rule": "x", "allow": [], "x": 1}, range(8, 13), {"join_rule", "allow"}),
    ("m.room.power_levels", LEVELS, range(1, 11), OLD_LEVELS),
    ("m.room.power_levels", LEVELS, range(11, 13), OLD_LEVELS | {"invite"}),
    ("m.room.history_visibility", {"history_visibility": "joined", "x": 1}, range(1, 13), {"history_visibility"}),
    ("m.room.aliases", {"aliases": [], "x": 1}, range(1, 6), {"aliases"}),
    ("m.room.aliases", {"aliases": [], "x": 1}, range(6, 13), set()),
    ("m.room.redaction", {"redacts": "$a", "reason": "x"}, range(1, 11), set()),
    ("m.room.redaction", {"redacts": "$a", "reason": "x"}, range(11, 13), {"redacts"}),
    ("m.room.message", {"body": "x"}, range(1, 13), set()),
    ("m.room.server_acl", {"allow": ["*"]}, range(1, 13), set()),
]


class Redaction(SynchronousTestCase):
    def test_the_content_keys_that_survive(self) -> None:
        for event_type, content, versions, kept in CASES:
            for number in versions:
                left = redact_content(ROOM_VERSIONS[str(number)], event_type, content)
                self.assertEqual(set(left), kept, (event_type, number))

    def test_the_top_level_keys_that_survive(self) -> None:
        gone = {"redacts", "unsigned", "age", "other"}
        for version in ROOM_VERSIONS.values():
            left = redact(version, {**TOP_LEVEL, "content": {"body": "x"}})
            expected = (
                TOP_LEVEL.keys()
                - gone
                - ({"prev_state", "origin", "membership"} if version.redaction_of_v11 else set())
            )
            self.assertEqual(left.keys(), expected | {"content"})
            self.assertEqual(left["content"], {})

    def test_of_a_third_party_invite_only_the_signed_part_survives(self) -> None:
        version = ROOM_VERSIONS["11"]
        left = redact_content(version, "m.room.member", MEMBER)
        self.assertEqual(left["third_party_invite"], {"signed": {"token": "t"}})
        self.assertEqual(
            redact_content(version, "m.room.member", {"third_party_invite": {"x": 1}}), {"third_party_invite": {}}
        )
        self.assertEqual(redact_content(version, "m.room.member", {"third_party_invite": "x"}), {})

    def test_the_original_is_not_changed(self) -> None:
        pdu = {**TOP_LEVEL, "type": "m.room.member", "content": dict(MEMBER)}
        redact(ROOM_VERSIONS["12"], pdu)
        self.assertEqual(pdu, {**TOP_LEVEL, "type": "m.room.member", "content": MEMBER})

    def test_redacting_twice_changes_nothing_more(self) -> None:
        for version in ROOM_VERSIONS.values():
            for event_type, content, _, _ in CASES:
                once = redact(version, {**TOP_LEVEL, "type": event_type, "content": content})
                self.assertEqual(redact(version, once), once)

    def test_a_redaction_applies_by_level_or_by_server(self) -> None:
        self.assertTrue(applies(50, 50, "@a:a", "@b:b"))
        self.assertTrue(applies(0, 50, "@a:a", "@b:a"))
        self.assertFalse(applies(49, 50, "@a:a", "@b:b"))
