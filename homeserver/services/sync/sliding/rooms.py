# SPDX-License-Identifier: Apache-2.0
"""Knows what a sliding sync answer says of each room."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.filters import EVERYTHING
from homeserver.services.sync.build import is_unwelcome, with_membership
from homeserver.services.sync.members import Summary, member_rows, summaries
from homeserver.services.sync.plan import RoomAsk, Timeline
from homeserver.services.sync.rooms import Rendered, RoomRows
from homeserver.services.sync.sliding.choice import Choice
from homeserver.services.sync.sliding.job import Job, SlidingAsk
from homeserver.services.sync.sliding.required import Required, required_state
from homeserver.services.sync.state import SHAPING
from homeserver.services.sync.timeline import read_timelines
from homeserver.services.sync.tokens import room_token
from storage import names, unread
from storage.membership import INVITE, JOIN, KNOCK
from storage.membership import NAMES as MEMBERSHIPS
from storage.sync_reads import BUMPING, EventRow, current_pairs, events, last_bumps, stripped_states
from storage.txn import Txn

Result = dict[str, Any]
NAME, AVATAR = ("m.room.name", ""), ("m.room.avatar", "")
BUMPS = frozenset(BUMPING)


@attrs.frozen(slots=True)
class Looks:
    """What the rooms of an answer look like, by room: name and avatar, members in short, heroes, counts, activity."""

    titles: Mapping[int, Mapping[tuple[str, str], EventRow]]
    summaries: Mapping[int, Summary]
    heroes: Mapping[int, list[dict[str, Any]]]
    unread: Mapping[int, unread.Counts]
    bumps: Mapping[int, int]
    direct: frozenset[str]


def room_results(txn: Txn, job: Job, choice: Choice) -> tuple[dict[str, Result], dict[int, Timeline]]:
    """The result of each room by its id, and the timelines that were sent by room number."""
    asks = choice.asks
    inside = [ask for ask in asks if ask.standing.kind not in (INVITE, KNOCK)]
    outside = [ask for ask in asks if ask.standing.kind in (INVITE, KNOCK)]
    timelines = _timelines(txn, job, inside)
    states = required_state(txn, job, inside, timelines)
    rows = {ask.room: RoomRows(_room_ask(job, ask), timelines[ask.room], states[ask.room].rows) for ask in inside}
    rendered = job.tools.parts.render(txn, job.plan, rows) if rows else {}
    gaps = {ask.room for ask in inside if ask.initial or timelines[ask.room].limited}
    looks = _looks(txn, job, inside, states, gaps, choice.direct)
    results = {
        ask.room_id: _result(job, ask, timelines[ask.room], states[ask.room], rendered[ask.room], looks)
        for ask in inside
    }
    results.update(_previews(txn, job, outside))
    return results, timelines


def _room_ask(job: Job, ask: SlidingAsk) -> RoomAsk:
    joined = ask.standing.kind == JOIN
    return RoomAsk(
        room=ask.room,
        room_id=ask.room_id,
        standing=ask.standing,
        after=None if ask.expanded else ask.since,
        upto=job.upto.pos if joined else ask.standing.since,
        full=ask.initial,
        joined=joined,
    )


def _timelines(txn: Txn, job: Job, asks: Sequence[SlidingAsk]) -> dict[int, Timeline]:
    found: dict[int, Timeline] = {}
    recent = job.tools.parts.recent
    for limit in {ask.config.timeline_limit for ask in asks}:
        part = [_room_ask(job, ask) for ask in asks if ask.config.timeline_limit == limit]
        found.update(read_timelines(txn, job.viewer, part, EVERYTHING, limit, job.ignored, recent))
    return found


def _looks(
    txn: Txn,
    job: Job,
    asks: Sequence[SlidingAsk],
    states: Mapping[int, Required],
    gaps: Collection[int],
    direct: frozenset[str],
) -> Looks:
    usr = job.user.usr
    joined = [ask for ask in asks if ask.standing.kind == JOIN]
    initial = [ask.room for ask in joined if ask.initial]
    keys = [key for title in (NAME, AVATAR) if (key := names.skey_nid(txn, *title)) is not None]
    titles: dict[int, dict[tuple[str, str], EventRow]] = {room: {} for room in initial}
    for row in current_pairs(txn, [(room, key) for room in initial for key in keys]):
        titles[row.event.room][row.event.type, ""] = row
    for ask in asks:
        if ask.initial and ask.standing.kind != JOIN:
            titles[ask.room] = {(row.event.type, ""): row for row in states[ask.room].rows if row.event.state_key == ""}
    reshaped = [ask.room for ask in joined if ask.initial or any(key[0] in SHAPING for key in states[ask.room].changed)]
    summed = summaries(txn, usr, reshaped)
    counts = {} if job.request.merged else unread.counts(txn, usr, [ask.room for ask in joined], job.upto.pos)
    return Looks(
        titles=titles,
        summaries=summed,
        heroes=_heroes(txn, summed),
        unread=counts,
        bumps=last_bumps(txn, [ask.room for ask in joined if ask.room in gaps], job.upto.pos),
        direct=direct,
    )


def _heroes(txn: Txn, summed: Mapping[int, Summary]) -> dict[int, list[dict[str, Any]]]:
    wanted = {room: summary.heroes for room, summary in summed.items() if summary.heroes}
    found = {}
    for room, rows in member_rows(txn, wanted).items():
        members = {row.event.state_key: orjson.loads(row.event.content) for row in rows}
        found[room] = [_hero(user, members.get(user, {})) for user in wanted[room]]
    return found


def _hero(user: str, content: Mapping[str, Any]) -> dict[str, Any]:
    hero: dict[str, Any] = {"user_id": user}
    for name in ("displayname", "avatar_url"):
        if isinstance(content.get(name), str):
            hero[name] = content[name]
    return hero


def _result(job: Job, ask: SlidingAsk, timeline: Timeline, state: Required, rendered: Rendered, looks: Looks) -> Result:
    merged = job.request.merged
    result: Result = {}
    if ask.initial:
        result["initial"] = True
    if ask.expanded:
        result["expanded_timeline" if merged else "unstable_expanded_timeline"] = True
    required = rendered.state
    if merged:
        required = [*required, *({"type": kind, "state_key": key} for kind, key in state.removed)]
    if required or ask.initial:
        result["required_state"] = required
    if rendered.timeline or ask.initial:
        result["timeline"] = rendered.timeline
        result["prev_batch"] = room_token(timeline.start)
    if timeline.limited or ask.initial:
        result["limited"] = timeline.limited
    if job.since is not None:
        result["num_live"] = sum(1 for row in timeline.rows if row.nid > job.after)
    elif ask.initial:
        result["num_live"] = 0
    _titles(job, ask, state, looks, result)
    _people(ask, looks, result)
    _marks(job, ask, timeline, looks, result)
    return result


def _titles(job: Job, ask: SlidingAsk, state: Required, looks: Looks, result: Result) -> None:
    """Name and avatar, where they are new or changed. Gone ones are null in the merged form, else left out."""
    for key, field, wire in ((NAME, "name", "name"), (AVATAR, "url", "avatar")):
        if ask.initial:
            row = looks.titles.get(ask.room, {}).get(key)
        elif key in state.changed:
            row = state.changed[key]
        else:
            continue
        value = None if row is None else orjson.loads(row.event.content).get(field)
        if isinstance(value, str) and value:
            result[wire] = value
        elif not ask.initial and job.request.merged:
            result[wire] = None


def _people(ask: SlidingAsk, looks: Looks, result: Result) -> None:
    summary = looks.summaries.get(ask.room)
    if summary is not None:
        result["joined_count"], result["invited_count"] = summary.joined, summary.invited
        if summary.heroes is not None:
            result["heroes"] = looks.heroes.get(ask.room, [])


def _marks(job: Job, ask: SlidingAsk, timeline: Timeline, looks: Looks, result: Result) -> None:
    merged, joined = job.request.merged, ask.standing.kind == JOIN
    is_direct, was_direct = ask.room_id in looks.direct, ask.room_id in job.connection.direct
    if is_direct if ask.initial else is_direct != was_direct:
        result["is_dm"] = is_direct
    if not joined:
        result["bump_stamp"] = ask.standing.since
    elif ask.room in looks.bumps:
        result["bump_stamp"] = looks.bumps[ask.room]
    else:
        bumps = [row.nid for row in timeline.rows if row.event.type in BUMPS]
        if bumps:
            result["bump_stamp"] = max(bumps)
    if merged or not joined:
        result["membership"] = MEMBERSHIPS[ask.standing.kind]
    if merged:
        if ask.lists:
            result["lists"] = list(ask.lists)
    elif joined:
        notifications, highlights = unread.total(looks.unread.get(ask.room, (0, 0, {})))
        result["notification_count"], result["highlight_count"] = notifications, highlights


def _previews(txn: Txn, job: Job, asks: Sequence[SlidingAsk]) -> dict[str, Result]:
    """Rooms that the user is invited to or knocks on."""
    if not asks:
        return {}
    stripped = stripped_states(txn, job.user.usr, [ask.room for ask in asks])
    by = events(txn, [ask.standing.event for ask in asks])
    found = {}
    for ask in asks:
        row = by.get(ask.standing.event)
        if ask.standing.kind == INVITE and row is not None and is_unwelcome(row.event.sender, job.ignored, job.invites):
            continue
        state = orjson.loads(stripped.get(ask.room, b"[]"))
        if row is not None:
            state = with_membership(state, row)
        result: Result = {"initial": True, "bump_stamp": ask.standing.since}
        result["membership"] = MEMBERSHIPS[ask.standing.kind]
        if job.request.merged:
            result["stripped_state"] = state
            if ask.lists:
                result["lists"] = list(ask.lists)
        else:
            result["invite_state"] = state
        found[ask.room_id] = result
    return found
