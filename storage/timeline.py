# SPDX-License-Identifier: Apache-2.0
"""A room's history as somebody pages through it, and what decides who may see each of its events."""

from collections.abc import Iterable, Sequence

import attrs
import orjson

from storage import names
from storage.events import COLUMNS, HIDDEN, ORD_SHIFT, OUTLIER, REJECTED, SOFT_FAILED, StoredEvent, resolved
from storage.state_tree import StateTree
from storage.txn import Txn

MEMBER = "m.room.member"
HISTORY_VISIBILITY = "m.room.history_visibility"
NOT_SHOWN = REJECTED | SOFT_FAILED | OUTLIER | HIDDEN
LONGEST_CHAIN = 200
LOWEST, HIGHEST = -(2**62), 2**62
NEARBY = 1_000


@attrs.frozen(kw_only=True)
class Wanted:
    """Which events of a stretch are wanted, as far as the database can tell. None: no condition."""

    types: tuple[str, ...] | None = None
    senders: tuple[str, ...] | None = None
    not_senders: tuple[str, ...] = ()
    # Events that others of these kinds, or by these people, relate to.
    related_kinds: tuple[int, ...] | None = None
    related_senders: tuple[str, ...] | None = None


ANYTHING = Wanted()


@attrs.frozen(slots=True)
class Circumstance:
    """What held for one user when an event was sent, and after it where the event changes it. None: nothing was set."""

    visibility: str | None
    membership: str | None
    visibility_after: str | None
    membership_after: str | None


def page(
    txn: Txn, room: int, *, above: int, up_to: int, backward: bool, limit: int, wanted: Wanted = ANYTHING
) -> list[StoredEvent]:
    """The events with above < ord <= up_to, newest first when `backward`, else oldest first."""
    conditions, params = _conditions(txn, wanted)
    order = "DESC" if backward else "ASC"
    rows = txn.all(
        f"SELECT {COLUMNS} FROM event e WHERE e.room = ? AND e.ord > ? AND e.ord <= ? AND e.flags & {HIDDEN} = 0"
        f"{conditions} ORDER BY e.ord {order} LIMIT ?",
        [room, above, up_to, *params, limit],
    )
    return resolved(txn, rows)


def stretch(txn: Txn, after: int, up_to: int, types: Sequence[str], limit: int) -> list[StoredEvent]:
    """The first events of any room with after < number <= up_to that are of these types, in the order they came."""
    kinds = [kind for name in types if (kind := names.etype_nid(txn, name)) is not None]
    condition, params = txn.any("e.etype", kinds)
    rows = txn.all(
        f"SELECT {COLUMNS} FROM event e WHERE e.nid > ? AND e.nid <= ? AND {condition} "
        f"AND e.flags & {NOT_SHOWN} = 0 AND e.ord IS NOT NULL ORDER BY e.nid LIMIT ?",
        [after, up_to, *params, limit],
    )
    return resolved(txn, rows)


def _conditions(txn: Txn, wanted: Wanted) -> tuple[str, list[object]]:
    conditions: list[str] = []
    params: list[object] = []

    def among(expression: str, numbers: Iterable[int | None]) -> str:
        condition, values = txn.any(expression, [number for number in numbers if number is not None] or [-1])
        params.extend(values)
        return condition

    if wanted.types is not None:
        conditions.append(among("e.etype", (names.etype_nid(txn, one) for one in wanted.types)))
    if wanted.senders is not None:
        conditions.append(among("e.sender", names.user_nids(txn, wanted.senders).values()))
    if wanted.not_senders:
        conditions.append("NOT " + among("e.sender", names.user_nids(txn, wanted.not_senders).values()))
    if wanted.related_kinds is not None or wanted.related_senders is not None:
        parts = ["r.parent = e.nid"]
        if wanted.related_kinds is not None:
            parts.append(among("r.kind", wanted.related_kinds))
        if wanted.related_senders is not None:
            parts.append(among("c.sender", names.user_nids(txn, wanted.related_senders).values()))
        conditions.append(
            f"EXISTS (SELECT 1 FROM relation r JOIN event c ON c.nid = r.child WHERE {' AND '.join(parts)})"
        )
    return "".join(f" AND {condition}" for condition in conditions), params


# ---- who may see ----


def circumstances(txn: Txn, room: int, user_id: str, nids: Sequence[int]) -> dict[int, Circumstance]:
    """What held for the user at each of the events of a room. Events whose state is unknown are left out."""
    if not nids:
        return {}
    member = names.skey_nid(txn, MEMBER, user_id)
    visibility = names.skey_nid(txn, HISTORY_VISIBILITY, "")
    condition, params = txn.any("nid", nids)
    places = txn.all(f"SELECT nid, state, skey FROM event WHERE {condition}", params)
    tree = StateTree(txn, room)
    keys = [key for key in (member, visibility) if key is not None]
    at_root: dict[int, dict[int, int]] = {}
    for _, root, _ in places:
        if root is not None and root not in at_root:
            at_root[root] = tree.get_many(root, keys)
    deciding = {event for found in at_root.values() for event in found.values()}
    deciding |= {nid for nid, _, skey in places if skey is not None and skey in keys}
    contents = _contents(txn, deciding)

    def value(event: int | None, key: str) -> str | None:
        found = None if event is None else contents.get(event, {}).get(key)
        return found if isinstance(found, str) else None

    answer = {}
    for nid, root, skey in places:
        if root is None:
            continue
        before = at_root[root]
        seen = value(before.get(visibility or 0), "history_visibility")
        stood = value(before.get(member or 0), "membership")
        answer[nid] = Circumstance(
            visibility=seen,
            membership=stood,
            visibility_after=value(nid, "history_visibility") if skey is not None and skey == visibility else seen,
            membership_after=value(nid, "membership") if skey is not None and skey == member else stood,
        )
    return answer


