# SPDX-License-Identifier: Apache-2.0
"""Knows what a sync says of each room: timeline, state, who types and reads, account data, unread counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.services.sync.members import Summary, ToldMembers, summaries
from homeserver.services.sync.plan import Plan, RoomAsk, Timeline
from homeserver.services.sync.sight import Viewer
from homeserver.services.sync.state import StateReader, reshaped_rooms
from homeserver.services.sync.timeline import RecentTimelines, read_timelines
from homeserver.services.sync.tokens import room_token
from storage import account_data, receipts, unread
from storage.account_data import Entry
from storage.receipts import MAIN, UNTHREADED, Receipt
from storage.sync_reads import EventRow, Logged, event_ids
from storage.txn import Txn

Section = dict[str, Any]
#: Renders the state and the timeline rows of rooms: (state rows, timeline rows) per room, in that order.
Render = Callable[[Txn, Plan, Mapping[int, "RoomRows"]], Mapping[int, "Rendered"]]


@attrs.frozen(slots=True)
class RoomRows:
    """The events of one room's answer."""

    ask: RoomAsk
    timeline: Timeline
    state: Sequence[EventRow]


@attrs.frozen(slots=True)
class Rendered:
    """The same on the wire."""

    timeline: list[Any]
    state: list[Any]


@attrs.frozen(slots=True)
class Parts:
    """What making answers needs beside the database."""

    told: ToldMembers
    render: Render
    recent: RecentTimelines


@attrs.frozen(slots=True)
class Extras:
    """What rooms are told of beside events, by room number."""

    entries: Mapping[int, Sequence[Entry]]
    reads: Mapping[int, Sequence[Receipt]]
    read_ids: Mapping[int, str]
    unread: Mapping[int, unread.Counts]
    thread_ids: Mapping[int, str]


def room_sections(
    txn: Txn, plan: Plan, asks: Sequence[RoomAsk], parts: Parts, changed: Mapping[int, list[Entry]]
) -> dict[str, Section]:
    """The section of each room, by room id. `changed` is account data that changed, by room."""
    request = plan.request
    viewer = Viewer(request.user.usr, request.user.user_id)
    chosen = request.filter.room
    limit = chosen.timeline_limit
    timelines = read_timelines(txn, viewer, asks, chosen.timeline, limit, plan.ignored, parts.recent)
    reader = StateReader(txn, plan, parts.told)
    logs = reader.logs(asks)
    summed = _summaries(txn, plan, asks, logs)
    states = reader.read(asks, timelines, logs, summed)
    rows = {ask.room: RoomRows(ask, timelines[ask.room], states[ask.room]) for ask in asks}
    rendered = parts.render(txn, plan, rows)
    extras = _extras(txn, plan, asks, changed)
    return {
        ask.room_id: _section(plan, rows[ask.room], rendered[ask.room], summed.get(ask.room), extras) for ask in asks
    }


def _summaries(
    txn: Txn, plan: Plan, asks: Sequence[RoomAsk], logs: Mapping[int, Sequence[Logged]]
) -> dict[int, Summary]:
    """Summaries where the client has none yet, and where what they depend on changed."""
    reshaped = reshaped_rooms(txn, logs)
    rooms = [ask.room for ask in asks if ask.joined and (ask.full or ask.room in reshaped)]
    return summaries(txn, plan.usr, rooms)


def _extras(txn: Txn, plan: Plan, asks: Sequence[RoomAsk], changed: Mapping[int, list[Entry]]) -> Extras:
    joined = [ask for ask in asks if ask.joined]
    fresh = [ask.room for ask in asks if ask.after is None]
    entries: dict[int, list[Entry]] = {ask.room: changed.get(ask.room, []) for ask in asks}
    if plan.since is not None and fresh:
        entries.update({room: [] for room in fresh})
        for entry in account_data.of_rooms(txn, plan.usr, fresh, plan.upto.pos):
            entries[entry.room].append(entry)
    reads = _reads(txn, plan, joined)
    counts = unread.counts(txn, plan.usr, [ask.room for ask in joined], plan.upto.pos)
    threads = {root for _, _, by_thread in counts.values() for root in by_thread}
    named = {receipt.event for marks in reads.values() for receipt in marks}
    named |= {receipt.thread for marks in reads.values() for receipt in marks if receipt.thread > MAIN}
    ids = event_ids(txn, named | threads)
    return Extras(entries, reads, ids, counts, ids)


