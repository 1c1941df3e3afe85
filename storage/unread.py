# SPDX-License-Identifier: Apache-2.0
"""How many unread notifications a user has: events that notify are counted, then corrected where the user differs.

An event's flags say what the default rules make of it for every member (1 notifies, 2 highlights). A user's *class*
in a room says which of that counts: `default` all, `mentions` only what highlights, `none` nothing. Whatever else the
user's own rules or mentions make of an event is an exception row, written with the event.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs
import orjson

from storage.receipts import MAIN, UNTHREADED
from storage.txn import Change, Txn

#: (notification_count, highlight_count)
Pair = tuple[int, int]
#: (notification_count, highlight_count) of the main timeline, and of each thread by its root's number; no zero pairs.
Counts = tuple[int, int, dict[int, Pair]]

NONE, DEFAULT, MENTIONS = 0, 1, 2
JOINED = 1
ROOMS_AT_ONCE = 200
KEPT_VERSIONS = 50


@attrs.frozen(slots=True)
class Classes:
    """A user's class in every room: `default`, but for those in `rooms` (by room id)."""

    default: int = DEFAULT
    rooms: Mapping[str, int] = attrs.field(factory=dict)

    def of(self, room_id: str) -> int:
        return self.rooms.get(room_id, self.default)


@attrs.frozen(slots=True)
class Floors:
    """Up to where a user has read a room: `base` everywhere (join, unthreaded receipt), `threads` further on."""

    base: int
    threads: Mapping[int, int]

    @property
    def main(self) -> int:
        return max(self.base, self.threads.get(MAIN, 0))

    @property
    def ahead(self) -> dict[int, int]:
        """The threads, the main timeline aside, that are read further than `base`."""
        return {thread: floor for thread, floor in self.threads.items() if thread != MAIN and floor > self.base}


@attrs.frozen(slots=True)
class Stretch:
    """A run of one room's events, (after, upto], in which one class holds."""

    room: int
    kind: int
    after: int
    upto: int


def record(txn: Txn, room: int, ord_: int, thread: int | None, exceptions: Iterable[tuple[int, int, int]]) -> None:
    """Keep where an event counts otherwise than its flags say, as (usr, dn, dh)."""
    txn.many(
        "INSERT INTO unread_exception (usr, room, ord, thread, dn, dh) VALUES (?, ?, ?, ?, ?, ?)",
        [(usr, room, ord_, thread, dn, dh) for usr, dn, dh in exceptions],
    )


def redacted(txn: Txn, room: int, ord_: int) -> None:
    """A redacted event counts for nobody; clearing its flags is up to the writer of events."""
    txn.put("DELETE FROM unread_exception WHERE room = ? AND ord = ?", (room, ord_))


def left(txn: Txn, usr: int, room: int) -> None:
    """Someone who left has nothing unread there."""
    txn.put("DELETE FROM unread_exception WHERE usr = ? AND room = ?", (usr, room))


def set_classes(txn: Txn, usr: int, pos: int, classes: Classes) -> None:
    """From the position on, count the user's rooms by these classes."""
    document = orjson.dumps([classes.default, classes.rooms])
    last = txn.one("SELECT classes FROM push_class WHERE usr = ? ORDER BY pos DESC LIMIT 1", (usr,))
    if (bytes(last[0]) if last else orjson.dumps([DEFAULT, {}])) == document:
        return
    txn.put(
        "INSERT INTO push_class (usr, pos, classes) VALUES (?, ?, ?)"
        " ON CONFLICT (usr, pos) DO UPDATE SET classes = excluded.classes",
        (usr, pos, document),
    )
    txn.announce(Change(pos, "unread", user=usr))
    _prune(txn, usr)


def _prune(txn: Txn, usr: int) -> None:
    """Drop versions that end before everything unread begins, once there are many."""
    versions = [row[0] for row in txn.all("SELECT pos FROM push_class WHERE usr = ? ORDER BY pos", (usr,))]
    if len(versions) <= KEPT_VERSIONS:
        return
    rooms = [row[0] for row in txn.all("SELECT room FROM membership WHERE usr = ? AND kind = ?", (usr, JOINED))]
    lowest = min((floor.main >> 20 for floor in floors(txn, usr, rooms).values()), default=versions[-1])
    ended = [pos for pos, following in zip(versions, versions[1:], strict=False) if following <= lowest]
    if ended:
        # The newest version of what is dropped goes on as the one that everything starts from.
        txn.run("DELETE FROM push_class WHERE usr = ? AND pos <= ?", (usr, ended[-1]))


def class_versions(txn: Txn, usr: int) -> list[tuple[int, Classes]]:
    """The user's classes with the position each holds from, oldest first; before the first, `default`."""
    rows = txn.all("SELECT pos, classes FROM push_class WHERE usr = ? ORDER BY pos", (usr,))
    versions = []
    for pos, document in rows:
        default, rooms = orjson.loads(document)
        versions.append((pos, Classes(default, rooms)))
    return versions


