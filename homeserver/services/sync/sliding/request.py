# SPDX-License-Identifier: Apache-2.0
"""Knows both written forms of a sliding sync request, and the one value that they stand for.

The form of `org.matrix.simplified_msc3575` is what Element X speaks; the merged MSC4186 form is that of `/v4/sync`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from homeserver.protocol.errors import bad_json, invalid_param
from homeserver.services.sync.sliding.state_config import ANY, Pattern, RoomConfig, StateConfig

MAX_LISTS = 100
MAX_SUBSCRIPTIONS = 100
MAX_TIMELINE = 100
MAX_PATTERNS = 500
_OPAQUE = re.compile(r"[0-9a-zA-Z._~-]{1,255}")


@attrs.frozen(slots=True)
class RoomListFilter:
    """Which rooms a list has; None: no matter."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invited: bool | None = None
    spaces: frozenset[str] | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] = frozenset()
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] = frozenset()


@attrs.frozen(slots=True)
class ListRequest:
    """A list: its windows as (first, last), None for all of it."""

    config: RoomConfig
    windows: tuple[tuple[int, int], ...] | None
    filter: RoomListFilter


@attrs.frozen(slots=True)
class Extension:
    """What an extension is asked for. `lists` and `rooms` limit it, None: to nothing less than all."""

    options: Mapping[str, Any]
    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None


@attrs.frozen(slots=True)
class SlidingRequest:
    """One request, whatever its form. `merged` says that it is the form of `/v4/sync`; `timeout` in seconds."""

    connection: str
    pos: str | None
    timeout: float
    set_presence: str
    lists: Mapping[str, ListRequest]
    subscriptions: Mapping[str, RoomConfig]
    extensions: Mapping[str, Extension]
    merged: bool
    txn_id: str | None = None


def parse_today(body: Mapping[str, Any], pos: str | None, timeout_ms: int, set_presence: str) -> SlidingRequest:
    """A request of `org.matrix.simplified_msc3575`, whose position, time-out and presence come in the query string."""
    return SlidingRequest(
        connection=_connection(body),
        pos=pos or _text(body, "pos", "pos"),
        timeout=timeout_ms / 1000,
        set_presence=set_presence,
        lists=_lists(body, merged=False),
        subscriptions=_subscriptions(body, merged=False),
        extensions=_extensions(body),
        merged=False,
        txn_id=_text(body, "txn_id", "txn_id"),
    )


def parse_merged(body: Mapping[str, Any]) -> SlidingRequest:
    """A request of `/v4/sync`."""
    timeout = body.get("timeout", 0)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        raise bad_json("timeout must be a number of milliseconds")
    return SlidingRequest(
        connection=_connection(body),
        pos=_text(body, "pos", "pos"),
        timeout=timeout / 1000,
        set_presence=_text(body, "set_presence", "set_presence") or "online",
        lists=_lists(body, merged=True),
        subscriptions=_subscriptions(body, merged=True),
        extensions=_extensions(body),
        merged=True,
        txn_id=None,
    )


def _connection(body: Mapping[str, Any]) -> str:
    name = _text(body, "conn_id", "conn_id") or ""
    if len(name.encode("utf-8", "surrogatepass")) > 255:
        raise invalid_param("conn_id is too long")
    return name


def _lists(body: Mapping[str, Any], merged: bool) -> dict[str, ListRequest]:
    given = _object(body, "lists", "lists")
    if len(given) > MAX_LISTS:
        raise invalid_param(f"There may be at most {MAX_LISTS} lists")
    lists = {}
    for name, value in given.items():
        where = f"lists.{name}"
        if merged and not _OPAQUE.fullmatch(name):
            raise invalid_param("The name of a list must be an opaque identifier")
        one = _as_object(value, where)
        windows = _merged_window(one, where) if merged else _windows(one, where)
        lists[name] = ListRequest(_config(one, where, merged), windows, _filter(one, where, merged))
    return lists


def _subscriptions(body: Mapping[str, Any], merged: bool) -> dict[str, RoomConfig]:
    given = _object(body, "room_subscriptions", "room_subscriptions")
    if len(given) > MAX_SUBSCRIPTIONS:
        raise invalid_param(f"There may be at most {MAX_SUBSCRIPTIONS} room subscriptions")
    return {
        room_id: _config(_as_object(value, f"room_subscriptions.{room_id}"), f"room_subscriptions.{room_id}", merged)
        for room_id, value in given.items()
    }


def _extensions(body: Mapping[str, Any]) -> dict[str, Extension]:
    extensions = {}
    for name, value in _object(body, "extensions", "extensions").items():
        options = _as_object(value, f"extensions.{name}")
        enabled = options.get("enabled", False)
        if not isinstance(enabled, bool):
            raise bad_json(f"extensions.{name}.enabled must be true or false")
        if enabled:
            lists = _names(options, "lists", f"extensions.{name}.lists")
            rooms = _names(options, "rooms", f"extensions.{name}.rooms")
            extensions[name] = Extension(options, lists, rooms)
    return extensions


def _names(options: Mapping[str, Any], name: str, where: str) -> frozenset[str] | None:
    """Names an extension is limited to; "*" among them, or no list at all, is no limit."""
    values = _strings(options, name, where)
    return None if values is None or "*" in values else frozenset(values)


