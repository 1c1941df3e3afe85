# SPDX-License-Identifier: Apache-2.0
"""Where the history of a room has holes: the event above each, what it cites that is not here, and the next free place
below it.
"""

from collections.abc import Collection, Sequence

import attrs
import orjson

from storage import events
from storage.events import LIVE_MASK, ORD_SHIFT
from storage.txn import Txn


@attrs.frozen(slots=True)
class Gap:
    """A hole below an event (`nid`, at `ord`). `next_ord` is where the first event that is fetched goes."""

    room: int
    nid: int
    ord: int
    next_ord: int
    missing: tuple[str, ...]


def open_below(txn: Txn, room: int, nid: int, position: int, missing: Collection[str]) -> None:
    """A hole begins below an event that came at a position."""
    txn.put(
        "INSERT INTO gap (room, event, next_ord, missing) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (room, nid, (position << ORD_SHIFT) - 1, orjson.dumps(sorted(missing))),
    )


def newest(txn: Txn, room: int, up_to: int) -> Gap | None:
    """The first hole below a point in the room's order."""
    row = txn.one(
        "SELECT g.event, e.ord, g.next_ord, g.missing FROM gap g JOIN event e ON e.nid = g.event "
        "WHERE g.room = ? AND g.next_ord <= ? ORDER BY g.next_ord DESC LIMIT 1",
        (room, up_to),
    )
    return None if row is None else Gap(room, row[0], row[1], row[2], tuple(orjson.loads(row[3])))


def between(txn: Txn, room: int, above: int, up_to: int) -> int:
    """How many events lie at above < ord <= up_to."""
    row = txn.one("SELECT count(*) FROM event WHERE room = ? AND ord > ? AND ord <= ?", (room, above, up_to))
    return 0 if row is None else int(row[0])


def without_place(txn: Txn, event_ids: Sequence[str]) -> set[str]:
    """Those of the events that are not in the room's history; what the rules rejected is not missed."""
    loaded = events.load_by_ids(txn, event_ids)
    known = events.places(txn, [nid for nid, _ in loaded.values()])
    here = {one for one, (nid, _) in loaded.items() if known[nid].state is not None}
    return set(event_ids) - here


def narrow(txn: Txn, gap: Gap, next_ord: int, missing: Collection[str]) -> None:
    """Some of what was missing is here now; with nothing missing any more the hole is closed."""
    if missing:
        txn.put(
            "UPDATE gap SET next_ord = ?, missing = ? WHERE room = ? AND event = ?",
            (next_ord, orjson.dumps(sorted(missing)), gap.room, gap.nid),
        )
    else:
        txn.put("DELETE FROM gap WHERE room = ? AND event = ?", (gap.room, gap.nid))


def below(ord_: int) -> int:
    """The next place below; places of what came live are left out."""
    return ord_ - 1 if (ord_ - 1) & LIVE_MASK else ord_ - 2
