# SPDX-License-Identifier: Apache-2.0
"""Which PDUs have the format of their room version."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.event_format import MAX_EVENT_BYTES, check_pdu, is_valid_pdu
from homeserver.protocol.room_versions import V1, V11, V12, RoomVersion
from tests.protocol.dag import ALICE, ALL, Room

ABSENT = object()
HASH = {"sha256": "x"}


def pdu(version: RoomVersion, **changes: Any) -> dict[str, Any]:
    room = Room(version)
    base = room.event("m.room.topic", {"topic": "x"}, ALICE, "", room.open()).pdu
    return {key: value for key, value in {**base, **changes}.items() if value is not ABSENT}


def reference(version: RoomVersion, event_id: Any) -> Any:
    return [event_id, HASH] if version.references_carry_hashes else event_id


class Format(SynchronousTestCase):
    def accepts(self, version: RoomVersion, **changes: Any) -> None:
        value = pdu(version, **changes)
        self.assertIs(check_pdu(version, value), value)

    def refuses(self, version: RoomVersion, errcode: str = "M_BAD_JSON", **changes: Any) -> None:
        value = pdu(version, **changes)
        error = self.assertRaises(MatrixError, check_pdu, version, value)
        self.assertEqual(error.errcode, errcode, changes)
        self.assertFalse(is_valid_pdu(version, value))

    def test_good_events_pass(self) -> None:
        for version in ALL:
            self.accepts(version)
            self.accepts(version, state_key=ABSENT)
            self.accepts(version, unsigned={"age": 1}, extra={"anything": [None]}, origin="a.org")
            self.accepts(version, prev_events=[], auth_events=[])
            self.accepts(version, depth=0, origin_server_ts=0)
            self.accepts(version, sender="@Historical Name:a.org", type="")
            self.assertTrue(is_valid_pdu(version, pdu(version)))

    def test_required_fields_are_there_and_of_their_type(self) -> None:
        bad: dict[str, list[Any]] = {
            "type": [ABSENT, None, 7, []],
            "sender": [ABSENT, None, 7, "alice", "@alice", "#a:a.org", "@a\x00:a.org"],
            "content": [ABSENT, None, [], "x"],
            "depth": [ABSENT, None, "1", True, -1, []],
            "origin_server_ts": [ABSENT, None, "1", True, []],
            "hashes": [ABSENT, None, [], {}, {"sha256": 7}, {"sha512": "x"}],
            "signatures": [ABSENT, None, [], {"a.org": "x"}, {"a.org": None}],
            "prev_events": [ABSENT, None, {}, "x"],
            "auth_events": [ABSENT, None, {}, "x"],
            "room_id": [ABSENT, None, 7, "room", "!", "#a:a.org"],
            "state_key": [None, 7, []],
            "unsigned": [None, [], "x"],
        }
        for version in ALL:
            for name, values in bad.items():
                for value in values:
                    self.refuses(version, **{name: value})

    def test_what_is_no_object_is_no_event(self) -> None:
        for value in (None, [], "x", 7):
            self.assertRaises(MatrixError, check_pdu, V11, value)

    def test_versions_1_and_2_send_the_event_id(self) -> None:
        for version in ALL:
            for value in (ABSENT, None, 7, "x", "$x", "$" + "a" * 43):
                if version.sends_event_id:
                    self.refuses(version, event_id=value)
                elif value in (ABSENT, "x"):
                    self.accepts(version, event_id=value)
        self.accepts(V1, event_id="$x:other.org")

    def test_references_have_the_form_of_the_version(self) -> None:
        for version in ALL:
            good = reference(version, "$" + "a" * 43)
            self.accepts(version, prev_events=[good], auth_events=[good])
            other = "$" + "a" * 43 if version.references_carry_hashes else ["$" + "a" * 43, HASH]
            for bad in (
                other,
                reference(version, 7),
                reference(version, "x"),
                reference(version, "$" + "a" * 255),
                None,
                [],
                ["$a:b"],
            ):
                self.refuses(version, prev_events=[good, bad])
                self.refuses(version, auth_events=[good, bad])

    def test_at_most_20_previous_and_10_auth_events(self) -> None:
        for version in ALL:
            good = reference(version, "$a:b")
            self.accepts(version, prev_events=[good] * 20, auth_events=[good] * 10)
            self.refuses(version, prev_events=[good] * 21)
            self.refuses(version, auth_events=[good] * 11)

    def test_the_greatest_depth_is_that_of_the_version(self) -> None:
        for version in ALL:
            self.accepts(version, depth=version.max_depth)
            self.refuses(version, depth=version.max_depth + 1)

    def test_times_fit_64_bits(self) -> None:
        self.accepts(V1, origin_server_ts=2**63 - 1)
        self.refuses(V1, origin_server_ts=2**63)

    def test_canonical_json_is_enforced_from_version_6_on(self) -> None:
        for version in ALL:
            for content in ({"a": 1.5}, {"a": {"b": [2**53]}}):
                if version.strict_json:
                    self.refuses(version, content=content)
                else:
                    self.accepts(version, content=content)

    def test_identifiers_types_and_state_keys_have_at_most_255_bytes(self) -> None:
        for version in ALL:
            self.accepts(version, type="t" * 255, state_key="s" * 255)
            for changes in ({"type": "t" * 256}, {"state_key": "ä" * 128}, {"sender": "@" + "a" * 255 + ":a.org"}):
                self.refuses(version, "M_TOO_LARGE", **changes)
        self.refuses(V11, "M_TOO_LARGE", room_id="!" + "a" * 255 + ":a.org")
        self.refuses(V1, "M_TOO_LARGE", event_id="$" + "a" * 255 + ":a.org")

    def test_an_event_has_at_most_65536_bytes(self) -> None:
        for version in ALL:
            room = len(canonical_json.encode(pdu(version, content={"b": ""})))
            self.accepts(version, content={"b": "x" * (MAX_EVENT_BYTES - room)})
            self.refuses(version, "M_TOO_LARGE", content={"b": "x" * (MAX_EVENT_BYTES - room + 1)})

    def test_nesting_without_end_is_refused(self) -> None:
        value: Any = 1
        for _ in range(2000):
            value = [value]
        for version in ALL:
            self.refuses(version, content={"a": value})

    def test_only_the_create_event_of_version_12_has_no_room_id(self) -> None:
        check_pdu(V12, Room(V12).create.pdu)
        self.refuses(V12, room_id=ABSENT, type="m.room.create", state_key="x")
        self.refuses(V12, room_id=ABSENT, type="m.room.create", state_key=ABSENT)
        self.refuses(V11, room_id=ABSENT, type="m.room.create")
