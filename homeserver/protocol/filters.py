# SPDX-License-Identifier: Apache-2.0
"""Knows what a client's filter may say, and which rooms, events and fields it lets through.

Specification: https://spec.matrix.org/v1.19/client-server-api/#filtering
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from homeserver.protocol.errors import bad_json

DEFAULT_TIMELINE_LIMIT = 10
MAX_LIMIT = 100
MAX_ENTRIES = 5_000


def matches_glob(parts: tuple[str, ...], value: str) -> bool:
    """Whether `value` is the parts in order with anything between them. Linear, unlike a regular expression."""
    first, *middle, last = parts
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    position, end = len(first), len(value) - len(last)
    for part in middle:
        position = value.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


@attrs.frozen
class Patterns:
    """Event types, some with `*` for any sequence of characters."""

    exact: frozenset[str]
    wild: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Patterns:
        exact, wild = [], []
        for entry in entries:
            if "*" in entry:
                wild.append(tuple(entry.split("*")))
            else:
                exact.append(entry)
        return cls(frozenset(exact), tuple(wild))

    def match(self, value: str) -> bool:
        return value in self.exact or any(matches_glob(parts, value) for parts in self.wild)


NOTHING = Patterns(frozenset())


@attrs.frozen
class EventFilter:
    """One part of a filter: which events pass, how many, and how members are loaded. The default passes everything."""

    limit: int | None = None
    types: Patterns | None = None
    not_types: Patterns = NOTHING
    senders: frozenset[str] | None = None
    not_senders: frozenset[str] = frozenset()
    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    related_by_senders: frozenset[str] | None = None
    related_by_rel_types: frozenset[str] | None = None
    rel_types: frozenset[str] | None = None

    @property
    def passes_every_event(self) -> bool:
        """Whether no event of a room that passes `allows_room` is ever held back."""
        return (
            self.types is None
            and not self.not_types.exact
            and not self.not_types.wild
            and self.senders is None
            and not self.not_senders
            and self.contains_url is None
            and self.related_by_senders is None
            and self.related_by_rel_types is None
            and self.rel_types is None
        )

    @property
    def needs_content(self) -> bool:
        """Whether the answer depends on the content of an event."""
        return self.contains_url is not None or self.rel_types is not None

    @property
    def passes_nothing(self) -> bool:
        """Whether no event can pass, so that nothing need be read."""
        return (
            self.limit == 0
            or (self.types is not None and not self.types.exact and not self.types.wild)
            or self.senders == frozenset()
            or self.rooms == frozenset()
            or any(not any(parts) for parts in self.not_types.wild)
        )

    def allows_room(self, room_id: str) -> bool:
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    def allows_type(self, event_type: str) -> bool:
        return not self.not_types.match(event_type) and (self.types is None or self.types.match(event_type))

    def allows_sender(self, sender: str) -> bool:
        return sender not in self.not_senders and (self.senders is None or sender in self.senders)

    def allows_content(self, content: Mapping[str, object]) -> bool:
        if self.contains_url is not None and self.contains_url != isinstance(content.get("url"), str):
            return False
        if self.rel_types is not None:
            relates = content.get("m.relates_to")
            return isinstance(relates, dict) and relates.get("rel_type") in self.rel_types
        return True

    def allows(self, event_type: str, sender: str, content: Mapping[str, object]) -> bool:
        """Whether an event passes; its room is asked apart, by `allows_room`."""
        return self.allows_type(event_type) and self.allows_sender(sender) and self.allows_content(content)


EVERYTHING = EventFilter()


@attrs.frozen
class RoomFilter:
    """Which rooms a sync has, and what of them."""

    rooms: frozenset[str] | None = None
    not_rooms: frozenset[str] = frozenset()
    include_leave: bool = False
    state: EventFilter = EVERYTHING
    timeline: EventFilter = EVERYTHING
    ephemeral: EventFilter = EVERYTHING
    account_data: EventFilter = EVERYTHING

    def allows_room(self, room_id: str) -> bool:
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    @property
    def timeline_limit(self) -> int:
        limit = self.timeline.limit
        return DEFAULT_TIMELINE_LIMIT if limit is None else min(limit, MAX_LIMIT)


@attrs.frozen
class Filter:
    """A whole filter, as stored by `POST /user/{userId}/filter` or given inline to `/sync`."""

    event_fields: tuple[tuple[str, ...], ...] | None = None
    federation_format: bool = False
    presence: EventFilter = EVERYTHING
    account_data: EventFilter = EVERYTHING
    room: RoomFilter = RoomFilter()


PASS_ALL = Filter()


def parse_filter(body: Mapping[str, object]) -> Filter:
    """The filter that a JSON object describes. Raises M_BAD_JSON naming the field that is wrong."""
    fields = _strings(body, "event_fields", "event_fields")
    event_format = body.get("event_format")
    if event_format is None:
        event_format = "client"
    if event_format not in ("client", "federation"):
        raise bad_json("event_format must be 'client' or 'federation'")
    room = _object(body, "room", "room")
    return Filter(
        event_fields=None if fields is None else tuple(split_field(field) for field in fields),
        federation_format=event_format == "federation",
        presence=parse_event_filter(_object(body, "presence", "presence"), "presence"),
        account_data=parse_event_filter(_object(body, "account_data", "account_data"), "account_data"),
        room=_parse_room_filter(room),
    )


def _parse_room_filter(room: Mapping[str, object]) -> RoomFilter:
    parts = {
        name: parse_event_filter(_object(room, name, f"room.{name}"), f"room.{name}")
        for name in ("state", "timeline", "ephemeral", "account_data")
    }
    return RoomFilter(
        rooms=_ids(room, "rooms", "!", "room.rooms"),
        not_rooms=_ids(room, "not_rooms", "!", "room.not_rooms") or frozenset(),
        include_leave=_flag(room, "include_leave", "room.include_leave") or False,
        **parts,
    )


def parse_event_filter(body: Mapping[str, object], where: str = "filter") -> EventFilter:
    """One EventFilter, RoomEventFilter or StateFilter. Raises M_BAD_JSON naming the field that is wrong."""
    types = _strings(body, "types", f"{where}.types")
    return EventFilter(
        limit=_limit(body, f"{where}.limit"),
        types=None if types is None else Patterns.of(types),
        not_types=Patterns.of(_strings(body, "not_types", f"{where}.not_types") or ()),
        senders=_ids(body, "senders", "@", f"{where}.senders"),
        not_senders=_ids(body, "not_senders", "@", f"{where}.not_senders") or frozenset(),
        rooms=_ids(body, "rooms", "!", f"{where}.rooms"),
        not_rooms=_ids(body, "not_rooms", "!", f"{where}.not_rooms") or frozenset(),
        contains_url=_flag(body, "contains_url", f"{where}.contains_url"),
        lazy_load_members=_flag(body, "lazy_load_members", f"{where}.lazy_load_members") or False,
        include_redundant_members=_flag(body, "include_redundant_members", f"{where}.include_redundant_members")
        or False,
        unread_thread_notifications=_flag(body, "unread_thread_notifications", f"{where}.unread_thread_notifications")
        or _flag(body, "org.matrix.msc3773.unread_thread_notifications", f"{where}.unread_thread_notifications")
        or False,
        related_by_senders=_ids(body, "related_by_senders", "@", f"{where}.related_by_senders"),
        related_by_rel_types=_set(body, "related_by_rel_types", f"{where}.related_by_rel_types"),
        rel_types=_set(body, "rel_types", f"{where}.rel_types")
        or _set(body, "org.matrix.msc3874.rel_types", f"{where}.rel_types"),
    )


def split_field(path: str) -> tuple[str, ...]:
    r"""The property names of a dot-separated path, where `\.` is a dot of a name and `\\` a backslash."""
    names: list[str] = []
    name: list[str] = []
    position = 0
    while position < len(path):
        character = path[position]
        if character == "\\" and path[position + 1 : position + 2] in (".", "\\"):
            position += 1
            name.append(path[position])
        elif character == ".":
            names.append("".join(name))
            name = []
        else:
            name.append(character)
        position += 1
    names.append("".join(name))
    return tuple(names)


def select_fields(event: Mapping[str, object], fields: Iterable[tuple[str, ...]]) -> dict[str, object]:
    """The event with only the properties that `fields` name; what is absent is left out."""
    selected: dict[str, object] = {}
    for path in fields:
        source: object = event
        for name in path[:-1]:
            source = source.get(name) if isinstance(source, Mapping) else None
        if not isinstance(source, Mapping) or path[-1] not in source:
            continue
        target = selected
        for name in path[:-1]:
            inner = target.setdefault(name, {})
            if not isinstance(inner, dict):
                break
            target = inner
        else:
            target[path[-1]] = source[path[-1]]
    return selected


def _object(body: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_json(f"{where} must be an object")
    return value


def _strings(body: Mapping[str, object], name: str, where: str) -> list[str] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise bad_json(f"{where} must be a list of strings")
    if len(value) > MAX_ENTRIES:
        raise bad_json(f"{where} has more than {MAX_ENTRIES} entries")
    return value


def _set(body: Mapping[str, object], name: str, where: str) -> frozenset[str] | None:
    values = _strings(body, name, where)
    return None if values is None else frozenset(values)


def _ids(body: Mapping[str, object], name: str, sigil: str, where: str) -> frozenset[str] | None:
    values = _strings(body, name, where)
    if values is None:
        return None
    for value in values:
        if not value.startswith(sigil):
            raise bad_json(f"{where} must hold identifiers that start with {sigil}")
    return frozenset(values)


def _flag(body: Mapping[str, object], name: str, where: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_json(f"{where} must be true or false")
    return value


def _limit(body: Mapping[str, object], where: str) -> int | None:
    value = body.get("limit")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise bad_json(f"{where} must be an integer that is not negative")
    return value
