# SPDX-License-Identifier: Apache-2.0
"""Which events relate to which: rows (parent, kind, child), and what waits for a parent that is not here yet.

Redacted children have no row. Purging a room deletes the rows of the purged events on both sides; a child whose parent
was purged waits again for nobody, which costs a row and breaks nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from storage.events import HIDDEN, REJECTED, SOFT_FAILED
from storage.txn import Txn

NOT_SHOWN = REJECTED | SOFT_FAILED | HIDDEN

ANNOTATION = 1
REPLACE = 2
THREAD = 3
REFERENCE = 4
REDACTION = 5
OTHER = 9
"""Any other `rel_type`; the child's content says which."""

KINDS = {"m.annotation": ANNOTATION, "m.replace": REPLACE, "m.thread": THREAD, "m.reference": REFERENCE}


def kind_of(rel_type: str) -> int:
    """The number of a `rel_type`."""
    return KINDS.get(rel_type, OTHER)


def add(txn: Txn, parent: int, kind: int, child: int) -> None:
    """Notes that `child` relates to `parent`."""
    txn.put(
        "INSERT INTO relation (parent, kind, child) VALUES (?, ?, ?) ON CONFLICT (parent, kind, child) DO NOTHING",
        (parent, kind, child),
    )


def wait(txn: Txn, parent_id: bytes, kind: int, child: int) -> None:
    """Notes a relation to an event (by its packed id) that is not here."""
    txn.put(
        "INSERT INTO relation_waiting (parent, child, kind) VALUES (?, ?, ?) ON CONFLICT (parent, child) DO NOTHING",
        (parent_id, child, kind),
    )


def waiting(txn: Txn, parent_ids: Sequence[bytes]) -> dict[bytes, list[tuple[int, int]]]:
    """Packed parent id -> (child, kind) of what waits for it."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    if parent_ids:
        condition, params = txn.any("parent", parent_ids)
        for parent, child, kind in txn.all(
            f"SELECT parent, child, kind FROM relation_waiting WHERE {condition}",  # noqa: S608
            params,
        ):
            found.setdefault(bytes(parent), []).append((child, kind))
    return found


def settle(txn: Txn, parent_id: bytes, parent: int) -> None:
    """The parent has come: what waited for it relates to it now."""
    txn.put(
        "INSERT INTO relation (parent, kind, child) SELECT ?, kind, child FROM relation_waiting WHERE parent = ? "
        "ON CONFLICT (parent, kind, child) DO NOTHING",
        (parent, parent_id),
    )
    txn.put("DELETE FROM relation_waiting WHERE parent = ?", (parent_id,))


def drop(txn: Txn, parent: int, kind: int, child: int) -> None:
    """A redacted child relates no more."""
    txn.put("DELETE FROM relation WHERE parent = ? AND kind = ? AND child = ?", (parent, kind, child))


def children(txn: Txn, parents: Iterable[int], kinds: Sequence[int] | None = None) -> dict[int, list[tuple[int, int]]]:
    """Parent -> (kind, child) in the order of arrival."""
    condition, params = txn.any("parent", list(parents))
    if kinds is not None:
        of_kind, more = txn.any("kind", list(kinds))
        condition, params = f"{condition} AND {of_kind}", [*params, *more]
    found: dict[int, list[tuple[int, int]]] = {}
    for parent, kind, child in txn.all(
        f"SELECT parent, kind, child FROM relation WHERE {condition} ORDER BY child",  # noqa: S608
        params,
    ):
        found.setdefault(parent, []).append((kind, child))
    return found


def kinds(txn: Txn, parents: Sequence[int], up_to: int) -> dict[int, set[int]]:
    """Parent -> which kinds of summed-up relations (edits, threads, references) it has, up to event number `up_to`."""
    if not parents:
        return {}
    condition, params = txn.any("parent", parents)
    rows = txn.all(
        f"SELECT DISTINCT parent, kind FROM relation WHERE {condition} AND kind IN (2, 3, 4) AND child <= ?",  # noqa: S608
        [*params, up_to],
    )
    found: dict[int, set[int]] = {}
    for parent, kind in rows:
        found.setdefault(parent, set()).add(kind)
    return found


class ThreadRow(NamedTuple):
    """A thread: its last event, how many there are, and whether the one who asks sent any of them."""

    latest: int
    length: int
    participated: bool


def threads(txn: Txn, roots: Sequence[int], usr: int, ignored: Sequence[int], up_to: int) -> dict[int, ThreadRow]:
    """Root -> its thread as the user sees it, without events of senders in `ignored`."""
    if not roots:
        return {}
    condition, params = txn.any("r.parent", roots)
    heard = ""
    more: list[object] = []
    if ignored:
        these, more = txn.any("e.sender", ignored)
        heard = f" AND NOT ({these})"
    rows = txn.all(
        "SELECT r.parent, max(r.child), count(*), max(CASE WHEN e.sender = ? THEN 1 ELSE 0 END) "  # noqa: S608
        f"FROM relation r JOIN event e ON e.nid = r.child WHERE {condition} AND r.kind = 3 AND r.child <= ? "
        f"AND e.flags & {NOT_SHOWN} = 0{heard} GROUP BY r.parent",
        [usr, *params, up_to, *more],
    )
    return {parent: ThreadRow(latest, count, bool(own)) for parent, latest, count, own in rows}


def annotations_by(txn: Txn, parent: int, usr: int, etype: int) -> list[bytes]:
    """The contents of a user's annotations of an event, of one event type."""
    rows = txn.all(
        "SELECT e.content FROM relation r JOIN event e ON e.nid = r.child "
        "WHERE r.parent = ? AND r.kind = ? AND e.sender = ? AND e.etype = ?",
        (parent, ANNOTATION, usr, etype),
    )
    return [bytes(row[0]) for row in rows]