def _contents(txn: Txn, nids: Iterable[int]) -> dict[int, dict[str, object]]:
    wanted = list(nids)
    if not wanted:
        return {}
    condition, params = txn.any("nid", wanted)
    return {nid: orjson.loads(raw) for nid, raw in txn.all(f"SELECT nid, content FROM event WHERE {condition}", params)}


def joined_until(txn: Txn, room: int, user_id: str, event: int) -> int | None:
    """The number of the event that ended the user's last stay in the room, going back from membership `event`.

    None when the user was never joined. For one who is joined right now, `event` is the join; nothing ended it.
    """
    member = names.skey_nid(txn, MEMBER, user_id)
    if member is None:
        return None
    tree = StateTree(txn, room)
    ended_by = None
    current: int | None = event
    for _ in range(LONGEST_CHAIN):
        if current is None:
            return None
        row = txn.one("SELECT state, content FROM event WHERE nid = ?", (current,))
        if row is None:
            return None
        if orjson.loads(row[1]).get("membership") == "join":
            return ended_by
        ended_by = current
        current = None if row[0] is None else tree.get(row[0], member)
    return None


def was_open_after(txn: Txn, room: int, event: int) -> bool:
    """Whether the room was world readable at some time after an event, by the settings that replaced one another."""
    key = names.skey_nid(txn, HISTORY_VISIBILITY, "")
    now = None if key is None else txn.one("SELECT event FROM state_now WHERE room = ? AND skey = ?", (room, key))
    current: int | None = None if now is None else now[0]
    tree = StateTree(txn, room)
    for _ in range(LONGEST_CHAIN):
        row = None if current is None else txn.one("SELECT state, content FROM event WHERE nid = ?", (current,))
        if row is None or key is None:
            return False
        if orjson.loads(row[1]).get("history_visibility") == "world_readable":
            return True
        if current is None or current < event:
            return False
        current = None if row[0] is None else tree.get(row[0], key)
    return False


def state_at(txn: Txn, room: int, event: int) -> dict[int, int]:
    """The room's state just after an event, by state key: event numbers."""
    row = txn.one("SELECT state, skey FROM event WHERE nid = ?", (event,))
    if row is None or row[0] is None:
        return {}
    found = StateTree(txn, room).items(row[0])
    if row[1] is not None:
        found[row[1]] = event
    return found


def event_state(txn: Txn, room: int, event: int, key: tuple[str, str]) -> int | None:
    """What the room's state had at a key just after an event."""
    row = txn.one("SELECT state, skey FROM event WHERE nid = ?", (event,))
    skey = names.skey_nid(txn, *key)
    if row is None or skey is None:
        return None
    if row[1] == skey:
        return event
    return None if row[0] is None else StateTree(txn, room).get(row[0], skey)


# ---- places in the order ----


def last_ord(txn: Txn, room: int, position: int) -> int | None:
    """The order of the last event of a room at a position of the clock."""
    row = txn.one(
        "SELECT ord FROM event WHERE room = ? AND ord <= ? ORDER BY ord DESC LIMIT 1", (room, position << ORD_SHIFT)
    )
    return row[0] if row else None


def nearest(txn: Txn, room: int, ts: int, *, forward: bool, up_to: int) -> list[int]:
    """Events at or after a time (`forward`), else at or before it; nearest first, from the part of the order around it.

    Times mostly grow along a room's order; where they do not, only the stretch around the place is searched.
    """
    low, high = _ends(txn, room, up_to)
    if low is None or high is None:
        return []
    while high - low > 1:
        middle = (low + high) // 2
        row = txn.one("SELECT ord, ts FROM event WHERE room = ? AND ord >= ? ORDER BY ord LIMIT 1", (room, middle))
        if row is None or row[0] > high or row[1] >= ts:
            high = middle
        else:
            low = row[0]
    sql = f"SELECT nid, ts, ord FROM event WHERE room = ? AND ord {{}} ? AND ord <= ? AND flags & {HIDDEN} = 0 "
    around = txn.all(sql.format("<=") + "ORDER BY ord DESC LIMIT ?", (room, high, up_to, NEARBY))
    around += txn.all(sql.format(">") + "ORDER BY ord LIMIT ?", (room, high, up_to, NEARBY))
    if forward:
        chosen = sorted((each for each in around if each[1] >= ts), key=lambda each: (each[1], each[2]))
    else:
        chosen = sorted((each for each in around if each[1] <= ts), key=lambda each: (-each[1], -each[2]))
    return [nid for nid, _, _ in chosen]


def _ends(txn: Txn, room: int, up_to: int) -> tuple[int | None, int | None]:
    first = txn.one("SELECT ord FROM event WHERE room = ? AND ord <= ? ORDER BY ord LIMIT 1", (room, up_to))
    last = txn.one("SELECT ord FROM event WHERE room = ? AND ord <= ? ORDER BY ord DESC LIMIT 1", (room, up_to))
    return (first[0] if first else None), (last[0] if last else None)


def has_any(txn: Txn, room: int, *, above: int, up_to: int) -> bool:
    """Whether the room has an event with above < ord <= up_to."""
    row = txn.one("SELECT 1 FROM event WHERE room = ? AND ord > ? AND ord <= ? LIMIT 1", (room, above, up_to))
    return row is not None
