# SPDX-License-Identifier: Apache-2.0
"""Signatures: the specification's test vectors, key files, and what is refused."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import signing
from homeserver.protocol.hashing import decode_base64, unpadded
from homeserver.protocol.signing import BadSignature, Signer, SigningKey, VerifyKey

# https://spec.matrix.org/v1.18/appendices/#cryptographic-test-vectors
SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
SIGNER = Signer("domain", SigningKey.from_seed("1", decode_base64(SEED)))
KEYS = {"ed25519:1": SIGNER.key.verify_key}


class SignedJson(SynchronousTestCase):
    def test_the_empty_object_of_the_specification(self) -> None:
        signature = "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
        self.assertEqual(signing.sign_json({}, SIGNER), {"signatures": {"domain": {"ed25519:1": signature}}})

    def test_the_object_with_values_of_the_specification(self) -> None:
        signed = signing.sign_json({"one": 1, "two": "Two"}, SIGNER)
        self.assertEqual(
            signed["signatures"]["domain"]["ed25519:1"],
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        )
        signing.verify_signed(signed, "domain", KEYS)

    def test_unsigned_and_other_signatures_are_kept_and_not_covered(self) -> None:
        before = {
            "a": 1,
            "unsigned": {"age_ts": 1},
            "signatures": {"other": {"ed25519:x": "sig"}, "domain": {"ed25519:0": "old"}},
        }
        signed = signing.sign_json(before, SIGNER)
        self.assertEqual(signed["unsigned"], {"age_ts": 1})
        self.assertEqual(signed["signatures"]["other"], {"ed25519:x": "sig"})
        self.assertEqual(set(signed["signatures"]["domain"]), {"ed25519:0", "ed25519:1"})
        self.assertNotIn("ed25519:1", before["signatures"]["domain"])  # type: ignore[index]
        signing.verify_signed({**signed, "unsigned": {"other": 2}}, "domain", KEYS)

    def test_what_does_not_fit_is_refused(self) -> None:
        signed = signing.sign_json({"a": 1}, SIGNER)
        other = SigningKey.from_seed("1", b"x" * 32).verify_key
        signature = signed["signatures"]["domain"]["ed25519:1"]
        cases: list[tuple[dict[str, Any], str, dict[str, VerifyKey]]] = [
            ({**signed, "a": 2}, "domain", KEYS),
            (signed, "other", KEYS),
            (signed, "domain", {}),
            (signed, "domain", {"ed25519:1": other}),
            ({"a": 1}, "domain", KEYS),
            ({"a": 1, "signatures": []}, "domain", KEYS),
            ({"a": 1, "signatures": {"domain": "x"}}, "domain", KEYS),
            ({"a": 1, "signatures": {"domain": {"ed25519:1": 7}}}, "domain", KEYS),
            ({"a": 1, "signatures": {"domain": {"ed25519:1": "not base64!"}}}, "domain", KEYS),
            ({"a": 1, "signatures": {"domain": {"ed25519:1": signature[:-4]}}}, "domain", KEYS),
            ({"a": 1, "signatures": {"domain": {"rsa:1": signature}}}, "domain", KEYS),
        ]
        for value, entity, keys in cases:
            self.assertRaises(BadSignature, signing.verify_signed, value, entity, keys)

    def test_signatures_by_unknown_keys_are_skipped(self) -> None:
        signed = signing.sign_json({"a": 1}, SIGNER)
        signed["signatures"]["domain"]["ed25519:unknown"] = "AAAA"
        signing.verify_signed(signed, "domain", KEYS)

    def test_all_signatures_by_known_keys_must_fit(self) -> None:
        signed = signing.sign_json({"a": 1}, SIGNER)
        second = SigningKey.from_seed("2", b"2" * 32)
        signed["signatures"]["domain"]["ed25519:2"] = signed["signatures"]["domain"]["ed25519:1"]
        keys = {**KEYS, "ed25519:2": second.verify_key}
        self.assertRaises(BadSignature, signing.verify_signed, signed, "domain", keys)
        signing.verify_signed(signing.sign_json(signed, Signer("domain", second)), "domain", keys)

    def test_padded_and_urlsafe_base64_is_accepted(self) -> None:
        signed = signing.sign_json({"a": 1}, SIGNER)
        plain = signed["signatures"]["domain"]["ed25519:1"]
        signed["signatures"]["domain"]["ed25519:1"] = plain.replace("+", "-").replace("/", "_") + "=="
        signing.verify_signed(signed, "domain", KEYS)


class Keys(SynchronousTestCase):
    def test_a_key_file_is_read_and_written_as_synapse_does(self) -> None:
        seed = unpadded(decode_base64(SEED))
        line = f"ed25519 a_abcd {seed}\n"
        key = SigningKey.parse(line)
        self.assertEqual((key.key_id, key.line()), ("ed25519:a_abcd", line))
        self.assertEqual(unpadded(key.seed), seed)

    def test_the_first_of_several_keys_is_the_current_one(self) -> None:
        text = f"\ned25519 new {SEED}\ned25519 old {unpadded(b'o' * 32)}\n"
        self.assertEqual([key.version for key in signing.parse_key_file(text)], ["new", "old"])
        self.assertEqual(SigningKey.parse(text).version, "new")

    def test_a_bad_key_file_is_refused(self) -> None:
        for text in (
            "",
            "\n",
            "rsa a x",
            "ed25519 a",
            f"ed25519 a:b {SEED}",
            f"ed25519 a {SEED[:-4]}",
            "ed25519 a !!!!",
            "ed25519 a ä",
        ):
            self.assertRaises(ValueError, SigningKey.parse, text)

    def test_public_keys_are_checked(self) -> None:
        key = VerifyKey.parse("ed25519:1", SIGNER.key.public_base64)
        self.assertEqual(key, SIGNER.key.verify_key)
        for key_id, encoded in (
            ("rsa:1", SIGNER.key.public_base64),
            ("ed25519:1", "AAAA"),
            ("ed25519:1", "???"),
            ("ed25519:1", None),
        ):
            self.assertRaises(ValueError, VerifyKey.parse, key_id, encoded)

    def test_secrets_do_not_show_in_logs(self) -> None:
        self.assertNotIn("secret", repr(SIGNER))
        self.assertNotIn(json.dumps(SEED), repr(SIGNER.key))
