# SPDX-License-Identifier: Apache-2.0
"""How a user stands to a room, and where an event stands in it: what a receipt or typing needs to know, no more."""

from collections.abc import Sequence

import attrs

from storage import names
from storage.events import pack_id
from storage.txn import Txn
from storage.unread import JOINED


@attrs.frozen(slots=True)
class Spot:
    """An event's place: `thread` is the number of its thread's root, None in the main timeline."""

    nid: int
    ord: int
    thread: int | None


def joined_room(txn: Txn, usr: int, room_id: str) -> int | None:
    """The number of a room that the user is joined to; None for any other."""
    room = names.room_nid(txn, room_id)
    if room is None:
        return None
    row = txn.one("SELECT kind FROM membership WHERE usr = ? AND room = ?", (usr, room))
    return room if row is not None and row[0] == JOINED else None


def spot(txn: Txn, room: int, event_id: str) -> Spot | None:
    """Where an event stands in the room's timeline; None when it is not in it."""
    row = txn.one("SELECT nid, ord, thread FROM event WHERE id = ? AND room = ?", (pack_id(event_id), room))
    return None if row is None or row[1] is None else Spot(*row)


def share_room(txn: Txn, usr: int, others: Sequence[int]) -> set[int]:
    """Those of `others` who are in a room together with the user."""
    if not others:
        return set()
    condition, params = txn.any("b.usr", list(others))
    rows = txn.all(
        "SELECT DISTINCT b.usr FROM membership a JOIN membership b ON b.room = a.room AND b.kind = 1"  # noqa: S608
        f" WHERE a.usr = ? AND a.kind = 1 AND {condition}",
        [usr, *params],
    )
    return {row[0] for row in rows}
