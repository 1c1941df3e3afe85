# SPDX-License-Identifier: Apache-2.0
"""The switches of the room versions, against the table of the comparison page."""

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.room_versions import DEFAULT, ROOM_VERSIONS, EventIdFormat, StateResolution, lookup

# switch → the versions in which it is on
TABLE = {
    "references_carry_hashes": "1 2",
    "redaction_is_auth_rule": "1 2",
    "event_id_server_signs": "1 2",
    "key_validity_enforced": "5 6 7 8 9 10 11 12",
    "aliases_are_special": "1 2 3 4 5",
    "notifications_levels_protected": "6 7 8 9 10 11 12",
    "strict_json": "6 7 8 9 10 11 12",
    "float_levels": "1 2 3 4 5",
    "string_levels": "1 2 3 4 5 6 7 8 9",
    "integer_levels": "10 11 12",
    "knocking": "7 8 9 10 11 12",
    "restricted_joins": "8 9 10 11 12",
    "knock_restricted_joins": "10 11 12",
    "redaction_keeps_allow": "8 9 10 11 12",
    "redaction_keeps_authorizing_user": "9 10 11 12",
    "creator_in_content": "1 2 3 4 5 6 7 8 9 10",
    "redacts_in_content": "11 12",
    "redaction_of_v11": "11 12",
    "creators_are_privileged": "12",
    "room_id_is_create_hash": "12",
    "create_in_auth_events": "1 2 3 4 5 6 7 8 9 10 11",
    "sends_event_id": "1 2",
}


class RoomVersions(SynchronousTestCase):
    def test_each_switch_is_on_in_the_versions_of_the_table(self) -> None:
        for switch, names in TABLE.items():
            on = [name for name, version in ROOM_VERSIONS.items() if getattr(version, switch)]
            self.assertEqual(on, names.split(), switch)

    def test_event_ids_and_state_resolution_per_version(self) -> None:
        formats = [version.event_id_format for version in ROOM_VERSIONS.values()]
        self.assertEqual(formats, [EventIdFormat.SENT] * 2 + [EventIdFormat.HASH] + [EventIdFormat.URLSAFE_HASH] * 9)
        algorithms = [version.state_resolution for version in ROOM_VERSIONS.values()]
        self.assertEqual(algorithms, [StateResolution.V1] + [StateResolution.V2] * 10 + [StateResolution.V2_1])

    def test_the_depth_fits_a_double_from_version_6_on(self) -> None:
        depths = [version.max_depth for version in ROOM_VERSIONS.values()]
        self.assertEqual(depths, [2**63 - 1] * 5 + [2**53 - 1] * 7)

    def test_lookup_knows_the_twelve_versions_and_no_other(self) -> None:
        self.assertEqual(list(ROOM_VERSIONS), [str(number) for number in range(1, 13)])
        for version_id in ("13", "0", "", "org.matrix.msc1", 1, None, ["1"]):
            self.assertIsNone(lookup(version_id))
        self.assertIs(lookup("12"), ROOM_VERSIONS["12"])
        self.assertEqual(DEFAULT, "12")
