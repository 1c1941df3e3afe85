# SPDX-License-Identifier: Apache-2.0
"""Which related events are summed up on their parent: the last edit, the thread, the references.

https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
"""

from collections.abc import Mapping, Sequence

import attrs
import orjson

from homeserver.protocol.relations import Side, edit_rank, is_valid_edit
from storage import events, names, relations
from storage.events import REDACTED, StoredEvent
from storage.relations import NOT_SHOWN
from storage.txn import Txn

MOST_EDITS = 100
MOST_REFERENCES = 100


@attrs.frozen(slots=True)
class Bundles:
    """What one parent carries; `edit` is a nid."""

    edit: int | None = None
    thread: relations.ThreadRow | None = None
    references: tuple[str, ...] = ()


def bundles_of(
    txn: Txn, parents: Sequence[StoredEvent], viewer: str, ignored: frozenset[str], up_to: int
) -> tuple[dict[int, Bundles], dict[int, StoredEvent]]:
    """The bundles of those parents that have any, and the events that they name, which carry edits of their own."""
    candidates = {event.nid: event for event in parents if not event.flags & REDACTED}
    having = relations.kinds(txn, list(candidates), up_to)
    if not having:
        return {}, {}
    threads = _threads(txn, [nid for nid, kinds in having.items() if relations.THREAD in kinds], viewer, ignored, up_to)
    last = events.by_nids(txn, [thread.latest for thread in threads.values()])
    edited = {**last, **candidates}
    kinds = {**relations.kinds(txn, list(last), up_to), **having}
    edits = _edits(txn, {n: edited[n] for n, k in kinds.items() if relations.REPLACE in k}, ignored, up_to)
    references = _references(txn, [n for n, k in having.items() if relations.REFERENCE in k], ignored, up_to)
    found = {}
    for nid in having.keys() | edits.keys():
        edit, thread = edits.get(nid), threads.get(nid)
        if edit is not None or thread is not None or nid in references:
            own = thread
            if own is not None and edited[nid].sender == viewer:
                own = own._replace(participated=True)
            found[nid] = Bundles(None if edit is None else edit.nid, own, references.get(nid, ()))
    return found, {**last, **{edit.nid: edit for edit in edits.values()}}


def _threads(
    txn: Txn, roots: Sequence[int], viewer: str, ignored: frozenset[str], up_to: int
) -> dict[int, relations.ThreadRow]:
    numbers = list(names.user_nids(txn, ignored).values()) if ignored else []
    return relations.threads(txn, roots, names.user_nid(txn, viewer) or 0, numbers, up_to)


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
