# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: the specification's examples, and canonicaljson as the oracle of the fast path."""

import json
from typing import Any

import canonicaljson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError

# https://spec.matrix.org/v1.18/appendices/#examples
SPEC_EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        '{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",'
        '"three_pids": [{"medium": "email", "address": "john.doe@example.org"},'
        '{"medium": "msisdn", "address": "123456789"}]}}}',
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":'
        '[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},'
        '"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    ('{"a": "\\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
]

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)


def values(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | TEXT | numbers
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=20
    )


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Encoding(SynchronousTestCase):
    def test_the_examples_of_the_specification(self) -> None:
        for text, expected in SPEC_EXAMPLES:
            value = canonical_json.decode(text.encode(), strict=True)
            self.assertEqual(canonical_json.encode(value), expected.encode())
            self.assertEqual(canonical_json.encode_strict(value), expected.encode())

    def test_the_example_with_negative_zero_and_an_exponent_is_refused_where_json_is_strict(self) -> None:
        for text in (b'{"a": -0}', b'{"b": 1e10}', b'{"a": -0, "b": 1e10}'):
            self.assertEqual(self.failureCode(text), "M_BAD_JSON")

    @settings(deadline=None)
    @given(values(SAFE_INTEGERS))
    def test_strict_values_are_encoded_as_by_canonicaljson(self, value: Any) -> None:
        expected = canonicaljson.encode_canonical_json(value)
        self.assertEqual(canonical_json.encode_strict(value), expected)
        self.assertEqual(canonical_json.encode(value), expected)
        self.assertEqual(canonical_json.decode(expected, strict=True), value)

    @settings(deadline=None)
    @given(values(st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
    def test_any_value_is_encoded_as_by_canonicaljson(self, value: Any) -> None:
        self.assertEqual(canonical_json.encode(value), canonicaljson.encode_canonical_json(value))

    @settings(deadline=None)
    @given(values(st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
    def test_a_lenient_reading_keeps_every_number(self, value: Any) -> None:
        data = canonicaljson.encode_canonical_json(value)
        self.assertEqual(canonicaljson.encode_canonical_json(canonical_json.decode(data, strict=False)), data)

    def test_keys_are_sorted_by_code_point_and_not_by_utf16(self) -> None:
        self.assertEqual(canonical_json.encode({"😀": 1, "｡": 2}), '{"｡":2,"😀":1}'.encode())

    def test_control_characters_take_their_shortest_escape(self) -> None:
        self.assertEqual(
            canonical_json.encode('\x00\x08\t\n\x0c\r\x1f\x7f"\\/'), b'"\\u0000\\b\\t\\n\\f\\r\\u001f\x7f\\"\\\\/"'
        )

    def test_deep_nesting_is_encoded_beyond_the_fast_path_up_to_a_limit(self) -> None:
        for levels in (253, 254, 255, 300, canonical_json.MAX_NESTING):
            self.assertEqual(canonical_json.encode(nested(levels)), canonicaljson.encode_canonical_json(nested(levels)))
            self.assertEqual(canonical_json.encode_strict(nested(levels)), b"[" * levels + b"1" + b"]" * levels)
        for levels in (canonical_json.MAX_NESTING + 1, 100_000):
            error = self.assertRaises(MatrixError, canonical_json.encode, nested(levels))
            self.assertEqual(error.errcode, "M_BAD_JSON")

    def test_what_has_no_encoding_is_bad_json(self) -> None:
        for value in ("\ud800", {"\udfff": 1}, float("nan"), float("inf"), {1: object()}, {"a": b"bytes"}):
            error = self.assertRaises(MatrixError, canonical_json.encode, value)
            self.assertEqual(error.errcode, "M_BAD_JSON")

    def failureCode(self, text: bytes, strict: bool = True) -> str:
        return self.assertRaises(MatrixError, canonical_json.decode, text, strict).errcode


class Decoding(SynchronousTestCase):
    def test_of_a_key_given_twice_the_last_counts(self) -> None:
        for strict in (True, False):
            self.assertEqual(canonical_json.decode(b'{"a":1,"a":2}', strict), {"a": 2})

    def test_what_is_no_json_is_not_json(self) -> None:
        for text in (b"", b"{", b"NaN", b"Infinity", b'["\xff"]', b'["\\ud800"]', b"\xef\xbb\xbf{}", b"'a'", b"[1,]"):
            for strict in (True, False):
                error = self.assertRaises(MatrixError, canonical_json.decode, text, strict)
                self.assertEqual((error.status, error.errcode), (400, "M_NOT_JSON"), text)

    def test_nesting_without_end_is_not_json(self) -> None:
        for text in (
            b"[" * 100_000,
            b"[" * 5000 + b"]" * 5000,
            b'{"a":' * 5000 + b"12345678901234567890" + b"}" * 5000,
        ):
            error = self.assertRaises(MatrixError, canonical_json.decode, text, False)
            self.assertEqual(error.errcode, "M_NOT_JSON")

    def test_strict_reading_refuses_what_canonical_json_forbids(self) -> None:
        for text in (
            b"1.0",
            b"1e2",
            b"-0",
            b"[-0]",
            b'{"a":-0}',
            b"[1, -0 ]",
            b"9007199254740992",
            b"-9007199254740992",
        ):
            error = self.assertRaises(MatrixError, canonical_json.decode, b'{"x":' + text + b"}", True)
            self.assertEqual((error.status, error.errcode), (400, "M_BAD_JSON"), text)

    def test_lenient_reading_accepts_it(self) -> None:
        self.assertEqual(canonical_json.decode(b"[1.5,-0,9007199254740992]", strict=False), [1.5, 0, 2**53])

    def test_integers_of_any_length_survive_a_lenient_reading(self) -> None:
        for digits in (19, 20, 25, 300):
            text = b'{"n":-' + b"9" * digits + b"}"
            value = canonical_json.decode(text, strict=False)
            self.assertIs(type(value["n"]), int)
            self.assertEqual(canonical_json.encode(value), text)

    def test_the_greatest_integers_are_read_strictly(self) -> None:
        text = b'{"a":9007199254740991,"b":-9007199254740991}'
        self.assertEqual(canonical_json.decode(text, strict=True), {"a": 2**53 - 1, "b": -(2**53) + 1})

    def test_a_string_that_looks_like_negative_zero_is_fine(self) -> None:
        for text in ('{"a":"x:-0,","b":"[-0]"}', '{"$a-0b":"-0"}'):
            self.assertEqual(canonical_json.decode(text.encode(), strict=True), json.loads(text))

    def test_nesting_that_only_one_parser_reads_is_refused(self) -> None:
        for number, errcode in ((b"12345678901234567890", "M_NOT_JSON"), (b"-0", "M_BAD_JSON")):
            text = b"[" * 1020 + number + b"]" * 1020
            strict = errcode == "M_BAD_JSON"
            self.assertEqual(self.assertRaises(MatrixError, canonical_json.decode, text, strict).errcode, errcode)

    def test_what_json_cannot_say_is_not_strict(self) -> None:
        for value in (object(), b"x", (1,), {1}):
            self.assertFalse(canonical_json.is_strict([value]))

    def test_is_strict_answers_without_an_error(self) -> None:
        self.assertTrue(canonical_json.is_strict({"a": [1, "b", None, True]}))
        self.assertFalse(canonical_json.is_strict({"a": [1.0]}))
        self.assertFalse(canonical_json.is_strict({"a": {"b": 2**53}}))
