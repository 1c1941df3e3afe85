# SPDX-License-Identifier: Apache-2.0
"""Events: hashes and ids per version, the specification's signing vectors, and building new ones."""

import hashlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import canonical_json, hashing
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.event_format import MAX_EVENT_BYTES, check_pdu
from homeserver.protocol.event_signatures import key_is_valid, required_signers, verify_event
from homeserver.protocol.events import Built, Draft, Event, PrevRef, build
from homeserver.protocol.room_versions import ROOM_VERSIONS, V1, V3, V4, V5, V8, V11, V12, RoomVersion
from homeserver.protocol.signing import BadSignature, Signer, SigningKey
from tests.protocol.dag import ALICE, ALL, BOB, Room
from tests.protocol.test_canonical_json import TEXT
from tests.protocol.test_signing import SIGNER

KEY = SigningKey.from_seed("k", b"k" * 32)
HOME = Signer("a.org", KEY)
KEYS = {"a.org": {KEY.key_id: KEY.verify_key}}
ID = "$" + "i" * 43
HASH = b"h" * 32


def built(version: RoomVersion, draft: Draft, **more: Any) -> Built:
    options: dict[str, Any] = {
        "room_id": "!" + "r" * 43 if version.room_id_is_create_hash else "!room:a.org",
        "prev_events": [PrevRef(ID, HASH)],
        "auth_events": [PrevRef(ID, HASH), PrevRef(ID, HASH)],
        "depth": 7,
        "ts": 1234,
        "signer": HOME,
        "event_id": "$opaque:a.org" if version.sends_event_id else None,
        **more,
    }
    return build(version, draft, **options)


class SpecificationVectors(SynchronousTestCase):
    """https://spec.matrix.org/v1.18/appendices/#event-signing"""

    def sign(self, pdu: dict[str, Any]) -> tuple[str, str]:
        pdu = {**pdu, "hashes": {"sha256": hashing.content_hash(pdu)}}
        return pdu["hashes"]["sha256"], SIGNER.sign(hashing.signed_bytes(V1, pdu))

    def test_the_minimal_event(self) -> None:
        pdu = {
            "room_id": "!x:domain",
            "sender": "@a:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "signatures": {},
            "hashes": {},
            "type": "X",
            "content": {},
            "prev_events": [],
            "auth_events": [],
            "depth": 3,
            "unsigned": {"age_ts": 1000000},
        }
        self.assertEqual(
            self.sign(pdu),
            (
                "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
                "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
            ),
        )

    def test_the_event_with_redactable_content(self) -> None:
        pdu = {
            "content": {"body": "Here is the message content"},
            "event_id": "$0:domain",
            "origin": "domain",
            "origin_server_ts": 1000000,
            "type": "m.room.message",
            "room_id": "!r:domain",
            "sender": "@u:domain",
            "signatures": {},
            "unsigned": {"age_ts": 1000000},
        }
        self.assertEqual(
            self.sign(pdu),
            (
                "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
                "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
            ),
        )


