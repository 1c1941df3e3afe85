# SPDX-License-Identifier: Apache-2.0
"""Knows which state events the rooms of a sliding sync answer carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from homeserver.services.sync.members import member_rows
from homeserver.services.sync.plan import Timeline
from homeserver.services.sync.sight import was_ever_inside
from homeserver.services.sync.sliding.job import Job, SlidingAsk
from homeserver.services.sync.sliding.state_config import ME, MEMBER, RoomConfig
from storage import names
from storage.membership import JOIN
from storage.sync_reads import EventRow, Logged, current_pairs, current_state, events, state_changes
from storage.timeline import state_at
from storage.txn import Txn

StateKey = tuple[str, str]


@attrs.frozen(slots=True)
class Required:
    """The state of one room's answer: events, the keys that lost theirs, and all that changed, wanted or not."""

    rows: tuple[EventRow, ...]
    removed: tuple[StateKey, ...]
    changed: Mapping[StateKey, EventRow | None]


def required_state(
    txn: Txn, job: Job, asks: Sequence[SlidingAsk], timelines: Mapping[int, Timeline]
) -> dict[int, Required]:
    """The state of each room; nothing but the end of it for who was never inside."""
    outside = {ask.room for ask in asks if not was_ever_inside(txn, job.viewer, ask.standing)}
    found = {room: Required((), (), {}) for room in outside}
    asks = [ask for ask in asks if ask.room not in outside]
    whole = _whole(txn, job, [ask for ask in asks if ask.initial or ask.before is not None])
    logs = _logs(txn, job, [ask for ask in asks if not ask.initial])
    lazy = _lazy(txn, asks, timelines)
    for ask in asks:
        changed = logs.get(ask.room, {})
        chosen = {row.nid: row for row in whole.get(ask.room, ())}
        removed = []
        gap = timelines[ask.room].limited
        for key, row in changed.items():
            wanted = ask.config.wants(*key, job.user.user_id)
            needed = key[0] == MEMBER and ask.config.lazy and not gap
            if row is None and wanted:
                removed.append(key)
            elif row is not None and (wanted or needed):
                chosen[row.nid] = row
        _add_members(job, ask, chosen, lazy.get(ask.room, ()))
        found[ask.room] = Required(tuple(chosen.values()), tuple(removed), changed)
    return found


def _add_members(job: Job, ask: SlidingAsk, chosen: dict[int, EventRow], members: Sequence[EventRow]) -> None:
    """Add the members that the timeline needs, but for those that the connection has."""
    if not ask.config.lazy:
        return
    told, usr, connection = job.tools.parts.told, job.user.usr, -job.connection.number
    since = -1 if ask.initial else job.after
    for row in members:
        if not told.knows(usr, connection, ask.room, row, since):
            chosen[row.nid] = row
    told.told(usr, connection, ask.room, chosen.values(), job.upto.pos)


def _lazy(txn: Txn, asks: Sequence[SlidingAsk], timelines: Mapping[int, Timeline]) -> dict[int, list[EventRow]]:
    """The members who sent the timelines' events, or whom their member events are about."""
    wanted: dict[int, set[str]] = {}
    for ask in asks:
        if ask.config.lazy:
            rows = timelines[ask.room].rows
            wanted[ask.room] = {row.event.sender for row in rows} | {
                row.event.state_key for row in rows if row.event.type == MEMBER and row.event.state_key is not None
            }
    return member_rows(txn, wanted) if wanted else {}


def _whole(txn: Txn, job: Job, asks: Sequence[SlidingAsk]) -> dict[int, list[EventRow]]:
    """The state of which the client has none: all that is wanted now, and was not before."""
    me = job.user.user_id
    found: dict[int, list[EventRow]] = {}
    groups: dict[RoomConfig, list[SlidingAsk]] = {}
    for ask in asks:
        if ask.standing.kind == JOIN:
            groups.setdefault(ask.config, []).append(ask)
        else:
            found[ask.room] = list(events(txn, state_at(txn, ask.room, ask.standing.event).values()).values())
    for config, together in groups.items():
        found.update(_current(txn, [ask.room for ask in together], config, me))
    return {ask.room: [row for row in found[ask.room] if _is_new(ask, row, me)] for ask in asks}


def _is_new(ask: SlidingAsk, row: EventRow, me: str) -> bool:
    kind, key = row.event.type, row.event.state_key or ""
    before = None if ask.initial else ask.before
    return ask.config.wants(kind, key, me) and (before is None or not before.wants(kind, key, me))


def _current(txn: Txn, rooms: Sequence[int], config: RoomConfig, me: str) -> dict[int, list[EventRow]]:
    """The current state of rooms as far as a config may want it."""
    exact = config.exact_keys(me)
    if exact is not None:
        found: dict[int, list[EventRow]] = {room: [] for room in rooms}
        keys = exact
    else:
        found = current_state(txn, rooms, with_members=config.all_members)
        keys = [] if config.all_members else named_members(config, me)
    numbers = [number for key in set(keys) if (number := names.skey_nid(txn, *key)) is not None]
    for row in current_pairs(txn, [(room, number) for room in rooms for number in numbers]):
        found[row.event.room].append(row)
    return found


def named_members(config: RoomConfig, me: str) -> list[StateKey]:
    """The members that a config names outright."""
    patterns = [pattern for one in config.states for pattern in one.include]
    return [
        (MEMBER, me if pattern.key == ME else pattern.key)
        for pattern in patterns
        if pattern.type in (MEMBER, None) and pattern.key is not None
    ]


def _logs(txn: Txn, job: Job, asks: Sequence[SlidingAsk]) -> dict[int, dict[StateKey, EventRow | None]]:
    """What changed in each room since the client had its state: the last event of each key."""
    changed = job.news.state_rooms
    windows = [
        (ask.room, ask.since)
        for ask in asks
        if ask.since is not None and (changed is None or ask.since != job.after or ask.room in changed)
    ]
    if not windows:
        return {}
    logs = state_changes(txn, windows, job.upto.pos)
    ends = {ask.room: job.upto.pos if ask.standing.kind == JOIN else ask.standing.since for ask in asks}
    last: dict[int, dict[int, int | None]] = {room: _last(log, ends[room]) for room, log in logs.items()}
    rows = events(txn, [nid for keys in last.values() for nid in keys.values() if nid is not None])
    named = names.skeys(txn, {skey for keys in last.values() for skey in keys})
    return {
        room: {named[skey]: None if nid is None else rows.get(nid) for skey, nid in keys.items()}
        for room, keys in last.items()
    }


def _last(log: Sequence[Logged], end: int) -> dict[int, int | None]:
    return {change.skey: change.event for change in log if change.pos <= end}
