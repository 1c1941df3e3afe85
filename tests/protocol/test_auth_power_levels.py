# SPDX-License-Identifier: Apache-2.0
"""Rule 10: who may change which power level, per version."""

from typing import Any

from homeserver.protocol.room_versions import V5, V6, V9, V10, V11, V12, RoomVersion
from tests.protocol.dag import ALICE, ALL, BOB, CAROL, DAVE, Room, State, versions
from tests.protocol.test_auth_rules import AuthCase

NAMED = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")


class LevelsCase(AuthCase):
    """A room where Bob, at level 50, sends power levels."""

    def room(self, version: RoomVersion, current: dict[str, Any]) -> tuple[Room, State]:
        room = Room(version)
        users = {BOB: 50, CAROL: 50, DAVE: 49, **({} if version.creators_are_privileged else {ALICE: 100})}
        content = {"events": {"m.room.power_levels": 0}, "state_default": 0, **current}
        content["users"] = {**users, **current.get("users", {})}
        return room, room.open(content, members=(BOB, CAROL, DAVE))

    def change(
        self,
        rule: str | None,
        version: RoomVersion,
        current: dict[str, Any],
        changes: dict[str, Any],
        gone: tuple[str, ...] = (),
        sender: str = BOB,
    ) -> None:
        """Bob changes some keys and drops others; a dictionary among the changes is merged, None in it drops."""
        room, state = self.room(version, current)
        content = dict(state[("m.room.power_levels", "")].content)
        for name, value in changes.items():
            if isinstance(value, dict) and isinstance(content.get(name, {}), dict):
                merged = {**content.get(name, {}), **value}
                content[name] = {key: level for key, level in merged.items() if level is not None}
            else:
                content[name] = value
        for name in gone:
            del content[name]
        event = room.event("m.room.power_levels", content, sender, "", state)
        if rule is None:
            self.allows(event, state)
        else:
            self.rejects(rule, event, state)


class Form(LevelsCase):
    def test_from_version_10_on_every_level_is_an_integer(self) -> None:
        for version in ALL:
            for name in NAMED:
                for value in ("0", None, 1.0, True, [], {}):
                    if version.integer_levels:
                        self.change("10.1", version, {}, {name: value})
            self.change(None, version, {}, {name: 1 for name in NAMED})

    def test_from_version_10_on_events_and_notifications_are_objects_of_integers(self) -> None:
        for version in versions(integer_levels=True):
            for name in ("events", "notifications"):
                for value in (None, [], "x", 7):
                    self.change("10.2", version, {}, {name: value})
                for value in ("0", True, 1.5, [], {}):
                    self.change("10.2", version, {}, {name: {"x": value}})

    def test_before_version_10_strings_pass(self) -> None:
        for version in versions(string_levels=True):
            self.change(None, version, {}, {"ban": " +50 ", "events": {"x": "007"}, "users": {"@new:x": "-3"}})
            self.change("10.3", version, {}, {"users": {"@new:x": "x"}})
            self.change("10.3", version, {}, {"users": {"@new:x": "1.5"}})
            self.change("10.3", version, {}, {"users": {"@new:x": True}})

    def test_up_to_version_5_floats_pass(self) -> None:
        self.change(None, V5, {}, {"users": {"@new:x": 49.9}, "ban": 50.9})
        self.change("10.3", V6, {}, {"users": {"@new:x": 49.9}})

    def test_users_is_an_object_of_user_ids(self) -> None:
        for version in ALL:
            for value in (None, [], "x", 7):
                self.change("10.3", version, {}, {"users": value})
            for name in ("", "bob", "@bob", "bob:b.org", "#a:b.org"):
                self.change("10.3", version, {}, {"users": {name: 0}})
            self.change(None, version, {}, {"users": {"@Historical Name:b.org": 0}})

    def test_users_may_be_missing(self) -> None:
        for version in ALL:
            room, state = self.room(version, {})
            del state[("m.room.power_levels", "")]
            event = room.event("m.room.power_levels", {}, ALICE, "", state)
            self.allows(event, state)

    def test_from_version_6_to_9_the_size_of_strings_is_limited(self) -> None:
        self.change("10.3", V9, {}, {"users": {"@new:x": "-" + "9" * 20}})
        self.change(None, V5, {}, {"users": {"@new:x": "-" + "9" * 20}})


