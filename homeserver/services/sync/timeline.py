# SPDX-License-Identifier: Apache-2.0
"""Knows which events of each room's history an answer shows: the newest that pass the filter and may be seen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence

import attrs
import orjson

from homeserver.protocol.filters import EventFilter
from homeserver.services.sync.plan import RoomAsk, Timeline
from homeserver.services.sync.sight import Settings, Viewer, needs_settings, visibility_settings, visible
from homeserver.services.sync.tokens import ORD_BITS
from storage import names
from storage.relations import children, kind_of
from storage.sync_reads import LOWEST, EventRow, Window, events, gaps, timelines
from storage.txn import Txn

PAGES = 20
TIMELINES_KEPT = 500

Passes = Callable[[EventRow], bool]


class RecentTimelines:
    """Timelines as they were just read: in a crowded room everybody asks for the same part.

    The key holds the position that an answer goes up to, so what was kept is right until the next commit, and then not
    asked for any more.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int, int, int], Timeline] = OrderedDict()

    def get(self, ask: RoomAsk, limit: int) -> Timeline | None:
        return self._kept.get((ask.room, ask.after or 0, ask.upto, limit))

    def forget(self) -> None:
        """The database was lost and came back: positions may mean something else."""
        self._kept.clear()

    def keep(self, ask: RoomAsk, limit: int, timeline: Timeline) -> None:
        self._kept[ask.room, ask.after or 0, ask.upto, limit] = timeline
        if len(self._kept) > TIMELINES_KEPT:
            self._kept.popitem(last=False)


def read_timelines(
    txn: Txn,
    viewer: Viewer,
    asks: Sequence[RoomAsk],
    chosen: EventFilter,
    limit: int,
    ignored: Collection[str],
    recent: RecentTimelines,
) -> dict[int, Timeline]:
    """The timeline of each room asked about, by room."""
    found: dict[int, Timeline] = {}
    alike: list[RoomAsk] = []
    if chosen.passes_every_event and not ignored and chosen.rooms is None and not chosen.not_rooms:
        # Who was joined all the time sees all of it, like everybody else.
        alike = [ask for ask in asks if ask.joined and ask.after is not None and ask.standing.since <= ask.after]
        found = {ask.room: kept for ask in alike if (kept := recent.get(ask, limit)) is not None}
    missing = [ask for ask in asks if ask.room not in found]
    if missing:
        found.update(_read(txn, viewer, missing, chosen, limit, ignored))
        for ask in alike:
            # With events of other servers it may be up to the viewer's own past what is seen.
            if not needs_settings(viewer, ask.standing, found[ask.room].rows) and not found[ask.room].sifted:
                recent.keep(ask, limit, found[ask.room])
    return found


def _read(
    txn: Txn, viewer: Viewer, asks: Sequence[RoomAsk], chosen: EventFilter, limit: int, ignored: Collection[str]
) -> dict[int, Timeline]:
    holes = gaps(txn, [ask.room for ask in asks])
    windows = {ask.room: _window(ask, holes.get(ask.room, ())) for ask in asks}
    shown = [ask for ask in asks if not chosen.passes_nothing and chosen.allows_room(ask.room_id)]
    types = _type_numbers(txn, chosen)
    fetch = limit + 1 if chosen.passes_every_event and not ignored else min(4 * limit + 1, 250)
    pages = timelines(txn, [windows[ask.room] for ask in shown], fetch, types) if shown else {}
    passes = _passes(chosen, ignored)
    old = [ask.room for ask in shown if needs_settings(viewer, ask.standing, pages[ask.room])]
    settings = visibility_settings(txn, old)
    found = {}
    for ask in asks:
        low = windows[ask.room].low
        torn = low != _floor(ask)
        if ask.room in pages:
            page = _Page(pages[ask.room], fetch, low, types)
            found[ask.room] = _choose(txn, Eye(viewer, settings, chosen, passes), ask, page, limit, torn)
        else:
            found[ask.room] = Timeline((), False, (ask.upto << ORD_BITS) + 1)
    return found


class _Page:
    """The newest events of a window, and how many were asked for."""

    def __init__(self, rows: list[EventRow], asked: int, low: int, types: Sequence[int] | None) -> None:
        self.rows = rows
        self.asked = asked
        self.low = low
        self.types = types

    @property
    def is_last(self) -> bool:
        return len(self.rows) < self.asked

    def before(self, txn: Txn, room: int) -> _Page:
        """The page of events before this one."""
        rows = timelines(txn, [Window(room, self.low, self.rows[-1].ord - 1)], self.asked, self.types)[room]
        return _Page(rows, self.asked, self.low, self.types)


