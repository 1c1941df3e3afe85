# SPDX-License-Identifier: Apache-2.0
"""Knows the filters that clients have stored, and which one a request means."""

from __future__ import annotations

from collections import OrderedDict

import orjson

from homeserver.protocol.errors import MatrixError, bad_json, invalid_param, not_found
from homeserver.protocol.filters import PASS_ALL, Filter, parse_filter
from homeserver.services.database import Database
from storage.filters import TooManyFilters, filter_body, put_filter

CACHED = 2_000
MAX_BYTES = 64 * 1024


class Filters:
    """Stored and inline filters, parsed once."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._parsed: OrderedDict[tuple[int, str] | str, Filter] = OrderedDict()

    async def create(self, usr: int, body: dict[str, object]) -> str:
        """Store a filter and return its id. Raises M_BAD_JSON for one that is wrong, M_TOO_LARGE for a huge one."""
        parsed = parse_filter(body)
        encoded = orjson.dumps(_without_nulls(body))
        if len(encoded) > MAX_BYTES:
            raise MatrixError(status=413, errcode="M_TOO_LARGE", message="The filter is too large")
        try:
            number = await self._db.write(put_filter, usr, encoded)
        except TooManyFilters:
            raise MatrixError(status=400, errcode="M_RESOURCE_LIMIT_EXCEEDED", message="Too many filters") from None
        self._remember((usr, str(number)), parsed)
        return str(number)

    async def body(self, usr: int, filter_id: str) -> bytes:
        """The JSON of a stored filter; raises M_NOT_FOUND."""
        stored = await self._db.point(filter_body, usr, int(filter_id)) if _is_number(filter_id) else None
        if stored is None:
            raise not_found("No such filter")
        return stored

    async def resolve(self, usr: int, given: str | None) -> Filter:
        """What `?filter=` means: JSON when it starts with a brace, else an id; nothing passes everything."""
        if not given:
            return PASS_ALL
        key = given if given.startswith("{") else (usr, given)
        known = self._parsed.get(key)
        if known is not None:
            self._parsed.move_to_end(key)
            return known
        if given.startswith("{"):
            parsed = parse_filter(_inline(given))
        else:
            if not _is_number(given):
                raise invalid_param("No such filter")
            stored = await self._db.point(filter_body, usr, int(given))
            if stored is None:
                raise invalid_param("No such filter")
            parsed = parse_filter(orjson.loads(stored))
        self._remember(key, parsed)
        return parsed

    def _remember(self, key: tuple[int, str] | str, parsed: Filter) -> None:
        if isinstance(key, str) and len(key) > 4_096:
            return
        self._parsed[key] = parsed
        if len(self._parsed) > CACHED:
            self._parsed.popitem(last=False)


def _inline(given: str) -> dict[str, object]:
    try:
        body = orjson.loads(given)
    except orjson.JSONDecodeError:
        raise MatrixError(status=400, errcode="M_NOT_JSON", message="The filter is not JSON") from None
    if not isinstance(body, dict):
        raise bad_json("The filter must be an object")
    return body


def _without_nulls(body: object) -> object:
    """A filter without keys that are null: they are as if they were not given, and given back they would break it."""
    if isinstance(body, dict):
        return {key: _without_nulls(value) for key, value in body.items() if value is not None}
    return body


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
