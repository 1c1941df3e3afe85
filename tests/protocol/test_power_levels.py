# SPDX-License-Identifier: Apache-2.0
"""How power levels are read, and what they default to."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.errors import Rejected
from homeserver.protocol.power_levels import CREATOR_LEVEL, PowerLevels, creators_of, parse_level
from homeserver.protocol.room_versions import ROOM_VERSIONS, V1, V6, V9, V10, V11, V12, RoomVersion
from tests.protocol.dag import ALICE, ALL, BOB, CAROL, Room


def levels(version: RoomVersion, content: dict[str, Any] | None, create: dict[str, Any] | None = None) -> PowerLevels:
    room = Room(version, create)
    event = None if content is None else room.event("m.room.power_levels", content, ALICE, "")
    return PowerLevels.of(version, room.create, event)


class Values(SynchronousTestCase):
    def test_integers_are_levels_in_every_version(self) -> None:
        for version in ALL:
            for value in (0, -5, 100, 2**53 - 1):
                self.assertEqual(parse_level(version, value), value)

    def test_strings_that_hold_an_integer_are_levels_before_version_10(self) -> None:
        for text, level in [
            ("100", 100),
            ("000100", 100),
            ("+100", 100),
            ("-100", -100),
            (" 100 ", 100),
            (" -00100\t", -100),
        ]:
            for version in ALL:
                self.assertEqual(parse_level(version, text), level if version.string_levels else None)

    def test_other_strings_are_not(self) -> None:
        for text in ("", " ", "abc", "1.0", "1e2", "1_000", "+-1", "- 1", "٣", "0x10", "9" * 5000):
            self.assertIsNone(parse_level(V1, text), text[:10])

    def test_floats_are_cut_at_the_point_before_version_6(self) -> None:
        for value, level in [(50.57, 50), (-50.57, -50), (5.114698e4, 51146), (1e300, int(1e300))]:
            for version in ALL:
                self.assertEqual(parse_level(version, value), level if version.float_levels else None)
        for value in (float("inf"), float("-inf"), float("nan")):
            self.assertIsNone(parse_level(V1, value))

    def test_long_strings_are_levels_only_where_json_is_not_strict(self) -> None:
        self.assertEqual(parse_level(V1, "9" * 20), int("9" * 20))
        self.assertIsNone(parse_level(V6, "9" * 20))
        self.assertEqual(parse_level(V9, str(2**53 - 1)), 2**53 - 1)

    def test_nothing_else_is_a_level(self) -> None:
        for value in (None, True, False, [], {}, [1]):
            for version in ALL:
                self.assertIsNone(parse_level(version, value))


class Defaults(SynchronousTestCase):
    def test_without_an_event_the_creator_has_100_or_no_limit(self) -> None:
        for version in ALL:
            found = levels(version, None)
            self.assertEqual(found.user(ALICE), CREATOR_LEVEL if version.creators_are_privileged else 100)
            self.assertEqual(found.user(BOB), 0)
            self.assertEqual((found.for_event("m.room.message", False), found.for_event("m.room.name", True)), (0, 50))

    def test_an_empty_event_has_the_defaults_of_the_specification(self) -> None:
        for version in ALL:
            found = levels(version, {})
            self.assertEqual((found.ban, found.kick, found.redact, found.invite), (50, 50, 50, 0))
            self.assertEqual((found.users_default, found.events_default, found.state_default), (0, 0, 50))
            self.assertEqual((found.for_event("x", False), found.for_event("x", True)), (0, 50))
            self.assertEqual(found.notification("room"), 50)

    def test_with_an_event_the_creator_is_as_listed_before_version_12(self) -> None:
        for version in ALL:
            for content in ({}, {"users": {BOB: 50}}):
                self.assertEqual(levels(version, content).user(ALICE), CREATOR_LEVEL if version is V12 else 0)

    def test_no_number_reaches_a_creator(self) -> None:
        self.assertGreater(CREATOR_LEVEL, 2**4000)

    def test_nulls_count_as_absent_where_they_could_get_in(self) -> None:
        found = levels(V9, {"ban": None, "users": {BOB: None}, "events": {"x": None}})
        self.assertEqual((found.ban, found.user(BOB), found.for_event("x", True)), (50, 0, 50))


class Stated(SynchronousTestCase):
    def test_stated_levels_are_found(self) -> None:
        content = {
            "users": {BOB: 40},
            "users_default": 5,
            "events": {"m.room.name": 60},
            "events_default": 1,
            "state_default": 30,
            "ban": 61,
            "kick": 62,
            "redact": 63,
            "invite": 64,
            "notifications": {"room": 20},
        }
        for version in ALL:
            found = levels(version, content)
            self.assertEqual((found.user(BOB), found.user(CAROL)), (40, 5))
            self.assertEqual([found.for_event(t, True) for t in ("m.room.name", "x")], [60, 30])
            self.assertEqual([found.for_event(t, False) for t in ("m.room.name", "x")], [60, 1])
            self.assertEqual((found.ban, found.kick, found.redact, found.invite), (61, 62, 63, 64))
            self.assertEqual((found.notification("room"), found.notification("other")), (20, 50))
            self.assertTrue(found.may_send(BOB, "x", True))
            self.assertFalse(found.may_send(CAROL, "x", True))

    def test_strings_are_understood_before_version_10(self) -> None:
        content = {"users": {BOB: " +40"}, "ban": "61", "events": {"x": "7"}, "notifications": {"room": "8"}}
        found = levels(V9, content)
        self.assertEqual((found.user(BOB), found.ban, found.for_event("x", True)), (40, 61, 7))
        self.assertEqual(found.notification("room"), 8)

    def test_a_level_that_is_none_rejects_whoever_asks_for_it(self) -> None:
        found = levels(V9, {"users": {BOB: "x"}, "ban": [], "events": {"x": {}}, "notifications": {"room": "x"}})
        self.assertRaises(Rejected, found.user, BOB)
        self.assertRaises(Rejected, lambda: found.ban)
        self.assertRaises(Rejected, found.for_event, "x", True)
        self.assertEqual((found.user(CAROL), found.kick, found.notification("room")), (0, 50, 50))
        found = levels(V9, {"users": [], "events": "x"})
        self.assertRaises(Rejected, found.user, BOB)
        self.assertRaises(Rejected, found.for_event, "x", True)

    def test_listed_users_have_valid_levels(self) -> None:
        self.assertEqual(levels(V9, {"users": {BOB: "50", CAROL: []}}).listed_users(), {BOB: 50})
        self.assertEqual(levels(V11, None).listed_users(), {ALICE: 100})
        self.assertEqual(levels(V12, {"users": {BOB: 50}}).listed_users(), {ALICE: CREATOR_LEVEL, BOB: 50})


class Creators(SynchronousTestCase):
    def test_who_counts_as_creator_per_version(self) -> None:
        content = {"creator": BOB, "additional_creators": [CAROL, 7]}
        for version in ROOM_VERSIONS.values():
            found = creators_of(version, Room(version, content).create)
            if version.creators_are_privileged:
                self.assertEqual(found, {ALICE, CAROL})
            else:
                self.assertEqual(found, {BOB} if version.creator_in_content else {ALICE})

    def test_a_malformed_creator_is_nobody(self) -> None:
        self.assertEqual(creators_of(V10, Room(V10, {"creator": 7}).create), frozenset())
        self.assertEqual(creators_of(V12, Room(V12, {"additional_creators": "x"}).create), {ALICE})
