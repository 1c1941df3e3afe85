# SPDX-License-Identifier: Apache-2.0
"""Knows which state events go beside each timeline, so that a client ends up with the room's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import orjson

from homeserver.protocol.filters import EventFilter
from homeserver.services.sync.members import Summary, ToldMembers, member_rows
from homeserver.services.sync.plan import Plan, RoomAsk, Timeline
from homeserver.services.sync.sight import Viewer, was_ever_inside
from storage import names
from storage.state_tree import StateTree
from storage.sync_reads import MEMBER, EventRow, Logged, current_state, events, state_changes
from storage.timeline import state_at
from storage.txn import Txn


@attrs.frozen(slots=True)
class RoomState:
    """What goes beside a timeline, and whether anything changed that a room's summary depends on."""

    rows: tuple[EventRow, ...]
    reshaped: bool


SHAPING = frozenset({MEMBER, "m.room.name", "m.room.canonical_alias"})


def reshaped_rooms(txn: Txn, logs: Mapping[int, Sequence[Logged]]) -> set[int]:
    """The rooms in whose log a member, the name or the alias changed."""
    keys = names.skeys(txn, {change.skey for log in logs.values() for change in log})
    return {room for room, log in logs.items() if any(keys[change.skey][0] in SHAPING for change in log)}


class StateReader:
    """The state beside the timelines of one answer's rooms."""

    def __init__(self, txn: Txn, plan: Plan, told: ToldMembers) -> None:
        self._txn = txn
        self._plan = plan
        self._told = told
        self._filter: EventFilter = plan.request.filter.room.state
        self._lazy = self._filter.lazy_load_members
        self._after_timeline = plan.request.state_after

    def logs(self, asks: Sequence[RoomAsk]) -> dict[int, list[Logged]]:
        """What changed in the rooms of which the client has an earlier state."""
        partial = [(ask.room, ask.after) for ask in asks if not ask.full and ask.after is not None]
        changed = self._plan.state_rooms
        windows = [window for window in partial if changed is None or window[0] in changed]
        quiet: dict[int, list[Logged]] = {room: [] for room, _ in partial}
        if not windows:
            return quiet
        upto = {ask.room: ask.upto for ask in asks}
        found = state_changes(self._txn, windows, max(upto.values()))
        return quiet | {room: [change for change in log if change.pos <= upto[room]] for room, log in found.items()}

    def read(
        self,
        asks: Sequence[RoomAsk],
        timelines: Mapping[int, Timeline],
        logs: Mapping[int, Sequence[Logged]],
        summaries: Mapping[int, Summary],
    ) -> dict[int, list[EventRow]]:
        """The state events of each room, filtered."""
        found = self._whole([ask for ask in asks if ask.full])
        found.update(self._changed(logs))
        members = self._members(asks, timelines, summaries) if self._lazy else {}
        return {ask.room: self._of_room(ask, timelines[ask.room], found[ask.room], members) for ask in asks}

    def _whole(self, asks: Sequence[RoomAsk]) -> dict[int, list[EventRow]]:
        """The whole state, of rooms that the user has left as it was then; without members when they are lazy."""
        joined = [ask.room for ask in asks if ask.joined]
        found = current_state(self._txn, joined, with_members=not self._lazy) if joined else {}
        for ask in asks:
            if not ask.joined:
                found[ask.room] = self._left(ask)
        return found

    def _left(self, ask: RoomAsk) -> list[EventRow]:
        """The state of a room when the user left; only the leaving itself for who was never inside."""
        request, own = self._plan.request, ask.standing.event
        viewer = Viewer(request.user.usr, request.user.user_id)
        if not was_ever_inside(self._txn, viewer, ask.standing):
            return list(events(self._txn, [own]).values())
        rows = events(self._txn, state_at(self._txn, ask.room, own).values()).values()
        return [row for row in rows if not self._lazy or row.event.type != MEMBER or row.nid == own]

    def _changed(self, logs: Mapping[int, Sequence[Logged]]) -> dict[int, list[EventRow]]:
        """The last event of each state key that changed."""
        last = {room: {change.skey: change.event for change in log} for room, log in logs.items()}
        nids = [nid for keys in last.values() for nid in keys.values() if nid is not None]
        known = events(self._txn, nids)
        return {
            room: [known[nid] for nid in keys.values() if nid is not None and nid in known]
            for room, keys in last.items()
        }

    def _members(
        self, asks: Sequence[RoomAsk], timelines: Mapping[int, Timeline], summaries: Mapping[int, Summary]
    ) -> dict[int, list[EventRow]]:
        """Members that a client needs to show the timelines: senders, heroes, and the user where all state is sent."""
        wanted: dict[int, set[str]] = {}
        for ask in asks:
            users = {row.event.sender for row in timelines[ask.room].rows}
            summary = summaries.get(ask.room)
            if summary is not None and summary.heroes:
                users.update(summary.heroes)
            if ask.full:
                users.add(self._plan.request.user.user_id)
            elif not self._filter.include_redundant_members:
                users = {user for user in users if not self._has(ask.room, user)}
            wanted[ask.room] = users
        return member_rows(self._txn, wanted)

    def _has(self, room: int, user_id: str) -> bool:
        """Whether the device has this member: if as an older event, the newer one is among the changes."""
        key = names.skey_nid(self._txn, MEMBER, user_id)
        user = self._plan.request.user
        return key is not None and self._told.has(user.usr, user.device, room, key, self._plan.after)

    def _of_room(
        self, ask: RoomAsk, timeline: Timeline, rows: list[EventRow], members: Mapping[int, list[EventRow]]
    ) -> list[EventRow]:
        request = self._plan.request
        user = request.user
        have = {row.nid for row in rows}
        extra = [row for row in members.get(ask.room, ()) if row.nid not in have]
        if not self._filter.include_redundant_members:
            since = -1 if ask.after is None else self._plan.after
            extra = [row for row in extra if not self._told.knows(user.usr, user.device, ask.room, row, since)]
        chosen = [*rows, *extra]
        if not self._after_timeline:
            chosen = self._before_timeline(ask, timeline, chosen)
        chosen = [row for row in chosen if self._passes(ask, row)]
        if self._lazy:
            # The timeline's own member events tell the client of those members too.
            told = [*chosen, *timeline.rows]
            self._told.told(user.usr, user.device, ask.room, told, self._plan.upto.pos)
        return chosen

    def _before_timeline(self, ask: RoomAsk, timeline: Timeline, rows: Sequence[EventRow]) -> list[EventRow]:
        """The state at the timeline's start: what the timeline itself brings is replaced by what stood there before."""
        shown = {row.nid for row in timeline.rows}
        kept = [row for row in rows if row.nid not in shown]
        inside = [row.skey for row in rows if row.nid in shown and row.skey is not None]
        if not inside or not timeline.rows or not timeline.limited and ask.after is not None:
            return kept
        root = timeline.rows[0].state
        if not root:
            return kept
        before = StateTree(self._txn, ask.room).get_many(root, inside)
        floor = 0 if ask.full or ask.after is None else ask.after
        return kept + list(events(self._txn, [nid for nid in before.values() if nid > floor]).values())

    def _passes(self, ask: RoomAsk, row: EventRow) -> bool:
        chosen, event = self._filter, row.event
        if not chosen.allows_room(ask.room_id):
            return False
        if chosen.passes_every_event:
            return True
        if not (chosen.allows_type(event.type) and chosen.allows_sender(event.sender)):
            return False
        return not chosen.needs_content or chosen.allows_content(orjson.loads(event.content))