def floors(txn: Txn, usr: int, rooms: Sequence[int]) -> dict[int, Floors]:
    """Up to where the user has read each of the rooms that the user is joined to."""
    if not rooms:
        return {}
    condition, params = _among(txn, "m.room", rooms)
    base: dict[int, int] = {}
    threads: dict[int, dict[int, int]] = {}
    for room, since, thread, ord_ in txn.all(
        "SELECT m.room, m.since, r.thread, r.ord FROM membership m"  # noqa: S608
        f" LEFT JOIN receipt r ON r.room = m.room AND r.usr = m.usr WHERE m.usr = ? AND m.kind = 1 AND {condition}",
        [usr, *params],
    ):
        floor = base.get(room, since << 20)
        if thread == UNTHREADED:
            floor = max(floor, ord_)
        elif thread is not None:
            known = threads.setdefault(room, {})
            known[thread] = max(ord_, known.get(thread, 0))
        base[room] = floor
    return {room: Floors(floor, threads.get(room, {})) for room, floor in base.items()}


def _among(txn: Txn, column: str, values: Sequence[int]) -> tuple[str, list[object]]:
    return (f"{column} = ?", [values[0]]) if len(values) == 1 else txn.any(column, values)


def counts(txn: Txn, usr: int, rooms: Sequence[int], upto: int) -> dict[int, Counts]:
    """The user's unread notifications at position `upto` in each of `rooms` that the user is joined to.

    The first two numbers are those of the main timeline; clients that know no threads are shown the sum of all.
    """
    found = floors(txn, usr, rooms)
    top = (upto << 20) | 0xFFFFF
    tally = _Tally(found)
    stretches = _stretches(txn, usr, found, top)
    for start in range(0, len(stretches), ROOMS_AT_ONCE):
        _count(txn, usr, stretches[start : start + ROOMS_AT_ONCE], tally)
    _correct(txn, usr, top, tally)
    return tally.result()


def total(counted: Counts) -> Pair:
    """All of a room's unread notifications and highlights, threads included."""
    notifications, highlights, threads = counted
    return notifications + sum(n for n, _ in threads.values()), highlights + sum(h for _, h in threads.values())


class _Tally:
    """Sums by room and thread, the main timeline being thread 0."""

    def __init__(self, found: Mapping[int, Floors]) -> None:
        self.floors = found
        self.sums: dict[int, dict[int, list[int]]] = {room: {} for room in found}

    def add(self, room: int, thread: int, notifications: int, highlights: int) -> None:
        pair = self.sums[room].setdefault(thread, [0, 0])
        pair[0] += notifications
        pair[1] += highlights

    def result(self) -> dict[int, Counts]:
        counted = {}
        for room, threads in self.sums.items():
            main = threads.pop(MAIN, [0, 0])
            counted[room] = (main[0], main[1], {t: (n, h) for t, (n, h) in threads.items() if n or h})
        return counted


def _stretches(txn: Txn, usr: int, found: Mapping[int, Floors], top: int) -> list[Stretch]:
    """Which class holds where, for each room from its lowest floor up; runs that count nothing are left out."""
    versions = class_versions(txn, usr)
    if not versions:
        return [Stretch(room, DEFAULT, floor.base, top) for room, floor in found.items()]
    by_number = _numbered(txn, versions)
    stretches = []
    for room, floor in found.items():
        after, kind = floor.base, DEFAULT
        for pos, classes, rooms in by_number:
            begins = min((pos << 20) | 0xFFFFF, top)
            following = rooms.get(room, classes.default)
            if following == kind:
                continue
            if begins > after:
                stretches.append(Stretch(room, kind, after, begins))
                after = begins
            kind = following
        stretches.append(Stretch(room, kind, after, top))
    return [stretch for stretch in stretches if stretch.kind != NONE and stretch.upto > stretch.after]


def _numbered(txn: Txn, versions: list[tuple[int, Classes]]) -> list[tuple[int, Classes, dict[int, int]]]:
    """The class versions with the rooms that differ by their numbers; rooms unknown here are left out."""
    named = sorted({room_id for _, classes in versions for room_id in classes.rooms})
    numbers: dict[str, int] = {}
    for start in range(0, len(named), ROOMS_AT_ONCE):
        condition, params = txn.any("id", [room_id.encode() for room_id in named[start : start + ROOMS_AT_ONCE]])
        for nid, room_id in txn.all(f"SELECT nid, id FROM room WHERE {condition}", params):  # noqa: S608
            numbers[room_id.decode()] = nid
    return [
        (pos, classes, {numbers[room_id]: kind for room_id, kind in classes.rooms.items() if room_id in numbers})
        for pos, classes in versions
    ]