@attrs.frozen(slots=True)
class Eye:
    """Who looks, and through which filter."""

    viewer: Viewer
    settings: Settings
    chosen: EventFilter
    passes: Passes

    def sees(self, txn: Txn, ask: RoomAsk, rows: Sequence[EventRow]) -> list[EventRow]:
        """Those of a room's rows that pass and may be seen."""
        candidates = related_to(txn, self.chosen, [row for row in rows if self.passes(row)])
        settings = self.settings
        if ask.room not in settings and needs_settings(self.viewer, ask.standing, candidates):
            settings = visibility_settings(txn, [ask.room])
        return visible(txn, self.viewer, ask.standing, candidates, settings)


def _choose(txn: Txn, eye: Eye, ask: RoomAsk, page: _Page, limit: int, torn: bool) -> Timeline:
    kept: list[EventRow] = []
    more = sifted = False
    for number in range(1, PAGES + 1):
        seen = eye.sees(txn, ask, page.rows)
        sifted = sifted or len(seen) < len(page.rows)
        kept += seen
        if len(kept) > limit or page.is_last:
            break
        if number == PAGES:
            more = True
            break
        page = page.before(txn, ask.room)
    over = len(kept) > limit
    if over:
        del kept[limit:]
    if over:
        start = kept[-1].ord if kept else (ask.upto << ORD_BITS) + 1
    elif more:
        start = page.rows[-1].ord
    else:
        start = kept[-1].ord if kept and (ask.after is None or torn) else page.low + 1
    # In a room that is new to the client it starts afresh, unless the user made it and everything is here.
    first = kept[-1].event if kept else None
    whole = first is not None and first.type == "m.room.create" and first.sender == eye.viewer.user_id and not sifted
    return Timeline(tuple(reversed(kept)), over or more or torn or (ask.newly and not whole), start, sifted)


def _floor(ask: RoomAsk) -> int:
    return LOWEST if ask.after is None else ask.after << ORD_BITS


def _window(ask: RoomAsk, holes: Collection[int]) -> Window:
    """The part of the order to show: not beyond the newest hole in it."""
    low, high = _floor(ask), ask.upto << ORD_BITS
    above = [ord_ - 1 for ord_ in holes if low < ord_ <= high]
    return Window(ask.room, max([low, *above]), high)


def _type_numbers(txn: Txn, chosen: EventFilter) -> list[int] | None:
    """The numbers of the wanted types where they are all named outright."""
    if chosen.types is None or chosen.types.wild:
        return None
    numbers = [names.etype_nid(txn, name) for name in chosen.types.exact]
    return [number for number in numbers if number is not None] or [-1]


def related_to(txn: Txn, chosen: EventFilter, rows: list[EventRow]) -> list[EventRow]:
    """Those of the rows to which others relate as the filter wants (`related_by_rel_types`, `related_by_senders`)."""
    kinds, senders = chosen.related_by_rel_types, chosen.related_by_senders
    if not rows or (kinds is None and senders is None):
        return rows
    numbers = None if kinds is None else [kind_of(kind) for kind in kinds]
    related = children(txn, [row.nid for row in rows], numbers)
    if senders is not None:
        nids = [child for pairs in related.values() for _, child in pairs]
        by = {nid: row.event.sender for nid, row in events(txn, nids).items()}
        related = {
            parent: pairs for parent, pairs in related.items() if any(by.get(child) in senders for _, child in pairs)
        }
    return [row for row in rows if row.nid in related]


def _passes(chosen: EventFilter, ignored: Collection[str]) -> Passes:
    """What a row must satisfy. Events of ignored users are left out, but for state."""

    def passes(row: EventRow) -> bool:
        event = row.event
        if event.sender in ignored and event.state_key is None:
            return False
        if not (chosen.allows_type(event.type) and chosen.allows_sender(event.sender)):
            return False
        return not chosen.needs_content or chosen.allows_content(orjson.loads(event.content))

    if chosen.passes_every_event:
        if not ignored:
            return lambda row: True
        return lambda row: row.event.state_key is not None or row.event.sender not in ignored
    return passes
