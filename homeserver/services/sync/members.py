# SPDX-License-Identifier: Apache-2.0
"""Knows which members a device has been told of (lazy loading), and how a room is summed up by its members."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs
import orjson

from storage import names
from storage.sync_reads import EventRow, current_pairs, heroes, member_counts
from storage.txn import Txn

ROOMS_REMEMBERED = 50_000
NAMING = ("m.room.name", "m.room.canonical_alias")


class ToldMembers:
    """Which member event of whom each device got in which room, and with which answer.

    A member counts as told only once the client has come back with a token of that answer or a later one, so a lost
    answer loses nobody. Forgetting costs only repetition.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[int, int, int], dict[int, tuple[int, int]]] = OrderedDict()

    def knows(self, usr: int, device: int, room: int, row: EventRow, since: int) -> bool:
        told = self._told.get((usr, device, room), {}).get(row.skey or 0)
        return told is not None and told[0] == row.nid and told[1] <= since

    def has(self, usr: int, device: int, room: int, skey: int, since: int) -> bool:
        """Whether the device got any event of this member."""
        told = self._told.get((usr, device, room), {}).get(skey)
        return told is not None and told[1] <= since

    def told(self, usr: int, device: int, room: int, rows: Iterable[EventRow], upto: int) -> None:
        key = (usr, device, room)
        known = self._told.setdefault(key, {})
        for row in rows:
            if row.skey is not None and row.event.type == "m.room.member":
                before = known.get(row.skey)
                if before is None or before[0] != row.nid:
                    known[row.skey] = (row.nid, upto)
        self._told.move_to_end(key)
        while len(self._told) > ROOMS_REMEMBERED:
            self._told.popitem(last=False)


@attrs.frozen(slots=True)
class Summary:
    """How many are in a room, and for one without a name the first of them besides the user."""

    joined: int
    invited: int
    heroes: tuple[str, ...] | None

    def render(self) -> dict[str, object]:
        summary: dict[str, object] = {"m.joined_member_count": self.joined, "m.invited_member_count": self.invited}
        if self.heroes is not None:
            summary["m.heroes"] = list(self.heroes)
        return summary


def summaries(txn: Txn, usr: int, rooms: Sequence[int]) -> dict[int, Summary]:
    """The summary of each room, for one of its members."""
    if not rooms:
        return {}
    counts = member_counts(txn, rooms)
    named = named_rooms(txn, rooms)
    unnamed = [room for room in rooms if room not in named]
    first = heroes(txn, unnamed, usr) if unnamed else {}
    ids = names.user_ids(txn, {member for members in first.values() for member in members})
    return {
        room: Summary(*counts[room], heroes=tuple(ids[member] for member in first[room]) if room in first else None)
        for room in rooms
    }


def named_rooms(txn: Txn, rooms: Collection[int]) -> set[int]:
    """Those of the rooms that have a name or a canonical alias."""
    keys = [key for name in NAMING if (key := names.skey_nid(txn, name, "")) is not None]
    rows = current_pairs(txn, [(room, key) for room in rooms for key in keys])
    return {row.event.room for row in rows if _names_it(row)}


def _names_it(row: EventRow) -> bool:
    content = orjson.loads(row.event.content)
    value = content.get("name" if row.event.type == "m.room.name" else "alias")
    return isinstance(value, str) and value != ""


def member_rows(txn: Txn, wanted: Mapping[int, Collection[str]]) -> dict[int, list[EventRow]]:
    """The current member events of some users in some rooms, by room."""
    pairs = [
        (room, key)
        for room, users in wanted.items()
        for user in users
        if (key := names.skey_nid(txn, "m.room.member", user)) is not None
    ]
    found: dict[int, list[EventRow]] = {room: [] for room in wanted}
    for row in current_pairs(txn, pairs):
        found[row.event.room].append(row)
    return found
