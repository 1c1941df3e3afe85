# SPDX-License-Identifier: Apache-2.0
"""The authorization rules outside of membership and power levels, rule by rule."""

from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.auth_rules import authorize, check_auth_events
from homeserver.protocol.errors import Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import ROOM_VERSIONS, V11, V12, RoomVersion
from tests.protocol.dag import ALICE, ALL, BOB, CAROL, Room, State, versions


class AuthCase(SynchronousTestCase):
    """Asks the rules."""

    def allows(self, event: Event, state: Mapping[StateKey, Event]) -> None:
        authorize(event.version, event, state)

    def rejects(self, rule: str, event: Event, state: Mapping[StateKey, Event]) -> None:
        try:
            authorize(event.version, event, state)
        except Rejected as error:
            self.assertEqual(error.rule, rule, f"version {event.version.id}: {error}")
        else:
            self.fail(f"version {event.version.id} allows {event}, expected rule {rule}")


class Create(AuthCase):
    def create(self, version: RoomVersion, content: dict[str, Any], **pdu: Any) -> Event:
        base: dict[str, Any] = {
            "type": "m.room.create",
            "state_key": "",
            "sender": ALICE,
            "content": content,
            "prev_events": [],
            "auth_events": [],
            "depth": 1,
            "origin_server_ts": 1,
        }
        if not version.room_id_is_create_hash:
            base["room_id"] = "!room:a.org"
        return Event(version, {**base, **pdu}, "$create")

    def test_a_good_create_event_is_allowed(self) -> None:
        for version in ALL:
            self.allows(self.create(version, {"creator": ALICE, "room_version": version.id}), {})
            self.allows(self.create(version, {"creator": ALICE}), {})

    def test_it_follows_no_other_event(self) -> None:
        for version in ALL:
            previous = [["$x", {"sha256": "x"}]] if version.references_carry_hashes else ["$x"]
            self.rejects("1.1", self.create(version, {"creator": ALICE}, prev_events=previous), {})

    def test_before_version_12_the_room_id_is_of_the_senders_server(self) -> None:
        for version in versions(room_id_is_create_hash=False):
            self.rejects("v1:1.2", self.create(version, {"creator": ALICE}, room_id="!room:b.org"), {})

    def test_in_version_12_it_has_no_room_id(self) -> None:
        self.rejects("1.2", self.create(V12, {}, room_id="!create"), {})

    def test_the_room_version_is_known(self) -> None:
        for version in ALL:
            for unknown in ("999", 1, None, ""):
                self.rejects("1.3", self.create(version, {"creator": ALICE, "room_version": unknown}), {})

    def test_up_to_version_10_it_names_the_creator(self) -> None:
        for version in versions(creator_in_content=True):
            self.rejects("v1:1.4", self.create(version, {}), {})
        for version in versions(creator_in_content=False):
            self.allows(self.create(version, {}), {})

    def test_in_version_12_additional_creators_are_user_ids(self) -> None:
        for good in ([], [BOB, CAROL], ["@:a.org"]):
            self.allows(self.create(V12, {"additional_creators": good}), {})
        for bad in (BOB, None, {}, [7], ["bob"], [BOB, None], ["@" + "a" * 300 + ":a.org"]):
            self.rejects("1.4", self.create(V12, {"additional_creators": bad}), {})
            self.allows(self.create(V11, {"additional_creators": bad}), {})


class RoomId(AuthCase):
    def test_without_a_create_event_nothing_is_allowed(self) -> None:
        for version in ALL:
            room = Room(version)
            self.rejects("3.4", room.event("m.room.message", {}), {})

    def test_in_version_12_the_room_id_is_that_of_the_create_event(self) -> None:
        room, other = Room(V12), Room(V12, {"other": True})
        state = room.open()
        self.allows(room.event("m.room.message", {}, state=state), state)
        self.rejects("2", other.event("m.room.message", {}), state)