class Building(SynchronousTestCase):
    def test_a_built_event_is_complete_in_every_version(self) -> None:
        for version in ALL:
            result = built(version, Draft("m.room.message", {"body": "hi", "n": 1}, ALICE))
            pdu = canonical_json.decode(result.pdu_bytes, strict=True)
            self.assertEqual(pdu, result.event.pdu)
            self.assertEqual(canonical_json.encode(pdu), result.pdu_bytes)
            check_pdu(version, pdu)
            self.assertTrue(hashing.content_hash_matches(pdu))
            verify_event(result.event, KEYS)
            self.assertEqual(result.event.event_id, hashing.event_id(version, pdu))
            self.assertEqual((result.event.depth, result.event.origin_server_ts), (7, 1234))
            self.assertEqual(result.event.prev_event_ids, (ID,))
            self.assertEqual(result.event.auth_event_ids, (ID, ID))

    def test_the_span_tells_where_the_content_lies(self) -> None:
        for version in ALL:
            for auth in ([], [PrevRef(ID, HASH)] * 5):
                result = built(version, Draft("t", {"content": {"auth_events": []}}, ALICE, ""), auth_events=auth)
                start, end = result.content_span
                self.assertEqual(result.pdu_bytes[start:end], result.content_bytes)
                self.assertEqual(result.content_bytes, b'{"content":{"auth_events":[]}}')

    @settings(deadline=None, max_examples=50)
    @given(
        st.dictionaries(TEXT, TEXT | st.integers(-(2**53) + 1, 2**53 - 1) | st.none(), max_size=5), st.sampled_from(ALL)
    )
    def test_any_content_survives(self, content: dict[str, Any], version: RoomVersion) -> None:
        result = built(version, Draft("m.room.create", content, ALICE, "x"))
        self.assertEqual(canonical_json.encode(result.event.pdu), result.pdu_bytes)
        verify_event(result.event, KEYS)

    def test_the_room_id_of_version_12_is_the_id_of_its_create_event(self) -> None:
        result = built(
            V12, Draft("m.room.create", {"room_version": "12"}, ALICE, ""), room_id=None, prev_events=[], auth_events=[]
        )
        self.assertEqual(result.event.room_id, "!" + result.event.event_id[1:])
        self.assertNotIn("room_id", result.event.pdu)
        self.assertNotIn(b"room_id", result.pdu_bytes)
        check_pdu(V12, result.event.pdu)

    def test_ids_are_made_of_the_reference_hash_in_the_alphabet_of_the_version(self) -> None:
        digest = bytes(range(250, 256)) + b"\xfb\xef\xbe" * 8 + b"\xff\xff"
        self.assertEqual(hashing.id_of_hash(V3, digest), "$" + hashing.unpadded(digest))
        self.assertIn("+", hashing.id_of_hash(V3, digest))
        self.assertEqual(
            hashing.id_of_hash(V4, digest), "$" + hashing.unpadded(digest).replace("+", "-").replace("/", "_")
        )
        self.assertEqual(len(hashing.id_of_hash(V12, digest)), 44)

    def test_versions_1_and_2_take_an_id_and_reference_hashes(self) -> None:
        result = built(V1, Draft("t", {}, ALICE))
        self.assertEqual(result.event.event_id, "$opaque:a.org")
        self.assertEqual(result.event.pdu["prev_events"], [[ID, {"sha256": hashing.unpadded(HASH)}]])
        self.assertRaises(ValueError, built, V1, Draft("t", {}, ALICE), event_id=None)
        self.assertRaises(ValueError, built, V1, Draft("t", {}, ALICE), prev_events=[PrevRef(ID)])
        self.assertRaises(ValueError, built, V3, Draft("t", {}, ALICE), event_id="$x:a.org")
        self.assertRaises(ValueError, built, V12, Draft("t", {}, ALICE), room_id=None)

    def test_the_target_of_a_redaction_goes_where_the_version_has_it(self) -> None:
        draft = Draft("m.room.redaction", {"reason": "x"}, ALICE, redacts=ID)
        for version in ALL:
            event = built(version, draft).event
            self.assertEqual(event.redacts, ID)
            self.assertEqual("redacts" in event.content, version.redacts_in_content)
            self.assertEqual("redacts" in event.pdu, not version.redacts_in_content)
            self.assertIsNone(built(version, Draft("t", {"redacts": ID}, ALICE)).event.redacts)
        self.assertEqual(draft.content, {"reason": "x"})

    def test_numbers_that_canonical_json_forbids_are_refused_from_version_6_on(self) -> None:
        for content in ({"a": 1.5}, {"a": 2**53}, {"a": [{"b": -(2**53)}]}):
            for version in ALL:
                if version.strict_json:
                    error = self.assertRaises(MatrixError, built, version, Draft("t", content, ALICE))
                    self.assertEqual((error.status, error.errcode), (400, "M_BAD_JSON"))
                else:
                    result = built(version, Draft("t", content, ALICE))
                    self.assertEqual(canonical_json.encode(result.event.pdu), result.pdu_bytes)
                    verify_event(result.event, KEYS)

    def test_floats_that_survive_redaction_are_signed_canonically(self) -> None:
        result = built(V5, Draft("m.room.power_levels", {"ban": 1e16}, ALICE, ""))
        self.assertIn(b"1e+16", result.pdu_bytes)
        verify_event(result.event, KEYS)
        self.assertEqual(result.event.event_id, hashing.event_id(V5, result.event.pdu))

    def test_events_have_at_most_65536_bytes(self) -> None:
        empty = len(built(V11, Draft("t", {"b": ""}, ALICE)).pdu_bytes)
        largest = built(V11, Draft("t", {"b": "x" * (MAX_EVENT_BYTES - empty)}, ALICE))
        self.assertEqual(len(largest.pdu_bytes), MAX_EVENT_BYTES)
        error = self.assertRaises(
            MatrixError, built, V11, Draft("t", {"b": "x" * (MAX_EVENT_BYTES - empty + 1)}, ALICE)
        )
        self.assertEqual((error.status, error.errcode), (413, "M_TOO_LARGE"))

    def test_types_and_state_keys_have_at_most_255_bytes(self) -> None:
        built(V11, Draft("t" * 255, {}, ALICE, "s" * 255))
        for draft in (Draft("t" * 256, {}, ALICE), Draft("t", {}, ALICE, "s" * 256), Draft("t", {}, ALICE, "ä" * 128)):
            error = self.assertRaises(MatrixError, built, V11, draft)
            self.assertEqual(error.errcode, "M_TOO_LARGE")

    def test_unsigned_is_sent_and_not_signed(self) -> None:
        plain = built(V11, Draft("t", {}, ALICE))
        result = built(V11, Draft("t", {}, ALICE, unsigned={"age": 1}))
        self.assertEqual(result.event.pdu["unsigned"], {"age": 1})
        self.assertEqual(result.event.event_id, plain.event.event_id)
        self.assertEqual(canonical_json.encode(result.event.pdu), result.pdu_bytes)

    def test_a_draft_may_bring_its_own_time(self) -> None:
        self.assertEqual(built(V11, Draft("t", {}, ALICE, origin_server_ts=5)).event.origin_server_ts, 5)

    def test_the_depth_is_capped(self) -> None:
        self.assertEqual(built(V11, Draft("t", {}, ALICE), depth=2**60).event.depth, 2**53 - 1)
        self.assertEqual(built(V1, Draft("t", {}, ALICE), depth=2**70).event.depth, 2**63 - 1)


