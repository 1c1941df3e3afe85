# SPDX-License-Identifier: Apache-2.0
"""Knows which events of a room's timeline a user may see, from the room's state at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import orjson

from homeserver.protocol.visibility import SHARED, WORLD_READABLE, can_see, visibility_in
from storage import names
from storage.membership import JOIN
from storage.state_tree import StateTree
from storage.sync_reads import EventRow, Membership, current_at, events
from storage.timeline import circumstances, joined_until
from storage.txn import Txn

VISIBILITY = "m.room.history_visibility"


@attrs.frozen(slots=True)
class Viewer:
    """Who looks, by number and by id."""

    usr: int
    user_id: str


def visible(txn: Txn, viewer: Viewer, standing: Membership, rows: Sequence[EventRow]) -> list[EventRow]:
    """Those of the rows, all of one room and in any order, that the user may see, given how the user stands to it now.

    Events since the user's last join are, and all of a room whose history is shared. Otherwise the state at each
    event decides.
    """
    if not rows:
        return []
    if standing.kind == JOIN and (
        all(row.nid >= standing.since for row in rows) or _shared_throughout(txn, standing.room, rows)
    ):
        return list(rows)
    return _decide_each(txn, viewer, standing, rows)


def was_ever_inside(txn: Txn, viewer: Viewer, standing: Membership) -> bool:
    """Whether the user is or was joined to the room: who never was has no business with its state."""
    if standing.kind == JOIN:
        return True
    return joined_until(txn, standing.room, viewer.user_id, standing.event) is not None


def _shared_throughout(txn: Txn, room: int, rows: Sequence[EventRow]) -> bool:
    """Whether the room's history was shared during all of the rows, by its setting not having changed since."""
    key = names.skey_nid(txn, VISIBILITY, "")
    if key is None:
        return True
    setting = current_at(txn, room, [key]).get(key)
    if setting is None:
        return all(row.skey != key for row in rows)
    # A setting as old as every row has held through all of them; a room's first rows come before its first setting.
    oldest = min(row.nid for row in rows)
    if setting >= oldest and any(row.skey == key and row.nid != setting for row in rows):
        return False
    value = visibility_in(_content(events(txn, [setting])[setting]).get("history_visibility"))
    if value not in (SHARED, WORLD_READABLE):
        return False
    return setting < oldest or _value_before(txn, room, key, setting, oldest)


def _value_before(txn: Txn, room: int, key: int, setting: int, oldest: int) -> bool:
    """Whether the setting that `setting` replaced, if any, shared the history too."""
    replaced = events(txn, [setting])[setting]
    before = None if not replaced.state else StateTree(txn, room).get(replaced.state, key)
    if before is None:
        return True  # "shared" is what holds where nothing is set
    if before >= oldest:
        return False
    value = visibility_in(_content(events(txn, [before])[before]).get("history_visibility"))
    return value in (SHARED, WORLD_READABLE)


def _decide_each(txn: Txn, viewer: Viewer, standing: Membership, rows: Sequence[EventRow]) -> list[EventRow]:
    room = standing.room
    circumstance = circumstances(txn, room, viewer.user_id, [row.nid for row in rows])
    ended = None
    if standing.kind != JOIN:
        ended = joined_until(txn, room, viewer.user_id, standing.event)
    kept = []
    for row in rows:
        held = circumstance.get(row.nid)
        if row.nid == standing.event or (
            held is not None
            and can_see(
                visibility_in(held.visibility),
                held.membership or "leave",
                standing.kind == JOIN or (ended is not None and row.nid < ended),
                visibility_after=visibility_in(held.visibility_after),
                membership_after=held.membership_after,
            )
        ):
            kept.append(row)
    return kept


def _content(row: EventRow) -> dict[str, object]:
    content = orjson.loads(row.event.content)
    return content if isinstance(content, dict) else {}
