# SPDX-License-Identifier: Apache-2.0
"""Which related events are summed up on their parent: the last edit, the thread, the references.

https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
"""

from collections.abc import Mapping, Sequence

import attrs
import orjson

from homeserver.protocol.relations import Side, edit_rank, is_valid_edit
from storage import events, names, relations
from storage.events import HIDDEN, REDACTED, REJECTED, SOFT_FAILED, StoredEvent
from storage.txn import Txn

NOT_SHOWN = REJECTED | SOFT_FAILED | HIDDEN
MOST_EDITS = 100
MOST_REFERENCES = 100


@attrs.frozen(slots=True)
class Thread:
    """A thread as its root shows it; `latest` is a nid."""

    latest: int
    count: int
    participated: bool


@attrs.frozen(slots=True)
class Bundles:
    """What one parent carries; `edit` is a nid."""

    edit: int | None = None
    thread: Thread | None = None
    references: tuple[str, ...] = ()


def bundles_of(
    txn: Txn, parents: Sequence[StoredEvent], viewer: str, ignored: frozenset[str], up_to: int
) -> tuple[dict[int, Bundles], dict[int, StoredEvent]]:
    """The bundles of those parents that have any, and the events that they name, which carry edits of their own."""
    candidates = {event.nid: event for event in parents if not event.flags & REDACTED}
    having = _related(txn, list(candidates), up_to)
    if not having:
        return {}, {}
    threads = _threads(txn, [nid for nid, kinds in having.items() if relations.THREAD in kinds], viewer, ignored, up_to)
    last = events.by_nids(txn, [thread.latest for thread in threads.values()])
    edited = {**last, **candidates}
    kinds = {**_related(txn, list(last), up_to), **having}
    edits = _edits(txn, {n: edited[n] for n, k in kinds.items() if relations.REPLACE in k}, ignored, up_to)
    references = _references(txn, [n for n, k in having.items() if relations.REFERENCE in k], ignored, up_to)
    found = {}
    for nid in having.keys() | edits.keys():
        edit, thread = edits.get(nid), threads.get(nid)
        if edit is not None or thread is not None or nid in references:
            own = thread
            if own is not None and edited[nid].sender == viewer:
                own = attrs.evolve(own, participated=True)
            found[nid] = Bundles(None if edit is None else edit.nid, own, references.get(nid, ()))
    return found, {**last, **{edit.nid: edit for edit in edits.values()}}


def _related(txn: Txn, parents: Sequence[int], up_to: int) -> dict[int, set[int]]:
    """Parent -> kinds of relations it has."""
    if not parents:
        return {}
    condition, params = txn.any("parent", parents)
    rows = txn.all(
        "SELECT DISTINCT parent, kind FROM relation "  # noqa: S608
        f"WHERE {condition} AND kind IN (2, 3, 4) AND child <= ?",
        [*params, up_to],
    )
    found: dict[int, set[int]] = {}
    for parent, kind in rows:
        found.setdefault(parent, set()).add(kind)
    return found


def _threads(txn: Txn, roots: Sequence[int], viewer: str, ignored: frozenset[str], up_to: int) -> dict[int, Thread]:
    if not roots:
        return {}
    condition, params = txn.any("r.parent", roots)
    not_ignored = ""
    more: list[object] = []
    numbers = list(names.user_nids(txn, ignored).values()) if ignored else []
    if numbers:
        these, more = txn.any("e.sender", numbers)
        not_ignored = f" AND NOT ({these})"
    usr = names.user_nid(txn, viewer) or 0
    rows = txn.all(
        "SELECT r.parent, max(r.child), count(*), max(CASE WHEN e.sender = ? THEN 1 ELSE 0 END) "  # noqa: S608
        f"FROM relation r JOIN event e ON e.nid = r.child WHERE {condition} AND r.kind = 3 AND r.child <= ? "
        f"AND e.flags & {NOT_SHOWN} = 0{not_ignored} GROUP BY r.parent",
        [usr, *params, up_to, *more],
    )
    return {parent: Thread(latest, count, bool(own)) for parent, latest, count, own in rows}


def _edits(
    txn: Txn, originals: Mapping[int, StoredEvent], ignored: frozenset[str], up_to: int
) -> dict[int, StoredEvent]:
    """The valid edit that counts, of those originals that have one."""
    if not originals:
        return {}
    children = relations.children(txn, originals, (relations.REPLACE,))
    wanted = {nid: [one for _, one in of if one <= up_to][-MOST_EDITS:] for nid, of in children.items()}
    stored = events.by_nids(txn, [one for many in wanted.values() for one in many])
    found = {}
    for nid, many in wanted.items():
        original = originals[nid]
        if original.sender in ignored:
            continue
        side = _side(original)
        valid = [
            stored[one]
            for one in many
            if one in stored and not stored[one].flags & NOT_SHOWN and is_valid_edit(side, _side(stored[one]))
        ]
        if valid:
            found[nid] = max(valid, key=lambda edit: edit_rank(edit.ts, edit.event_id))
    return found


def _side(event: StoredEvent) -> Side:
    return Side(event.type, event.sender, event.state_key is not None, orjson.loads(event.content))


def _references(txn: Txn, parents: Sequence[int], ignored: frozenset[str], up_to: int) -> dict[int, tuple[str, ...]]:
    children = relations.children(txn, parents, (relations.REFERENCE,)) if parents else {}
    wanted = {nid: [one for _, one in of if one <= up_to][:MOST_REFERENCES] for nid, of in children.items()}
    stored = events.by_nids(txn, [one for many in wanted.values() for one in many])
    found = {}
    for nid, many in wanted.items():
        shown = [stored[one] for one in many if one in stored]
        ids = tuple(e.event_id for e in shown if not e.flags & NOT_SHOWN and e.sender not in ignored)
        if ids:
            found[nid] = ids
    return found