class Values(SynchronousTestCase):
    def test_an_event_knows_its_place(self) -> None:
        room = Room(V11)
        event = room.event("m.room.topic", {"topic": "x"}, BOB, "")
        self.assertEqual((event.key, event.is_state, event.sender_server), (("m.room.topic", ""), True, "b.org"))
        message = room.event("m.room.message", {}, BOB)
        self.assertEqual((message.key, message.is_state), (None, False))

    def test_events_are_equal_by_id(self) -> None:
        room = Room(V11)
        event = room.event("t", {"a": 1})
        self.assertEqual(event, event.redacted())
        self.assertEqual(len({event, event.redacted(), room.create}), 2)
        self.assertNotEqual(event, room.create)
        self.assertNotEqual(event, event.event_id)

    def test_a_redacted_event_keeps_its_id(self) -> None:
        for version in ALL:
            event = Room(version).event("m.room.message", {"body": "secret"}, redacts="$x")
            redacted = event.redacted()
            self.assertEqual((redacted.content, redacted.event_id), ({}, event.event_id))
            self.assertEqual(hashing.event_id(version, redacted.pdu), event.event_id)
            self.assertEqual(redacted.reference_hash(), event.reference_hash())

    def test_references_carry_hashes_in_versions_1_and_2_only(self) -> None:
        for version in ALL:
            event = Room(version).event("t", {})
            digest = hashlib.sha256(hashing.signed_bytes(version, event.pdu)).digest()
            self.assertEqual(event.ref(), PrevRef(event.event_id, digest if version.references_carry_hashes else None))

    def test_a_changed_content_does_not_match_its_hash(self) -> None:
        pdu = built(V11, Draft("t", {"a": 1}, ALICE)).event.pdu
        self.assertTrue(hashing.content_hash_matches({**pdu, "unsigned": {"x": 1}, "signatures": {}}))
        for other in (
            {"content": {"a": 2}},
            {"hashes": {}},
            {"hashes": None},
            {"hashes": {"sha256": "!"}},
            {"hashes": {"sha256": 1}},
        ):
            self.assertFalse(hashing.content_hash_matches({**pdu, **other}))


