# SPDX-License-Identifier: Apache-2.0
"""Whose devices changed, and who began or ceased to share a room, between two positions of the clock."""

from collections.abc import Collection, Iterable, Sequence

import attrs

from storage.txn import Change, Txn

#: Viewer of a change that everybody may know of who shares a room with the user.
EVERYBODY = 0
#: The value of `membership.kind` for joined members.
JOINED = 1
#: How many joins and leaves on the whole server are looked through for those that concern one user.
FEW = 2_000
#: So many users are looked up at once.
CHUNK = 5_000
#: Up to this many users are looked up one by one.
FEW_USERS = 100
#: A user in this many rooms is in many.
MANY_ROOMS = 200


@attrs.frozen(slots=True)
class JoinChange:
    """At `pos` the user began, or ceased, to be joined to the room."""

    pos: int
    usr: int
    room: int
    joined: bool


def record(txn: Txn, usr: int, viewer: int = EVERYBODY) -> int:
    """The user's devices or cross-signing keys changed; returns the position.

    Announces stream "device_list" with the user whose keys changed, or, when only `viewer` may know, with the viewer.
    """
    pos = txn.position()
    txn.put("INSERT INTO device_list_change (pos, usr, viewer) VALUES (?, ?, ?)", (pos, usr, viewer))
    txn.announce(Change(pos, "device_list", user=viewer or usr))
    return pos


def record_join_change(txn: Txn, pos: int, usr: int, room: int, joined: bool) -> None:
    """Remember the position where somebody's being joined to a room begins or ends; nothing where it goes on.

    `storage.membership` calls this before it writes the membership that holds from `pos` on.
    """
    txn.put(
        "INSERT INTO join_change (pos, usr, room, joined) SELECT ?, ?, ?, ?"
        f" WHERE {'NOT ' if joined else ''}EXISTS (SELECT 1 FROM membership WHERE usr = ? AND room = ? AND kind = ?)"
        " ON CONFLICT (pos, usr, room) DO UPDATE SET joined = excluded.joined",
        (pos, usr, room, int(joined), usr, room, JOINED),
    )


def changed(txn: Txn, usr: int, since: int, upto: int, few: int = FEW) -> tuple[list[int], list[int]]:
    """Users whose devices `usr` must look at again, and users to stop tracking, by what happened in (since, upto].

    Changed: those who share a room with `usr` at `upto`, both joined, and have changed devices or keys or did not share
    one at `since`; `usr` itself when its own changed; users whose key `usr` has signed. Left: those who shared a room
    at `since` and share none at `upto`. All statements must see one moment, not before `upto`. With more than
    `few` joins and leaves on this server since then, the user's rooms are asked one by one.
    """
    if since >= upto:
        return [], []
    own, updated = _updated(txn, usr, since, upto)
    history = _history(txn, usr, since, few)
    moved = history.movers(since, upto)
    candidates = (updated | moved) - {usr}
    if not candidates:
        return sorted(own), []
    settled = history.settled(candidates)
    if len(settled) <= FEW_USERS:
        history.add_present(_one_shared_now(txn, usr, settled))
        history.add_present(_shared_now(txn, usr, candidates - settled))
    else:
        history.add_present(_shared_now(txn, usr, candidates))
    began, ended = set(own), set()
    for other in candidates:
        before, after = history.shares(other, since), history.shares(other, upto)
        if after and (not before or other in updated):
            began.add(other)
        elif before and not after:
            ended.add(other)
    return sorted(began), sorted(ended)


class _History:
    """Who shared a room with one user at positions after some point: from who is there now, and every later change."""

    def __init__(self, usr: int, changes: Iterable[JoinChange]) -> None:
        self._changes: dict[tuple[int, int], list[JoinChange]] = {}
        for change in sorted(changes, key=lambda one: one.pos):
            self._changes.setdefault((change.usr, change.room), []).append(change)
        self._usr = usr
        self._rooms: dict[int, set[int]] = {}
        self._present: set[tuple[int, int]] = set()
        for other, room in self._changes:
            self._rooms.setdefault(other, set()).add(room)

    def own_rooms(self) -> set[int]:
        """Rooms that the user joined or left."""
        return self._rooms.get(self._usr, set())

    def add_present(self, members: Iterable[tuple[int, int]]) -> None:
        """Take in (user, room) of those joined now to a room that the user is joined to, or has joined or left."""
        for other, room in members:
            self._present.add((other, room))
            self._rooms.setdefault(other, set()).add(room)

    def settled(self, others: set[int]) -> set[int]:
        """Those of `others` who share now what they shared all the time: one room tells as much as all of them."""
        return set() if self.own_rooms() else {other for other in others if other not in self._rooms}

    def movers(self, since: int, upto: int) -> set[int]:
        """Everybody who may share a room at one of the two positions and not at the other."""
        moved = {usr for (usr, _), changes in self._changes.items() if any(since < one.pos <= upto for one in changes)}
        own = self.own_rooms()
        if own and self._usr in moved:
            moved |= {usr for usr, rooms in self._rooms.items() if rooms & own}
        return moved

    def shares(self, other: int, pos: int) -> bool:
        """Whether both were joined to one room at `pos`."""
        rooms = self._rooms.get(other, ())
        return any(self._was_joined(other, room, pos) and self._own_was_joined(room, pos) for room in rooms)

    def _was_joined(self, usr: int, room: int, pos: int) -> bool:
        changes = self._changes.get((usr, room))
        return (usr, room) in self._present if changes is None else _joined_at(changes, pos)

    def _own_was_joined(self, room: int, pos: int) -> bool:
        # Every room here is one that the user is joined to now, or has joined or left since.
        changes = self._changes.get((self._usr, room))
        return changes is None or _joined_at(changes, pos)


