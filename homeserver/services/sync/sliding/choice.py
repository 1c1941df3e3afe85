# SPDX-License-Identifier: Apache-2.0
"""Knows which of the matched rooms an answer has to hold, and which of those sent before fall behind by it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs

from homeserver.services.sync.sliding.connections import SentRoom
from homeserver.services.sync.sliding.facts import direct_rooms
from homeserver.services.sync.sliding.job import Job, SlidingAsk
from homeserver.services.sync.sliding.lists import Matched
from storage import account_data, names
from storage.membership import BAN, INVITE, JOIN, KNOCK, LEAVE
from storage.sync_reads import changed_rooms, rooms_read_by
from storage.txn import Txn

OUTSIDE = (INVITE, KNOCK)
ENDED = (LEAVE, BAN)


@attrs.frozen(slots=True)
class Choice:
    """The rooms to answer about, the rooms where anything changed, and the rooms left behind."""

    asks: tuple[SlidingAsk, ...]
    changed: frozenset[int]
    stale: dict[int, int]
    fresh: frozenset[int]
    sent: dict[int, SentRoom]
    direct: frozenset[str]


def choose(txn: Txn, job: Job, matched: Matched) -> Choice:
    """What to answer about the rooms that match."""
    connection = job.connection
    direct = connection.direct
    if job.since is None or job.news.own:
        direct = direct_rooms(account_data.get(txn, job.user.usr, 0, "m.direct"))
    changed = changed_since(txn, job, direct ^ connection.direct) if job.since is not None else frozenset()
    candidates = matched.rooms
    if connection.asked == job.wishes and job.since is not None:
        # Nothing but these can have anything to tell: the wishes are those that the rest was sent by.
        candidates = matched.rooms & (changed | connection.stale.keys()) | matched.rooms.difference(connection.sent)
    asks = []
    sent: dict[int, SentRoom] = {}
    for room in candidates:
        ask = _ask(txn, job, matched, room, changed)
        if ask is not None:
            asks.append(ask)
            sent[room] = SentRoom(ask.config, ask.standing.kind)
    stale = {room: job.after for room in changed if room in connection.sent and room not in matched.rooms}
    fresh = frozenset(matched.rooms & connection.stale.keys())
    return Choice(tuple(asks), changed, stale, fresh, sent, direct)


def changed_since(txn: Txn, job: Job, refiled: Collection[str]) -> frozenset[int]:
    """The rooms where anything happened that the user may see, since the connection's position.

    `refiled` are rooms that became direct chats, or are none any more.
    """
    usr = job.user.usr
    rooms: set[int] = set(changed_rooms(txn, usr, job.after) if job.news.rooms is None else job.news.rooms)
    rooms |= job.news.typing_changed
    if job.news.own:
        rooms |= {entry.room for entry in account_data.since(txn, usr, job.after, job.upto.pos) if entry.room}
    if job.news.private_reads:
        rooms |= rooms_read_by(txn, usr, job.after)
    if job.news.memberships:
        standings = job.connection.standings or {}
        rooms |= {one.room for one in standings.values() if one.since > job.after}
    rooms |= {number for room in refiled if (number := names.room_nid(txn, room)) is not None}
    return frozenset(rooms)


def _ask(txn: Txn, job: Job, matched: Matched, room: int, changed: Iterable[int]) -> SlidingAsk | None:
    connection = job.connection
    standing = (connection.standings or {})[room]
    config = matched.config_of(room, job.tools.connections.configs)
    before = connection.sent.get(room)
    new = SlidingAsk(room, names.room_id(txn, room), standing, config, None, lists=matched.lists_of(room))
    if before is None or _begins_anew(before.kind, standing.kind):
        return new
    since = connection.stale.get(room)
    if since is None and room in changed:
        since = job.after
    if standing.kind in OUTSIDE:
        return new if since is not None and standing.since > since else None
    if standing.kind in ENDED and before.kind in ENDED:
        return None
    expanded = standing.kind == JOIN and config.timeline_limit > before.config.timeline_limit
    grown = config is not before.config and set(config.states) != set(before.config.states)
    if since is None and not expanded and not grown:
        return None
    return attrs.evolve(
        new,
        since=job.after if since is None else since,
        expanded=expanded,
        before=before.config if grown else None,
    )


def _begins_anew(before: int, now: int) -> bool:
    """Whether the user stands to the room so differently that the client begins with it again."""
    return before != now and now not in ENDED