class Federation(AuthCase):
    def test_a_room_that_is_not_federated_keeps_other_servers_out(self) -> None:
        for version in ALL:
            room = Room(version, {"m.federate": False})
            state = room.open()
            self.allows(room.member("@dave:a.org", "join", state), state)
            self.rejects("4", room.member(BOB, "join", state), state)

    def test_any_other_value_lets_them_in(self) -> None:
        for value in (True, "false", 0, None):
            room = Room(V11, {"m.federate": value})
            state = room.open()
            self.allows(room.member(BOB, "join", state), state)


class Aliases(AuthCase):
    def test_up_to_version_5_aliases_pass_by_server_alone(self) -> None:
        for version in versions(aliases_are_special=True):
            room = Room(version)
            state = room.open()
            self.allows(room.event("m.room.aliases", {}, CAROL, "c.org", state), state)
            self.rejects("v1:4.2", room.event("m.room.aliases", {}, CAROL, "a.org", state), state)
            self.rejects("v1:4.1", room.event("m.room.aliases", {}, CAROL, None, state), state)

    def test_from_version_6_on_they_are_ordinary_state(self) -> None:
        for version in versions(aliases_are_special=False):
            room = Room(version)
            state = room.open(members=[BOB])
            self.rejects("6", room.event("m.room.aliases", {}, CAROL, "c.org", state), state)
            self.rejects("8", room.event("m.room.aliases", {}, BOB, "b.org", state), state)
            self.allows(room.event("m.room.aliases", {}, ALICE, "x", state), state)