def _joined_at(changes: Sequence[JoinChange], pos: int) -> bool:
    last = [change for change in changes if change.pos <= pos]
    return last[-1].joined if last else not changes[0].joined


def _updated(txn: Txn, usr: int, since: int, upto: int) -> tuple[set[int], set[int]]:
    """Users to show in any case, and users to show if they share a room."""
    rows = txn.all(
        "SELECT DISTINCT usr, viewer FROM device_list_change WHERE pos > ? AND pos <= ? AND viewer IN (0, ?)",
        (since, upto, usr),
    )
    own = {other for other, viewer in rows if usr in (other, viewer)}
    return own, {other for other, viewer in rows if viewer == EVERYBODY and other != usr}


def _history(txn: Txn, usr: int, since: int, few: int) -> _History:
    """All that happened after `since` in rooms to which the user is or was joined since."""
    own = _join_changes(txn, "c.usr = ?", (usr,), since)
    near = _join_changes_in_joined_rooms(txn, usr, since, few)
    rooms = list({change.room for change in own})
    if not rooms:
        return _History(usr, near)
    condition, params = txn.any("c.room", rooms)
    history = _History(usr, {*own, *near, *_join_changes(txn, condition, params, since)})
    condition, params = txn.any("room", rooms)
    members = txn.all(f"SELECT usr, room FROM membership WHERE {condition} AND kind = ?", (*params, JOINED))
    history.add_present((row[0], row[1]) for row in members)
    return history


def _join_changes(txn: Txn, condition: str, params: Sequence[object], since: int) -> list[JoinChange]:
    rows = txn.all(
        f"SELECT c.pos, c.usr, c.room, c.joined FROM join_change c WHERE {condition} AND c.pos > ?", (*params, since)
    )
    return [JoinChange(row[0], row[1], row[2], bool(row[3])) for row in rows]


def _join_changes_in_joined_rooms(txn: Txn, usr: int, since: int, few: int) -> list[JoinChange]:
    recent = txn.all("SELECT pos FROM join_change WHERE pos > ? LIMIT ?", (since, few))
    if not recent:
        return []
    columns, joined = "c.pos, c.usr, c.room, c.joined", "m.usr = ? AND m.kind = ?"
    if len(recent) < few:
        tables = "join_change c CROSS JOIN membership m"
    else:
        tables = "membership m CROSS JOIN join_change c"
    rows = txn.all(
        f"SELECT {columns} FROM {tables} WHERE c.room = m.room AND {joined} AND c.pos > ?", (usr, JOINED, since)
    )
    return [JoinChange(row[0], row[1], row[2], bool(row[3])) for row in rows]


def _shared_now(txn: Txn, usr: int, others: Collection[int]) -> Iterable[tuple[int, int]]:
    """(user, room) for each of `others` in each room to which both are joined now."""
    ordered = sorted(others)
    tables = _from_fewer_rooms(txn, usr) if ordered else ""
    for start in range(0, len(ordered), CHUNK):
        condition, params = txn.any("o.usr", ordered[start : start + CHUNK])
        rows = txn.all(
            f"SELECT o.usr, o.room FROM {tables}"
            f" WHERE m.room = o.room AND {condition} AND o.kind = ? AND m.usr = ? AND m.kind = ?",
            (*params, JOINED, usr, JOINED),
        )
        yield from ((row[0], row[1]) for row in rows)


def _one_shared_now(txn: Txn, usr: int, others: Collection[int]) -> Iterable[tuple[int, int]]:
    """(user, room) for each of `others` in one of the rooms to which both are joined now."""
    tables = _from_fewer_rooms(txn, usr) if others else ""
    for other in others:
        row = txn.one(
            f"SELECT o.room FROM {tables}"
            " WHERE m.room = o.room AND o.usr = ? AND o.kind = ? AND m.usr = ? AND m.kind = ? LIMIT 1",
            (other, JOINED, usr, JOINED),
        )
        if row is not None:
            yield other, row[0]


def _from_fewer_rooms(txn: Txn, usr: int) -> str:
    """How to join the user's memberships (m) with others' (o), who may be in thousands of rooms that do not matter."""
    mine = txn.all("SELECT room FROM membership WHERE usr = ? AND kind = ? LIMIT ?", (usr, JOINED, MANY_ROOMS))
    if len(mine) < MANY_ROOMS:
        return "membership m CROSS JOIN membership o"
    return "membership o CROSS JOIN membership m"