def _reads(txn: Txn, plan: Plan, joined: Sequence[RoomAsk]) -> dict[int, list[Receipt]]:
    """Receipts by room: all of rooms that are new to the client, else those since."""
    chosen = plan.request.filter.room.ephemeral
    if chosen.passes_nothing or not chosen.allows_type("m.receipt"):
        return {}
    found: dict[int, list[Receipt]] = {}
    wanted = [ask for ask in joined if chosen.allows_room(ask.room_id)]
    for after in {0 if ask.after is None else ask.after for ask in wanted}:
        rooms = [ask.room for ask in wanted if (ask.after or 0) == after]
        if after == plan.after and plan.receipt_rooms is not None and not plan.private_reads:
            rooms = [room for room in rooms if room in plan.receipt_rooms]
        for receipt in receipts.for_rooms(txn, rooms, after, plan.upto.pos, plan.usr):
            found.setdefault(receipt.room, []).append(receipt)
    return found


def _section(plan: Plan, rows: RoomRows, rendered: Rendered, summary: Summary | None, extras: Extras) -> Section:
    ask, chosen = rows.ask, plan.request.filter.room
    timeline: Section = {
        "events": rendered.timeline,
        "limited": rows.timeline.limited,
        "prev_batch": room_token(rows.timeline.start),
    }
    data = [entry for entry in extras.entries.get(ask.room, ()) if chosen.account_data.allows_type(entry.type)]
    if not chosen.account_data.allows_room(ask.room_id):
        data = []
    section: Section = {"timeline": timeline, "account_data": {"events": [render_entry(entry) for entry in data]}}
    if plan.request.state_after:
        section["state_after"] = section["org.matrix.msc4222.state_after"] = {"events": rendered.state}
    else:
        section["state"] = {"events": rendered.state}
    if ask.joined:
        section["ephemeral"] = {"events": _ephemeral(plan, ask, extras)}
        section["summary"] = {} if summary is None else summary.render()
        section.update(_unread(plan, ask, extras))
    return section


def says_something(plan: Plan, section: Section, ask: RoomAsk) -> bool:
    """Whether a room has anything to tell a client that already knows it."""
    state = section.get("state") or section.get("state_after") or {}
    timeline = section["timeline"]
    return bool(
        ask.full
        or timeline["events"]
        or timeline["limited"]
        or state.get("events")
        or section["account_data"]["events"]
        or section.get("ephemeral", {}).get("events")
        or section.get("summary")
        or plan.private_reads
    )


def render_entry(entry: Entry) -> Section:
    """One entry of account data as an event."""
    return {"type": entry.type, "content": orjson.Fragment(entry.content)}


def _unread(plan: Plan, ask: RoomAsk, extras: Extras) -> Section:
    counted = extras.unread.get(ask.room, (0, 0, {}))
    if not plan.request.filter.room.timeline.unread_thread_notifications:
        notifications, highlights = unread.total(counted)
        return {"unread_notifications": _counts(notifications, highlights)}
    section: Section = {"unread_notifications": _counts(counted[0], counted[1])}
    threads = {
        extras.thread_ids[root]: _counts(*pair) for root, pair in counted[2].items() if root in extras.thread_ids
    }
    if threads:
        section["unread_thread_notifications"] = threads
    return section


def _counts(notifications: int, highlights: int) -> dict[str, int]:
    return {"notification_count": notifications, "highlight_count": highlights}


def _ephemeral(plan: Plan, ask: RoomAsk, extras: Extras) -> list[Section]:
    events = render_reads(extras.reads.get(ask.room, ()), extras.read_ids)
    chosen = plan.request.filter.room.ephemeral
    people = plan.typing.get(ask.room, [])
    fresh = ask.after is None and people != []
    if (
        (fresh or ask.room in plan.typing_changed)
        and chosen.allows_room(ask.room_id)
        and chosen.allows_type("m.typing")
    ):
        events.append({"type": "m.typing", "content": {"user_ids": people}})
    return events


def render_reads(reads: Sequence[Receipt], ids: Mapping[int, str]) -> list[Section]:
    """`m.receipt` events: one, but for receipts of one user for several threads on one event, which need more."""
    contents: list[dict[str, dict[str, dict[str, Any]]]] = []
    for receipt in reads:
        event_id = ids.get(receipt.event)
        if event_id is None:
            continue
        mark: dict[str, Any] = {"ts": receipt.ts}
        if receipt.thread != UNTHREADED:
            mark["thread_id"] = "main" if receipt.thread == MAIN else ids.get(receipt.thread, "main")
        for content in contents:
            people = content.setdefault(event_id, {}).setdefault(receipt.type, {})
            if receipt.user_id not in people:
                people[receipt.user_id] = mark
                break
        else:
            contents.append({event_id: {receipt.type: {receipt.user_id: mark}}})
    return [{"type": "m.receipt", "content": content} for content in contents]
