# SPDX-License-Identifier: Apache-2.0
"""Knows what a parent event carries of those that relate to it: its newest edit, its references, its thread."""

from collections.abc import Collection, Sequence

import attrs
import orjson

from homeserver.protocol.relations import Side, edit_rank, is_valid_edit
from storage import names
from storage.events import COLUMNS, HIDDEN, REDACTED, REJECTED, SOFT_FAILED, StoredEvent, resolved
from storage.relations import REFERENCE, REPLACE, THREAD
from storage.txn import Txn

GONE = HIDDEN | REDACTED | REJECTED | SOFT_FAILED
MAX_REFERENCES = 1_000


@attrs.frozen(slots=True)
class ThreadSummary:
    """A thread as its root shows it; `latest` comes with its own bundle."""

    latest: StoredEvent
    latest_bundle: "Bundle | None"
    count: int
    participated: bool


@attrs.frozen(slots=True)
class Bundle:
    """What one event carries under `m.relations`."""

    edit: StoredEvent | None = None
    references: tuple[str, ...] = ()
    thread: ThreadSummary | None = None


@attrs.frozen(slots=True)
class Onlooker:
    """For whom events are summed up: what the people they ignore say does not count, nor what came after `up_to`."""

    usr: int
    ignored: frozenset[str] = frozenset()
    up_to: int | None = None


def bundles(txn: Txn, onlooker: Onlooker, parents: Sequence[StoredEvent]) -> dict[int, Bundle]:
    """The bundles of those of `parents` that have one, by number. A fixed number of queries, however many there are.

    https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
    """
    plain = [parent for parent in parents if parent.state_key is None and not parent.is_redacted]
    related = _kinds_of(txn, [parent.nid for parent in parents])
    if not related:
        return {}
    ignored = tuple(names.user_nids(txn, onlooker.ignored).values())
    edits = newest_edits(txn, [one for one in plain if REPLACE in related.get(one.nid, ())], onlooker.up_to)
    references = _references(
        txn, onlooker, ignored, [one.nid for one in plain if REFERENCE in related.get(one.nid, ())]
    )
    threads = _threads(txn, onlooker, ignored, [one for one in parents if THREAD in related.get(one.nid, ())])
    found = {}
    for parent in parents:
        nid = parent.nid
        if nid in edits or nid in references or nid in threads:
            found[nid] = Bundle(edits.get(nid), references.get(nid, ()), threads.get(nid))
    return found


def _kinds_of(txn: Txn, parents: list[int]) -> dict[int, set[int]]:
    """Which kinds of relations point at each event."""
    if not parents:
        return {}
    condition, params = txn.any("parent", parents)
    found: dict[int, set[int]] = {}
    for parent, kind in txn.all(f"SELECT DISTINCT parent, kind FROM relation WHERE {condition}", params):  # noqa: S608
        found.setdefault(parent, set()).add(kind)
    return found


def _children(txn: Txn, up_to: int | None, ignored: Collection[int]) -> tuple[str, list[object]]:
    """The condition that a child `e` counts."""
    conditions = [f"e.flags & {GONE} = 0", "e.ord IS NOT NULL"]
    values: list[object] = []
    if up_to is not None:
        conditions.append("e.nid <= ?")
        values.append(up_to)
    if ignored:
        condition, params = txn.any("e.sender", list(ignored))
        conditions.append(f"NOT {condition}")
        values += params
    return " AND ".join(conditions), values


def newest_edits(txn: Txn, parents: Sequence[StoredEvent], up_to: int | None = None) -> dict[int, StoredEvent]:
    """The newest valid edit of each event, redacted ones not counted.

    "It should only consider valid replacement events", the most recent by `origin_server_ts`, then by event id.
    """
    if not parents:
        return {}
    originals = {parent.nid: parent for parent in parents}
    of_parents, params = txn.any("r.parent", list(originals))
    counts, values = _children(txn, up_to, ())
    rows = txn.all(
        f"SELECT {COLUMNS}, r.parent FROM relation r JOIN event e ON e.nid = r.child "  # noqa: S608
        f"JOIN event p ON p.nid = r.parent AND p.sender = e.sender AND p.etype = e.etype "
        f"WHERE {of_parents} AND r.kind = {REPLACE} AND {counts}",
        [*params, *values],
    )
    edits = resolved(txn, [row[:-1] for row in rows])
    newest: dict[int, StoredEvent] = {}
    for edit, row in zip(edits, rows, strict=True):
        original = originals[row[-1]]
        best = newest.get(original.nid)
        if best is not None and edit_rank(edit.ts, edit.event_id) < edit_rank(best.ts, best.event_id):
            continue
        if is_valid_edit(_side(original), _side(edit)):
            newest[original.nid] = edit
    return newest


def _side(event: StoredEvent) -> Side:
    return Side(event.type, event.sender, event.state_key is not None, orjson.loads(event.content))


def _references(
    txn: Txn, onlooker: Onlooker, ignored: Collection[int], parents: list[int]
) -> dict[int, tuple[str, ...]]:
    if not parents:
        return {}
    of_parents, params = txn.any("r.parent", parents)
    counts, values = _children(txn, onlooker.up_to, ignored)
    rows = txn.all(
        f"SELECT {COLUMNS}, r.parent FROM relation r JOIN event e ON e.nid = r.child "  # noqa: S608
        f"WHERE {of_parents} AND r.kind = {REFERENCE} AND {counts} ORDER BY e.ord LIMIT {MAX_REFERENCES}",
        [*params, *values],
    )
    found: dict[int, list[str]] = {}
    for child, row in zip(resolved(txn, [row[:-1] for row in rows]), rows, strict=True):
        found.setdefault(row[-1], []).append(child.event_id)
    return {parent: tuple(ids) for parent, ids in found.items()}


def _threads(
    txn: Txn, onlooker: Onlooker, ignored: Collection[int], roots: Sequence[StoredEvent]
) -> dict[int, ThreadSummary]:
    if not roots:
        return {}
    of_roots, params = txn.any("r.parent", [root.nid for root in roots])
    counts, values = _children(txn, onlooker.up_to, ignored)
    rows = txn.all(
        f"SELECT r.parent, count(*), max(e.ord), max(CASE WHEN e.sender = ? THEN 1 ELSE 0 END) "  # noqa: S608
        f"FROM relation r JOIN event e ON e.nid = r.child WHERE {of_roots} AND r.kind = {THREAD} AND {counts} "
        "GROUP BY r.parent",
        [onlooker.usr, *params, *values],
    )
    if not rows:
        return {}
    room = roots[0].room
    condition, params = txn.any("e.ord", [row[2] for row in rows])
    latest_rows = txn.all(f"SELECT {COLUMNS} FROM event e WHERE e.room = ? AND {condition}", [room, *params])  # noqa: S608
    latest = {event.ord: event for event in resolved(txn, latest_rows)}
    inner = bundles(txn, onlooker, list(latest.values()))
    own = names.user_id(txn, onlooker.usr) if onlooker.usr else ""
    senders = {root.nid: root.sender for root in roots}
    return {
        parent: ThreadSummary(
            latest[last],
            inner.get(latest[last].nid),
            count,
            bool(participated) or senders[parent] == own,
        )
        for parent, count, last, participated in rows
        if last in latest
    }