class Signatures(SynchronousTestCase):
    def event(self, version: RoomVersion, sender: str, content: dict[str, Any], **extra: Any) -> Event:
        return Room(version).event("m.room.member", content, sender, BOB, **extra)

    def test_the_senders_server_signs(self) -> None:
        for version in ALL:
            self.assertEqual(required_signers(self.event(version, BOB, {"membership": "join"})), {"b.org"})

    def test_the_server_of_the_event_id_signs_in_versions_1_and_2(self) -> None:
        for version in ALL:
            event = self.event(version, BOB, {"membership": "join"}, event_id="$x:other")
            self.assertEqual(
                required_signers(event), {"b.org", "other"} if version.event_id_server_signs else {"b.org"}
            )

    def test_the_sender_of_a_third_party_invite_need_not_sign(self) -> None:
        content = {"membership": "invite", "third_party_invite": {}}
        self.assertEqual(required_signers(self.event(V11, ALICE, content)), frozenset())
        self.assertEqual(required_signers(self.event(V1, ALICE, content, event_id="$x:other")), {"other"})
        self.assertEqual(required_signers(self.event(V11, ALICE, {**content, "membership": "join"})), {"a.org"})

    def test_the_server_of_the_authorizing_user_signs_from_version_8_on(self) -> None:
        content = {"membership": "join", "join_authorised_via_users_server": ALICE}
        for version in ALL:
            expected = {"b.org", "a.org"} if version.restricted_joins else {"b.org"}
            self.assertEqual(required_signers(self.event(version, BOB, content)), expected)
        malformed = self.event(V8, BOB, {"membership": "join", "join_authorised_via_users_server": 7})
        self.assertEqual(required_signers(malformed), {"b.org", ""})

    def test_an_event_without_a_signature_of_each_is_refused(self) -> None:
        event = built(V11, Draft("t", {}, ALICE)).event
        verify_event(event, KEYS)
        self.assertRaises(BadSignature, verify_event, event, {})
        self.assertRaises(BadSignature, verify_event, Event.from_pdu(V11, {**event.pdu, "depth": 8}), KEYS)
        unsigned = Event.from_pdu(V11, {**event.pdu, "signatures": {}})
        self.assertRaises(BadSignature, verify_event, unsigned, KEYS)
        malformed = Room(V8).event(
            "m.room.member", {"membership": "join", "join_authorised_via_users_server": 7}, BOB, BOB
        )
        self.assertRaises(BadSignature, verify_event, malformed, KEYS)

    def test_a_redacted_event_verifies_as_well(self) -> None:
        for version in ALL:
            verify_event(built(version, Draft("m.room.message", {"body": "x"}, ALICE)).event.redacted(), KEYS)

    def test_the_validity_of_keys_counts_from_version_5_on_and_for_seven_days(self) -> None:
        week = 7 * 24 * 3600 * 1000
        for version in ROOM_VERSIONS.values():
            self.assertTrue(key_is_valid(version, 1000, 500, 1000))
            self.assertEqual(key_is_valid(version, 1000, 500, 1001), not version.key_validity_enforced)
            self.assertTrue(key_is_valid(version, 10 * week, 500, 500 + week))
            self.assertEqual(key_is_valid(version, 10 * week, 500, 501 + week), not version.key_validity_enforced)