class Ordinary(AuthCase):
    def test_members_send_and_others_do_not(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.open(members=[BOB])
            self.allows(room.event("m.room.message", {}, BOB, state=state), state)
            self.rejects("6", room.event("m.room.message", {}, CAROL, state=state), state)
            for membership in ("leave", "ban", "invite", "knock"):
                state[("m.room.member", CAROL)] = room.member(CAROL, membership, state)
                self.rejects("6", room.event("m.room.message", {}, CAROL, state=state), state)

    def test_the_required_level_of_the_type_counts(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.open(
                {"events": {"m.x": 10, "m.y": 0}, "users": {ALICE: 100, BOB: 10}} | room_users(version), members=[BOB]
            )
            self.allows(room.event("m.x", {}, BOB, state=state), state)
            self.allows(room.event("m.x", {}, BOB, "", state), state)
            self.allows(room.event("m.y", {}, BOB, "", state), state)
            self.rejects("8", room.event("m.room.topic", {}, BOB, "", state), state)
            self.allows(room.event("m.room.topic", {}, ALICE, "", state), state)

    def test_without_power_levels_only_the_creator_sets_state(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.state()
            for user in (ALICE, BOB):
                state[("m.room.member", user)] = room.member(user, "join", state)
            self.allows(room.event("m.room.topic", {}, ALICE, "", state), state)
            self.rejects("8", room.event("m.room.topic", {}, BOB, "", state), state)
            self.allows(room.event("m.room.message", {}, BOB, state=state), state)

    def test_a_state_key_that_starts_with_an_at_sign_is_the_senders(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.open({"state_default": 0}, members=[BOB])
            self.allows(room.event("m.x", {}, BOB, BOB, state), state)
            self.allows(room.event("m.x", {}, BOB, "x" + ALICE, state), state)
            self.rejects("9", room.event("m.x", {}, BOB, ALICE, state), state)
            self.rejects("9", room.event("m.x", {}, ALICE, "@", state), state)

    def test_offering_a_third_party_invite_takes_the_invite_level(self) -> None:
        for version in ALL:
            room = Room(version)
            state = room.open({"invite": 50, "events": {"m.room.third_party_invite": 0}}, members=[BOB])
            self.allows(room.event("m.room.third_party_invite", {}, ALICE, "t", state), state)
            self.rejects("7.1", room.event("m.room.third_party_invite", {}, BOB, "t", state), state)
            self.rejects("6", room.event("m.room.third_party_invite", {}, CAROL, "t", state), state)
            state = room.open({"invite": 0}, members=[BOB])
            self.allows(room.event("m.room.third_party_invite", {}, BOB, "t", state), state)

    def test_levels_that_the_caller_keeps_are_used(self) -> None:
        room = Room(V11)
        state = room.open({"events_default": 50}, members=[BOB])
        event = room.event("m.room.message", {}, BOB, state=state)
        self.rejects("8", event, state)
        authorize(V11, event, state, PowerLevels.of(V11, room.create, None))


class Redactions(AuthCase):
    def state(self, room: Room) -> State:
        return room.open(members=[BOB, CAROL])

    def test_in_versions_1_and_2_the_level_or_the_server_of_the_event_decides(self) -> None:
        for version in versions(redaction_is_auth_rule=True):
            room = Room(version)
            state = self.state(room)
            self.allows(room.event("m.room.redaction", {}, ALICE, state=state, redacts="$x:b.org"), state)
            self.allows(room.event("m.room.redaction", {}, BOB, state=state, redacts="$x:b.org"), state)
            self.rejects("v1:11.3", room.event("m.room.redaction", {}, CAROL, state=state, redacts="$x:b.org"), state)
            self.rejects("v1:11.3", room.event("m.room.redaction", {}, CAROL, state=state), state)

    def test_from_version_3_on_it_is_an_ordinary_event(self) -> None:
        for version in versions(redaction_is_auth_rule=False):
            room = Room(version)
            state = self.state(room)
            for content in ({"redacts": "$x"}, {}):
                self.allows(room.event("m.room.redaction", content, CAROL, state=state, redacts="$x"), state)
            state = room.open({"events": {"m.room.redaction": 50}}, members=[CAROL])
            self.rejects("8", room.event("m.room.redaction", {}, CAROL, state=state), state)


class AuthEvents(SynchronousTestCase):
    def rejects(self, rule: str, event: Event, auth: list[Event], rejected: set[str] | None = None) -> None:
        error = self.assertRaises(Rejected, check_auth_events, event.version, event, auth, rejected or set())
        self.assertEqual(error.rule, rule)

    def test_the_selected_ones_are_allowed(self) -> None:
        for version in ROOM_VERSIONS.values():
            room = Room(version)
            state = room.open(members=[BOB])
            for event in room.events.values():
                check_auth_events(version, event, [room.events[auth] for auth in event.auth_event_ids])
            self.assertIn(("m.room.member", BOB), state)

    def test_the_wrong_ones_are_not(self) -> None:
        for version in ROOM_VERSIONS.values():
            room, other = Room(version), Room(version, {"x": 1})
            state = room.open(members=[BOB])
            event = room.event("m.room.message", {}, BOB, state=state)
            good = [room.events[auth] for auth in event.auth_event_ids]
            second = room.member(BOB, "join", state)
            self.rejects("3.1", event, [*good, second])
            self.rejects("3.2", event, [*good, state[("m.room.join_rules", "")]])
            self.rejects("3.2", event, [*good, room.event("m.room.message", {})])
            self.rejects("3.3", event, good, {good[-1].event_id})
            if version.create_in_auth_events:
                self.rejects("v1:2.4", event, [auth for auth in good if auth != room.create])
            else:
                self.rejects("3.2", event, [*good, room.create])
            if version.room_id_is_create_hash:
                self.rejects("3.5", event, [other.open()[("m.room.power_levels", "")]])

    def test_events_of_another_room_are_not(self) -> None:
        for version in versions(room_id_is_create_hash=False):
            room = Room(version)
            state = room.open()
            room.room_id = "!other:a.org"
            event = room.event("m.room.message", {}, state=state)
            self.rejects("3.5", event, [room.events[auth] for auth in event.auth_event_ids])


def room_users(version: RoomVersion) -> dict[str, Any]:
    """The levels of Alice and Bob in the form that the version demands."""
    return {"users": {BOB: 10}} if version.creators_are_privileged else {"users": {ALICE: 100, BOB: 10}}
