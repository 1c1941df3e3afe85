# SPDX-License-Identifier: Apache-2.0
"""Knows what sliding sync answers carry besides rooms: messages to the device, keys, account data, receipts, typing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from homeserver.protocol.errors import bad_json, invalid_param
from homeserver.services.sync.plan import Timeline
from homeserver.services.sync.rooms import render_entry, render_reads
from homeserver.services.sync.sliding.choice import Choice
from homeserver.services.sync.sliding.job import Job
from homeserver.services.sync.sliding.lists import Matched
from homeserver.services.sync.sliding.request import Extension
from storage import account_data, device_lists, names, receipts, to_device
from storage.membership import JOIN
from storage.receipts import MAIN, Receipt
from storage.sync_reads import event_ids
from storage.txn import Txn

Found = dict[str, Any]


def build_extensions(
    txn: Txn, job: Job, matched: Matched, choice: Choice, timelines: Mapping[int, Timeline]
) -> tuple[Found, bool]:
    """The extensions' part of an answer, and whether there is anything new in it."""
    asked = job.request.extensions
    found: Found = {}
    new = False
    if "to_device" in asked and job.user.device:
        found["to_device"] = messages(txn, job, asked["to_device"])
        new = bool(found["to_device"]["events"])
    if "e2ee" in asked and job.user.device:
        found["e2ee"] = _device_lists(txn, job)
        new = new or bool(found["e2ee"])
    news = _with_news(job, matched, choice)
    for name, build in (("account_data", _account_data), ("receipts", _receipts), ("typing", _typing)):
        if name in asked:
            rooms = {room for room in news if _covers(txn, asked[name], matched, room)}
            part = build(txn, job, choice, timelines, rooms)
            if part:
                found[name] = part
                new = True
    return found, new


def message_position(extension: Extension) -> int:
    """The position of `since` of the to-device extension; raises M_INVALID_PARAM."""
    given = extension.options.get("since")
    if given is None:
        return 0
    if not isinstance(given, str) or not (given.isascii() and given.isdecimal() and len(given) < 19):
        raise invalid_param("extensions.to_device.since is not a token of this server")
    return int(given)


def messages(txn: Txn, job: Job, extension: Extension) -> Found:
    """Messages to the device after its own token, which is not the connection's."""
    limit = extension.options.get("limit", to_device.BATCH)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise bad_json("extensions.to_device.limit must be a number above zero")
    since = min(message_position(extension), job.upto.pos)
    waiting, upto = to_device.for_sync(txn, job.user.device, since, job.upto.pos, min(limit, to_device.BATCH))
    return {"next_batch": str(upto), "events": [orjson.Fragment(message) for message in waiting]}


def _device_lists(txn: Txn, job: Job) -> Found:
    if job.since is None or not job.news.device_lists:
        return {}
    changed, left = device_lists.changed(txn, job.user.usr, job.after, job.upto.pos)
    if not changed and not left:
        return {}
    ids = names.user_ids(txn, [*changed, *left])
    return {"device_lists": {"changed": [ids[usr] for usr in changed], "left": [ids[usr] for usr in left]}}


def _with_news(job: Job, matched: Matched, choice: Choice) -> frozenset[int]:
    """The matched rooms that may have anything to tell."""
    initial = {ask.room for ask in choice.asks if ask.initial}
    return matched.rooms & (choice.changed | job.connection.stale.keys() | initial)


def _covers(txn: Txn, extension: Extension, matched: Matched, room: int) -> bool:
    """Whether an extension covers a room: as one of its lists', or as a subscription of its rooms'."""
    if any(extension.lists is None or name in extension.lists for name in matched.lists_of(room)):
        return True
    return room in matched.subscribed and (extension.rooms is None or names.room_id(txn, room) in extension.rooms)


def _windows(job: Job, choice: Choice, rooms: Iterable[int]) -> dict[int, list[int]]:
    """Rooms by the position from which the client lacks what is beside events: 0 for rooms that it begins with."""
    initial = {ask.room for ask in choice.asks if ask.initial}
    found: dict[int, list[int]] = {}
    for room in rooms:
        if room in initial:
            found.setdefault(0, []).append(room)
        elif room in job.connection.stale:
            found.setdefault(job.connection.stale[room], []).append(room)
        elif room in choice.changed:
            found.setdefault(job.after, []).append(room)
    return found


def _account_data(txn: Txn, job: Job, choice: Choice, _sent: Mapping[int, Timeline], rooms: set[int]) -> Found:
    usr, upto = job.user.usr, job.upto.pos
    by_room: dict[str, list[Found]] = {}
    own: list[Found] = []
    if job.since is None or job.news.own:
        own = [render_entry(one) for one in account_data.since(txn, usr, job.after, upto) if not one.room]
    for after, part in _windows(job, choice, rooms).items():
        entries = account_data.of_rooms(txn, usr, part, upto)
        for entry in entries:
            if entry.pos > after:
                by_room.setdefault(names.room_id(txn, entry.room), []).append(render_entry(entry))
    found: Found = {}
    if own:
        found["global"] = own
    if by_room:
        found["rooms"] = by_room
    return found


def _receipts(txn: Txn, job: Job, choice: Choice, sent: Mapping[int, Timeline], rooms: set[int]) -> Found:
    marks: list[Receipt] = []
    for after, part in _windows(job, choice, _joined(job, rooms)).items():
        found = receipts.for_rooms(txn, part, after, job.upto.pos, job.user.usr)
        if after == 0:
            found = _worth_showing(job, sent, found)
        marks += found
    ids = event_ids(txn, [mark.event for mark in marks] + [mark.thread for mark in marks if mark.thread > MAIN])
    by_room: dict[int, list[Receipt]] = {}
    for mark in marks:
        by_room.setdefault(mark.room, []).append(mark)
    shown = {names.room_id(txn, room): _together(render_reads(found, ids)) for room, found in by_room.items()}
    return {"rooms": shown} if shown else {}


def _worth_showing(job: Job, sent: Mapping[int, Timeline], found: Sequence[Receipt]) -> list[Receipt]:
    """Of a room that is new to the client: receipts on the events it is sent, and the user's own."""
    shown = {row.nid for timeline in sent.values() for row in timeline.rows}
    return [mark for mark in found if mark.event in shown or mark.usr == job.user.usr]


def _together(events: list[Found]) -> Found:
    """One event per room is all that the extension has place for: of one user's on one event the first counts."""
    first = events[0]
    for other in events[1:]:
        for event_id, kinds in other["content"].items():
            for kind, people in kinds.items():
                target = first["content"].setdefault(event_id, {}).setdefault(kind, {})
                for user, mark in people.items():
                    if "thread_id" not in mark or user not in target:
                        target[user] = mark
    return first


def _typing(txn: Txn, job: Job, choice: Choice, _sent: Mapping[int, Timeline], rooms: set[int]) -> Found:
    begun = {ask.room for ask in choice.asks if ask.initial}
    behind = job.news.typing_changed | job.connection.stale.keys() if job.since is not None else frozenset()
    shown = {}
    for room in _joined(job, rooms):
        people = job.typing.get(room, [])
        if people if room in begun else room in behind:
            shown[names.room_id(txn, room)] = {"type": "m.typing", "content": {"user_ids": people}}
    return {"rooms": shown} if shown else {}


def _joined(job: Job, rooms: Iterable[int]) -> list[int]:
    standings = job.connection.standings or {}
    return [room for room in rooms if standings[room].kind == JOIN]
