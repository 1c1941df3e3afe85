# SPDX-License-Identifier: Apache-2.0
"""Knows which state of a room a sliding sync client wants, how several wishes combine, and when one asks for more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import attrs

ANY = None
ME = "$ME"
MEMBER = "m.room.member"


class Pattern(NamedTuple):
    """State events of a type at a key; None: of any."""

    type: str | None
    key: str | None


@attrs.frozen(slots=True)
class StateConfig:
    """One wish: what matches `include` and not `exclude`, and with `lazy` the members that are needed.

    With `lazy`, patterns that match all members mean none: only members named outright are sent.
    """

    include: frozenset[Pattern] = frozenset()
    exclude: frozenset[Pattern] = frozenset()
    lazy: bool = False

    def wants(self, event_type: str, key: str, me: str) -> bool:
        if event_type == MEMBER and self.lazy and not self._names(key, me):
            return False
        return _matches(self.include, event_type, key, me) and not _matches(self.exclude, event_type, key, me)

    def _names(self, key: str, me: str) -> bool:
        """Whether a member is asked for by name."""
        own = key == me and any(Pattern(kind, ME) in self.include for kind in (MEMBER, None))
        return own or Pattern(MEMBER, key) in self.include or Pattern(None, key) in self.include

    @property
    def all_members(self) -> bool:
        """Whether every member of a room is wanted."""
        return not self.lazy and any(pattern.key is None and pattern.type in (None, MEMBER) for pattern in self.include)

    def exact_keys(self, me: str) -> list[tuple[str, str]] | None:
        """The (type, key) pairs wanted where all are named outright, else None."""
        if any(pattern.type is None or pattern.key is None for pattern in self.include):
            return None
        return [(str(p.type), me if p.key == ME else str(p.key)) for p in self.include]


def _matches(patterns: frozenset[Pattern], event_type: str, key: str, me: str) -> bool:
    if not patterns:
        return False
    kinds: tuple[str | None, ...] = (event_type, None)
    keys: tuple[str | None, ...] = (key, None, ME) if key == me else (key, None)
    return any(Pattern(kind, one) in patterns for kind in kinds for one in keys)


@attrs.frozen(slots=True)
class RoomConfig:
    """What a list or a subscription wants of a room: the newest events, and state by any of several wishes."""

    timeline_limit: int
    state: StateConfig = StateConfig()
    more: frozenset[StateConfig] = frozenset()

    @property
    def states(self) -> tuple[StateConfig, ...]:
        return (self.state, *self.more)

    def wants(self, event_type: str, key: str, me: str) -> bool:
        return any(one.wants(event_type, key, me) for one in self.states)

    @property
    def all_members(self) -> bool:
        return any(one.all_members for one in self.states)

    @property
    def lazy(self) -> bool:
        """Whether members are sent as they are needed: not where all are sent anyway."""
        return any(one.lazy for one in self.states) and not self.all_members

    def exact_keys(self, me: str) -> list[tuple[str, str]] | None:
        found: list[tuple[str, str]] = []
        for one in self.states:
            keys = one.exact_keys(me)
            if keys is None:
                return None
            found += keys
        return found


def combine(configs: Iterable[RoomConfig]) -> RoomConfig:
    """One config that wants whatever any of them wants."""
    limit = 0
    states: dict[StateConfig, None] = {}
    for config in configs:
        limit = max(limit, config.timeline_limit)
        states.update(dict.fromkeys(config.states))
    first, *rest = states or {StateConfig(): None}
    return RoomConfig(limit, first, frozenset(rest))


class Interned:
    """One object per distinct config, so that thousands of rooms share it and compare by identity first."""

    def __init__(self) -> None:
        self._known: dict[RoomConfig, RoomConfig] = {}

    def of(self, config: RoomConfig) -> RoomConfig:
        if len(self._known) > 1_000:
            self._known.clear()
        return self._known.setdefault(config, config)


def grown(before: RoomConfig, now: RoomConfig, state: Mapping[tuple[str, str], int], me: str) -> set[int]:
    """The events of a room's state that `now` wants and `before` did not."""
    if before is now or before.states == now.states:
        return set()
    return {
        event for (kind, key), event in state.items() if now.wants(kind, key, me) and not before.wants(kind, key, me)
    }