def _config(one: Mapping[str, Any], where: str, merged: bool) -> RoomConfig:
    limit = one.get("timeline_limit", 0 if not merged else None)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise bad_json(f"{where}.timeline_limit must be an integer that is not negative")
    state = _merged_state(one, where) if merged else _state(one, where)
    return RoomConfig(min(limit, MAX_TIMELINE), state)


def _state(one: Mapping[str, Any], where: str) -> StateConfig:
    """`required_state` as pairs; "*" is anything, "$ME" the user, "$LAZY" the members that are needed."""
    pairs = one.get("required_state", [])
    where = f"{where}.required_state"
    if not isinstance(pairs, list) or len(pairs) > MAX_PATTERNS:
        raise bad_json(f"{where} must be a list of at most {MAX_PATTERNS} pairs")
    include = set()
    lazy = False
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise bad_json(f"{where} must hold pairs of an event type and a state key")
        kind, key = pair
        if kind == "m.room.member" and key == "$LAZY":
            lazy = True
        else:
            include.add(Pattern(ANY if kind == "*" else kind, ANY if key == "*" else key))
    # Everything but members, which are lazy, is how ["*","*"] beside $LAZY is meant.
    return StateConfig(frozenset(include), frozenset(), lazy)


def _merged_state(one: Mapping[str, Any], where: str) -> StateConfig:
    """`required_state` as what is included, excluded, and whether members are lazy."""
    given = _object(one, "required_state", f"{where}.required_state", needed=True)
    lazy = given.get("lazy_members", False)
    if not isinstance(lazy, bool):
        raise bad_json(f"{where}.required_state.lazy_members must be true or false")
    include = _patterns(given, "include", f"{where}.required_state.include")
    exclude = _patterns(given, "exclude", f"{where}.required_state.exclude")
    return StateConfig(include, exclude, lazy)


def _patterns(given: Mapping[str, Any], name: str, where: str) -> frozenset[Pattern]:
    values = given.get(name, [])
    if not isinstance(values, list) or len(values) > MAX_PATTERNS:
        raise bad_json(f"{where} must be a list of at most {MAX_PATTERNS} objects")
    found = set()
    for value in values:
        one = _as_object(value, where)
        found.add(Pattern(_text(one, "type", where), _text(one, "state_key", where)))
    return frozenset(found)


def _windows(one: Mapping[str, Any], where: str) -> tuple[tuple[int, int], ...] | None:
    given = one.get("ranges")
    if given is None:
        single = one.get("range")
        given = None if single is None else [single]
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > MAX_LISTS:
        raise bad_json(f"{where}.ranges must be a list of pairs")
    return tuple(_window(pair, f"{where}.ranges") for pair in given)


def _merged_window(one: Mapping[str, Any], where: str) -> tuple[tuple[int, int], ...] | None:
    given = one.get("range")
    return None if given is None else (_window(given, f"{where}.range"),)


def _window(pair: object, where: str) -> tuple[int, int]:
    if not (isinstance(pair, list) and len(pair) == 2):
        raise bad_json(f"{where} must hold a first and a last index")
    first, last = pair
    if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in pair) or not 0 <= first <= last:
        raise bad_json(f"{where} must hold a first and a last index, in order and not negative")
    return first, last


def _filter(one: Mapping[str, Any], where: str, merged: bool) -> RoomListFilter:
    given = _object(one, "filters", f"{where}.filters")
    where = f"{where}.filters"
    invited = _flag(given, "is_invited", where) if merged else _flag(given, "is_invite", where)
    return RoomListFilter(
        is_dm=_flag(given, "is_dm", where),
        is_encrypted=_flag(given, "is_encrypted", where),
        is_invited=invited,
        spaces=_set(given, "spaces", where),
        room_types=_types(given, "room_types", where),
        not_room_types=_types(given, "not_room_types", where) or frozenset(),
        tags=_set(given, "tags", where),
        not_tags=_set(given, "not_tags", where) or frozenset(),
    )


def _types(given: Mapping[str, Any], name: str, where: str) -> frozenset[str | None] | None:
    values = given.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(value is None or isinstance(value, str) for value in values):
        raise bad_json(f"{where}.{name} must be a list of strings and nulls")
    return frozenset(values)


def _set(given: Mapping[str, Any], name: str, where: str) -> frozenset[str] | None:
    values = _strings(given, name, f"{where}.{name}")
    return None if values is None else frozenset(values)


def _strings(given: Mapping[str, Any], name: str, where: str) -> list[str] | None:
    values = given.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_json(f"{where} must be a list of strings")
    return values


def _flag(given: Mapping[str, Any], name: str, where: str) -> bool | None:
    value = given.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_json(f"{where}.{name} must be true or false")
    return value


def _text(given: Mapping[str, Any], name: str, where: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_json(f"{where} must be a string")
    return value


def _object(given: Mapping[str, Any], name: str, where: str, needed: bool = False) -> Mapping[str, Any]:
    value = given.get(name)
    if value is None and not needed:
        return {}
    return _as_object(value, where)


def _as_object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    return value