class First(LevelsCase):
    def test_the_first_levels_may_be_anything_of_good_form(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.state()
            state[("m.room.member", ALICE)] = room.member(ALICE, "join", state)
            content = {"users": {BOB: 2**53 - 1}, "ban": 2**53 - 1}
            self.allows(room.event("m.room.power_levels", content, ALICE, "", state), state)

    def test_in_version_12_creators_are_not_listed(self) -> None:
        for version in ALL:
            room = Room(version, {"additional_creators": [CAROL]})
            state = room.state()
            state[("m.room.member", ALICE)] = room.member(ALICE, "join", state)
            for creator in (ALICE, CAROL):
                event = room.event("m.room.power_levels", {"users": {creator: 100}}, ALICE, "", state)
                if version.creators_are_privileged:
                    self.rejects("10.4", event, state)
                else:
                    self.allows(event, state)


class Change(LevelsCase):
    def test_named_levels_move_below_the_senders(self) -> None:
        for version in ALL:
            for name in NAMED[3:]:
                self.change(None, version, {name: 50}, {name: 49})
                self.change(None, version, {name: 0}, {name: 50})
                self.change(None, version, {}, {name: 50})
                self.change(None, version, {name: 50}, {}, gone=(name,))

    def test_named_levels_above_the_senders_stay(self) -> None:
        for version in ALL:
            for name in NAMED[3:]:
                self.change("10.6", version, {name: 51}, {name: 50})
                self.change("10.6", version, {name: 0}, {name: 51})
                self.change("10.6", version, {}, {name: 51})
                self.change("10.6", version, {name: 51}, {}, gone=(name,))
                self.change(None, version, {name: 51}, {})

    def test_entries_of_events_follow_the_same_rule(self) -> None:
        for version in ALL:
            self.change(None, version, {"events": {"x": 50}}, {"events": {"x": 0, "y": 50}})
            self.change(None, version, {"events": {"x": 50}}, {"events": {"x": None}})
            self.change("10.7", version, {"events": {"x": 51}}, {"events": {"x": 50}})
            self.change("10.7", version, {"events": {"x": 51}}, {"events": {"x": None}})
            self.change("10.7", version, {}, {"events": {"x": 51}})
            self.change("10.7", version, {"events": {"x": 50}}, {"events": {"x": 51}})

    def test_entries_of_notifications_do_from_version_6_on(self) -> None:
        for version in ALL:
            rule = "10.7" if version.notifications_levels_protected else None
            self.change(None, version, {"notifications": {"room": 50}}, {"notifications": {"room": 20}})
            self.change(rule, version, {"notifications": {"room": 51}}, {"notifications": {"room": 50}})
            self.change(rule, version, {"notifications": {"room": 51}}, {"notifications": {"room": None}})
            self.change(rule, version, {}, {"notifications": {"room": 51}})

    def test_a_users_level_is_changed_by_those_above_only(self) -> None:
        for version in ALL:
            self.change(None, version, {}, {"users": {DAVE: 50}})
            self.change(None, version, {}, {"users": {DAVE: None}})
            self.change("10.9", version, {}, {"users": {CAROL: 49}})
            self.change("10.9", version, {}, {"users": {CAROL: None}})
            self.change("10.9", version, {"users": {CAROL: 51}}, {"users": {CAROL: 0}})

    def test_nobody_gets_more_than_the_sender_has(self) -> None:
        for version in ALL:
            self.change(None, version, {}, {"users": {"@new:x": 50}})
            self.change("10.10", version, {}, {"users": {"@new:x": 51}})
            self.change("10.10", version, {}, {"users": {DAVE: 51}})
            self.change("10.10", version, {}, {"users": {BOB: 51}})

    def test_everybody_may_give_up_their_own_level(self) -> None:
        for version in ALL:
            self.change(None, version, {}, {"users": {BOB: 0}})
            self.change(None, version, {}, {"users": {BOB: None}})

    def test_the_level_of_somebody_above_does_not_change(self) -> None:
        for version in versions(creators_are_privileged=False):
            self.change("10.9", version, {}, {"users": {ALICE: 50}})
            self.change("10.9", version, {}, {"users": {ALICE: 100, CAROL: 0}})

    def test_the_same_level_written_otherwise_is_no_change(self) -> None:
        for version in versions(string_levels=True):
            self.change(None, version, {"ban": 60, "users": {CAROL: 50}}, {"ban": "60", "users": {CAROL: "050"}})
            self.change("10.6", version, {"ban": "60"}, {"ban": "50"})

    def test_malformed_levels_that_the_old_rules_let_in_are_not_changed_nor_added(self) -> None:
        self.change("10.3", V9, {}, {"ban": "x"})
        self.change("10.2", V9, {}, {"notifications": "x"})
        self.change("10.2", V9, {}, {"events": ["x"]})
        self.change(None, V5, {}, {"notifications": "x"})

    def test_creators_of_version_12_set_any_level(self) -> None:
        changes = {"ban": 2**53 - 1, "users": {BOB: 2**53 - 1, CAROL: 0}, "events": {"x": 2**53 - 1}}
        self.change(None, V12, {"kick": 1000}, {**changes, "kick": 0}, sender=ALICE)
        self.change("10.6", V11, {"kick": 1000}, {**changes, "kick": 0}, sender=ALICE)
        self.change("10.6", V10, {}, changes, sender=ALICE)
