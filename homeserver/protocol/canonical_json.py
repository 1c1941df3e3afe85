# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON: the one encoding that is hashed and signed, and what JSON an event may consist of.

https://spec.matrix.org/v1.18/appendices/#canonical-json
"""

import json
import re
from typing import Any

import canonicaljson
import orjson

from homeserver.protocol.errors import bad_json, not_json

MAX_SAFE_INTEGER = 2**53 - 1
# orjson writes integers of up to 64 bits, and nests 254 levels; canonicaljson takes over beyond that.
_MAX_FAST_INTEGER = 2**63 - 1
MAX_NESTING = 512

_NUMBER_OF_19_DIGITS = re.compile(rb"[0-9]{19}")
_NEGATIVE_ZERO = re.compile(rb"[:,\[\s]-0[,\]}\s]")


def encode(value: object) -> bytes:
    """Canonical JSON of anything that JSON can say; raises M_BAD_JSON where there is no encoding."""
    if _is_fast(value):
        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:
            pass
    return _encode_slowly(value)


def encode_strict(value: object) -> bytes:
    """Canonical JSON of a value that obeys the canonical restrictions, else M_BAD_JSON."""
    check_strict(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return _encode_slowly(value)


def decode(data: bytes, strict: bool) -> Any:
    """The value of a JSON text; of a key given twice the last counts.

    Raises M_NOT_JSON for what is no JSON, and M_BAD_JSON for what canonical JSON forbids if `strict`.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise not_json(f"The body is not valid JSON: {error.msg[:200]}") from None
    if strict:
        if b"-0" in data and _has_negative_zero(data):
            raise bad_json("Negative zero is not allowed")
        check_strict(value)
    elif _NUMBER_OF_19_DIGITS.search(data):
        # orjson reads integers of more than 64 bits as floats, which would change the event's hash.
        return _decode_slowly(data)
    return value


def check_strict(value: object) -> None:
    """Raise M_BAD_JSON unless all numbers are integers between -(2^53)+1 and (2^53)-1."""
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is dict:
            pending += item.values()  # type: ignore[attr-defined]
        elif kind is list:
            pending += item  # type: ignore[arg-type]
        elif kind is int:
            if not -MAX_SAFE_INTEGER <= item <= MAX_SAFE_INTEGER:  # type: ignore[operator]
                raise bad_json("Integers must be between -(2^53)+1 and (2^53)-1")
        elif kind is float:
            raise bad_json("Numbers must be integers")
        elif kind is not str and kind is not bool and item is not None:
            raise bad_json(f"JSON has no {kind.__name__}")


def is_strict(value: object) -> bool:
    """Whether `check_strict` passes."""
    try:
        check_strict(value)
    except Exception:
        return False
    return True


def _is_fast(value: object) -> bool:
    """Whether orjson's encoding of the value is the canonical one."""
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is dict:
            pending += item.values()  # type: ignore[attr-defined]
        elif kind is list:
            pending += item  # type: ignore[arg-type]
        elif kind is int:
            if not -_MAX_FAST_INTEGER <= item <= _MAX_FAST_INTEGER:  # type: ignore[operator]
                return False
        elif kind is not str and kind is not bool and item is not None:
            return False
    return True


def _encode_slowly(value: object) -> bytes:
    if not _nests_within(value, MAX_NESTING):
        raise bad_json("The JSON is nested too deeply")
    try:
        return canonicaljson.encode_canonical_json(value)
    except UnicodeEncodeError:
        raise bad_json("A string holds half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise bad_json(f"This cannot be written as JSON: {error}") from None


def _nests_within(value: object, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        below: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, (list, tuple)):
                below += item
        if not below:
            return True
        layer = below
    return False


def _has_negative_zero(data: bytes) -> bool:
    """Whether the number -0 appears; the pattern may also match inside a string, so the parser decides."""
    if not _NEGATIVE_ZERO.search(data):
        return False
    found = False

    def note(digits: str) -> int:
        nonlocal found
        found = found or digits == "-0"
        return 0

    try:
        json.loads(data, parse_int=note)  # noqa: TID251  orjson does not show the digits
    except (ValueError, RecursionError):
        return True
    return found


def _decode_slowly(data: bytes) -> Any:
    try:
        return json.loads(data)  # noqa: TID251  orjson has no big integers
    except (ValueError, RecursionError):
        raise not_json("The body is not valid JSON") from None
