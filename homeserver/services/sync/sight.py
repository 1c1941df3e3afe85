# SPDX-License-Identifier: Apache-2.0
"""Knows which events of a room's timeline a user may see, from the room's state at each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import orjson

from homeserver.protocol.visibility import SHARED, WORLD_READABLE, can_see, visibility_in
from storage import names
from storage.membership import JOIN
from storage.state_tree import StateTree
from storage.sync_reads import EventRow, Membership, current_pairs, events
from storage.timeline import circumstances, joined_until
from storage.txn import Txn

VISIBILITY = "m.room.history_visibility"
CREATE = "m.room.create"


@attrs.frozen(slots=True)
class Viewer:
    """Who looks, by number and by id."""

    usr: int
    user_id: str


Settings = Mapping[int, EventRow]


def visibility_settings(txn: Txn, rooms: Sequence[int]) -> dict[int, EventRow]:
    """The current history visibility events of rooms, where one is set."""
    key = names.skey_nid(txn, VISIBILITY, "")
    if key is None or not rooms:
        return {}
    return {row.event.room: row for row in current_pairs(txn, [(room, key) for room in rooms])}


def needs_settings(viewer: Viewer, standing: Membership, rows: Sequence[EventRow]) -> bool:
    """Whether the room's setting matters: for rows from before the user's last join, and for those of other servers.

    What this server's users send is built on a state in which the user is joined; what comes late from elsewhere may
    stand on one in which the user was not.
    """
    if standing.kind != JOIN:
        return False
    since, home = standing.since, viewer.user_id[viewer.user_id.find(":") :]
    return any(row.nid < since or not row.event.sender.endswith(home) for row in rows)


def visible(
    txn: Txn, viewer: Viewer, standing: Membership, rows: Sequence[EventRow], settings: Settings
) -> list[EventRow]:
    """Those of the rows, all of one room and in any order, that the user may see, given how the user stands to it now.

    Events of this server's users since the user's last join are, and all of a room whose history is shared (`settings`
    are those of the rooms for which `needs_settings`). Otherwise the state at each event decides.
    """
    if not rows:
        return []
    if standing.kind == JOIN and (
        not needs_settings(viewer, standing, rows) or _shared_throughout(txn, settings.get(standing.room), rows)
    ):
        return list(rows)
    return _decide_each(txn, viewer, standing, rows)


def was_ever_inside(txn: Txn, viewer: Viewer, standing: Membership) -> bool:
    """Whether the user is or was joined to the room: who never was has no business with its state."""
    if standing.kind == JOIN:
        return True
    return joined_until(txn, standing.room, viewer.user_id, standing.event) is not None


def _shared_throughout(txn: Txn, setting: EventRow | None, rows: Sequence[EventRow]) -> bool:
    """Whether the room's history was shared during all of the rows, whose room has this setting now."""
    others = [row for row in rows if row.event.type == VISIBILITY and (setting is None or row.nid != setting.nid)]
    if others:
        return False
    if setting is None:
        return True
    if not _shares(setting):
        return False
    # A setting as old as every row has held through all of them. Nothing was set before it in a room that has just
    # begun, and "shared" is what holds where nothing is set.
    if setting.nid < min(row.nid for row in rows) or any(row.event.type == CREATE for row in rows):
        return True
    before = None
    if setting.state and setting.skey is not None:
        before = StateTree(txn, setting.event.room).get(setting.state, setting.skey)
    return before is None or _shares(events(txn, [before])[before])


def _shares(setting: EventRow) -> bool:
    content = orjson.loads(setting.event.content)
    value = content.get("history_visibility") if isinstance(content, dict) else None
    return visibility_in(value) in (SHARED, WORLD_READABLE)


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
