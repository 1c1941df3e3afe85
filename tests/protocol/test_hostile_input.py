# SPDX-License-Identifier: Apache-2.0
"""Whatever another server sends, the rules answer; nothing stumbles."""

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import relations
from homeserver.protocol.auth_rules import authorize, check_auth_events
from homeserver.protocol.auth_selection import deciding_keys
from homeserver.protocol.errors import MatrixError, Rejected
from homeserver.protocol.event_format import check_pdu
from homeserver.protocol.event_signatures import verify_event
from homeserver.protocol.events import Event
from homeserver.protocol.hashing import content_hash_matches
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import BadSignature
from homeserver.protocol.visibility import can_see_event, visibility_of
from tests.protocol.dag import ALICE, ALL, BOB, Room
from tests.protocol.test_canonical_json import values

ODD = values(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
TYPES = (
    "m.room.create m.room.member m.room.power_levels m.room.join_rules m.room.third_party_invite m.room.redaction"
    " m.room.aliases m.room.history_visibility m.room.message"
).split()
CONTENT_KEYS = (
    "membership join_authorised_via_users_server third_party_invite creator additional_creators room_version m.federate"
    " join_rule allow users events notifications ban kick invite users_default public_key public_keys redacts"
    " m.relates_to m.new_content history_visibility"
).split()
LIKELY = st.sampled_from(
    ["join", "invite", "leave", "ban", "knock", "restricted", "public", ALICE, BOB, "50", 50, True]
)
CONTENTS = st.dictionaries(
    st.sampled_from(CONTENT_KEYS),
    LIKELY | ODD | st.dictionaries(st.sampled_from([BOB, "signed", "mxid"]), ODD),
    max_size=6,
)
FIELDS = (
    "type sender state_key content depth origin_server_ts hashes signatures prev_events auth_events room_id event_id"
    " unsigned redacts"
).split()


def event_of(room: Room, pdu: dict[str, Any]) -> Event | None:
    try:
        return Event.from_pdu(room.version, check_pdu(room.version, pdu))
    except MatrixError:
        return None


class HostileInput(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(
        st.sampled_from(ALL),
        st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=3),
        st.sets(st.sampled_from(FIELDS), max_size=1),
    )
    def test_any_pdu_is_either_of_good_format_or_refused(
        self, version: RoomVersion, changes: dict[str, Any], gone: set[str]
    ) -> None:
        room = Room(version)
        pdu = {**room.event("m.room.message", {"body": "x"}, state=room.open()).pdu, **changes}
        event = event_of(room, {key: value for key, value in pdu.items() if key not in gone})
        if event is not None:
            content_hash_matches(event.pdu)
            event.redacted()
            with contextlib.suppress(BadSignature):
                verify_event(event, {})

    @settings(deadline=None, max_examples=50)
    @given(st.sampled_from(ALL), ODD)
    def test_anything_at_all_is_refused_in_order(self, version: RoomVersion, value: Any) -> None:
        self.assertRaises(MatrixError, check_pdu, version, value)

    @settings(deadline=None, max_examples=300)
    @given(
        st.sampled_from(ALL),
        st.sampled_from(TYPES),
        CONTENTS,
        st.sampled_from([None, "", ALICE, BOB]),
        st.lists(st.tuples(st.sampled_from(TYPES), CONTENTS), max_size=3),
    )
    def test_any_content_is_either_allowed_or_rejected(
        self,
        version: RoomVersion,
        event_type: str,
        content: dict[str, Any],
        state_key: str | None,
        odd_state: list[tuple[str, dict[str, Any]]],
    ) -> None:
        room = Room(version)
        state = room.open(members=[BOB])
        for odd_type, odd_content in odd_state:
            key = BOB if odd_type == "m.room.member" else ""
            try:
                state[(odd_type, key)] = room.event(odd_type, odd_content, ALICE, key)
            except MatrixError:
                continue
        try:
            event = room.event(event_type, content, BOB, state_key, state)
        except MatrixError:
            return
        with contextlib.suppress(Rejected):
            authorize(version, event, state)
        with contextlib.suppress(Rejected):
            check_auth_events(version, event, list(state.values()))
        deciding_keys(event)
        relations.relation_of(content)
        relations.reply_target(content)
        relations.edited_content(content, content)
        can_see_event(event, BOB, visibility_of(event), "leave", False)
        self.assertEqual(event.redacted().event_id, event.event_id)