def _count(txn: Txn, usr: int, stretches: Sequence[Stretch], tally: _Tally) -> None:
    """Add the events that notify. Where the user reads thread by thread, main timeline and threads are asked apart."""
    plain = [(i, s.room, s.after, s.upto) for i, s in enumerate(stretches) if not tally.floors[s.room].threads]
    for index, thread, *pair in _grouped(txn, plain, "e.flags & 1 = 1", usr):
        _add(tally, stretches[index], thread or MAIN, pair)
    if len(plain) == len(stretches):
        return
    ranges = [(i, s.room, s.after, s.upto) for i, s in enumerate(stretches) if tally.floors[s.room].threads]
    main = [(i, room, max(after, tally.floors[room].main), upto) for i, room, after, upto in ranges]
    for index, _, *pair in _grouped(txn, main, "e.flags & 1 = 1 AND e.thread IS NULL", usr):
        _add(tally, stretches[index], MAIN, pair)
    for index, thread, *pair in _grouped(txn, ranges, "e.flags & 1 = 1 AND e.thread IS NOT NULL", usr):
        if thread not in tally.floors[stretches[index].room].ahead:
            _add(tally, stretches[index], thread or MAIN, pair)
    for index, room, after, upto in ranges:
        for thread, floor in tally.floors[room].ahead.items():
            one = [(index, room, max(after, floor), upto)]
            condition = f"e.flags & 1 = 1 AND e.thread IS NOT NULL AND e.thread = {thread:d}"
            for _, _, *pair in _grouped(txn, one, condition, usr):
                _add(tally, stretches[index], thread or MAIN, pair)


def _add(tally: _Tally, stretch: Stretch, thread: int, pair: Sequence[int]) -> None:
    notifications, highlights = pair
    tally.add(stretch.room, thread, highlights if stretch.kind == MENTIONS else notifications, highlights)


def _grouped(
    txn: Txn, ranges: Sequence[tuple[int, int, int, int]], condition: str, usr: int
) -> list[tuple[int, int | None, int, int]]:
    """Count what notifies in ranges (index, room, after, upto], by thread; the condition names a partial index."""
    ranges = [one for one in ranges if one[3] > one[2]]
    if not ranges:
        return []
    if txn.dialect == "sqlite":
        return [row for one in ranges for row in _one_range(txn, one, condition, usr)]
    values = ", ".join(["(?, ?, ?, ?)"] * len(ranges))
    sql = (
        f"WITH f (i, room, low, high) AS (VALUES {values})"  # noqa: S608
        " SELECT f.i, e.thread, count(*), sum(CASE WHEN e.flags & 2 = 2 THEN 1 ELSE 0 END)"
        " FROM f CROSS JOIN event e WHERE e.room = f.room AND e.ord > f.low AND e.ord <= f.high"
        f" AND e.sender <> ? AND {condition} GROUP BY f.i, e.thread"
    )
    rows = txn.all(sql, [*(value for one in ranges for value in one), usr])
    return [(index, thread, n, h) for index, thread, n, h in rows]


def _one_range(
    txn: Txn, one: tuple[int, int, int, int], condition: str, usr: int
) -> list[tuple[int, int | None, int, int]]:
    """The same for one range. Grouping costs more than counting, so it is left to ranges that have threads."""
    index, room, low, high = one
    where = f"FROM event e WHERE e.room = ? AND e.ord > ? AND e.ord <= ? AND e.sender <> ? AND {condition}"
    params = (room, low, high, usr)
    sums = "count(*), sum(CASE WHEN e.flags & 2 = 2 THEN 1 ELSE 0 END)"
    row = txn.one(f"SELECT {sums}, count(e.thread) {where}", params)
    if row is None or row[0] == 0:
        return []
    if row[2] == 0:
        return [(index, None, row[0], row[1])]
    return [(index, *found) for found in txn.all(f"SELECT e.thread, {sums} {where} GROUP BY e.thread", params)]


def _correct(txn: Txn, usr: int, top: int, tally: _Tally) -> None:
    """Add the exceptions above the floors."""
    if not tally.floors:
        return
    condition, params = _among(txn, "room", list(tally.floors))
    lowest = min(floor.base for floor in tally.floors.values())
    rows = txn.all(
        "SELECT room, ord, thread, dn, dh FROM unread_exception"  # noqa: S608
        f" WHERE usr = ? AND {condition} AND ord > ? AND ord <= ?",
        [usr, *params, lowest, top],
    )
    for room, ord_, thread, dn, dh in rows:
        floor = tally.floors[room]
        read = floor.main if thread is None else max(floor.base, floor.threads.get(thread, 0))
        if ord_ > read:
            tally.add(room, MAIN if thread is None else thread, dn, dh)
