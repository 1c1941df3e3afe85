# SPDX-License-Identifier: Apache-2.0
"""What relates to events, for those who page through it: children of many parents, and the threads of a room."""

from collections.abc import Iterable

import attrs

from storage import relations
from storage.events import HIDDEN, REDACTED, REJECTED, SOFT_FAILED
from storage.txn import Txn

GONE = HIDDEN | REDACTED | REJECTED | SOFT_FAILED
MOST_CHILDREN = 20_000


@attrs.frozen(slots=True)
class ThreadQuery:
    """Which threads of a room are wanted: those whose latest event is below an order and not after another.

    What `ignored` users say does not count; `participated` leaves out the threads that `usr` is not part of.
    """

    room: int
    usr: int
    below: int
    up_to: int
    participated: bool
    ignored: tuple[int, ...] = ()


def children(txn: Txn, parents: Iterable[int], rel_type: str | None) -> dict[int, int]:
    """Number -> order of the events in the timeline that relate to one of `parents`, in any or in one way."""
    condition, params = txn.any("r.parent", list(parents))
    kind = f"r.kind <> {relations.REDACTION}" if rel_type is None else f"r.kind = {relations.kind_of(rel_type)}"
    return dict(
        txn.all(
            f"SELECT e.nid, e.ord FROM relation r JOIN event e ON e.nid = r.child WHERE {condition} AND {kind} "
            f"AND e.flags & {GONE} = 0 AND e.ord IS NOT NULL LIMIT {MOST_CHILDREN}",
            params,
        )
    )


def threads(txn: Txn, wanted: ThreadQuery, limit: int) -> list[tuple[int, int]]:
    """The numbers of thread roots with the order of each one's latest event, the newest first."""
    params: list[object] = [wanted.usr, wanted.usr, wanted.room, wanted.up_to]
    heard = ""
    if wanted.ignored:
        condition, more = txn.any("c.sender", wanted.ignored)
        heard, params = f" AND NOT {condition}", [*params, *more]
    own = " AND t.own = 1" if wanted.participated else ""
    rows = txn.all(
        "SELECT t.root, t.latest FROM (SELECT c.thread AS root, max(c.ord) AS latest, "
        "max(CASE WHEN c.sender = ? OR p.sender = ? THEN 1 ELSE 0 END) AS own FROM event c "
        f"JOIN relation r ON r.parent = c.thread AND r.kind = {relations.THREAD} AND r.child = c.nid "
        "JOIN event p ON p.nid = c.thread "
        f"WHERE c.room = ? AND c.thread IS NOT NULL AND c.flags & {GONE} = 0 AND c.ord <= ?{heard} "
        f"GROUP BY c.thread) t WHERE t.latest < ?{own} ORDER BY t.latest DESC LIMIT ?",
        [*params, wanted.below, limit],
    )
    return [(root, latest) for root, latest in rows]
