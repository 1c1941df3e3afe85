# SPDX-License-Identifier: Apache-2.0
"""How other servers walk back through a room: along the events that each event cites."""

import heapq
from collections.abc import Iterable, Sequence

import attrs

from homeserver.protocol.events import Event
from storage import events, membership, names, state
from storage.rooms import unpack_heads
from storage.txn import Txn

STEP = 50


@attrs.frozen(slots=True)
class Seen:
    """An event on its way to another server, and what decides whether that server may see it."""

    nid: int
    event: Event
    visibility: str | None
    memberships: tuple[str, ...]
    """Of the server's users, when the event was sent."""


def walk(txn: Txn, room: int, starts: Iterable[str], stops: Iterable[str], limit: int, least: int) -> list[int]:
    """The numbers of at most `limit` events, `starts` first, each before those it cites, the deepest first.

    Goes no further than `stops`, which are left out, and events of a depth less than `least`.
    """
    ended = {nid for nid, _ in events.load_by_ids(txn, stops).values()}
    found: list[int] = []
    seen: set[int] = set()
    waiting: list[tuple[int, int, Event]] = []

    def reach(ids: Iterable[str]) -> None:
        loaded = events.load_by_ids(txn, ids)
        places = events.places(txn, [nid for nid, _ in loaded.values()])
        for nid, event in loaded.values():
            place = places[nid]
            usable = place.room == room and not place.flags & (events.REJECTED | events.OUTLIER)
            if usable and nid not in seen and nid not in ended and event.depth >= least:
                seen.add(nid)
                heapq.heappush(waiting, (-event.depth, -nid, event))

    reach(starts)
    while waiting and len(found) < limit:
        _, nid, event = heapq.heappop(waiting)
        found.append(-nid)
        reach(event.prev_event_ids)
    return found


def seen_by(txn: Txn, room: int, server: str, nids: Sequence[int]) -> list[Seen]:
    """The events with what decides whether a server may see each."""
    visibility = ("m.room.history_visibility", "")
    users = _users_of(txn, room, server)
    keys = [visibility, *(("m.room.member", user) for user in users)]
    loaded, places = events.load(txn, nids), events.places(txn, nids)
    known: dict[int, dict[tuple[str, str], int]] = {}
    for place in places.values():
        if place.state is not None and place.state not in known:
            known[place.state] = state.at(txn, room, place.state, keys)
    deciding = events.load(txn, {nid for found in known.values() for nid in found.values()})
    shown = []
    for nid in nids:
        at = known.get(places[nid].state or 0, {})
        setting = deciding[at[visibility]].content.get("history_visibility") if visibility in at else None
        held = [deciding[one].content.get("membership") for key, one in at.items() if key != visibility]
        own = loaded[nid]
        if own.type == "m.room.member" and own.state_key in users:
            held.append(own.content.get("membership"))
        memberships = tuple(one for one in held if isinstance(one, str))
        shown.append(Seen(nid, own, setting if isinstance(setting, str) else None, memberships))
    return shown


def _users_of(txn: Txn, room: int, server: str) -> list[str]:
    rows = membership.of_room(txn, room, tuple(membership.NAMES))
    ids = names.user_ids(txn, (row.usr for row in rows))
    return [user_id for user_id in ids.values() if user_id.endswith(":" + server)]


def heads(txn: Txn, room: int) -> list[str]:
    """The ids of the room's newest events."""
    row = txn.one("SELECT heads FROM room WHERE nid = ?", (room,))
    found = [] if row is None else [head.event for head in unpack_heads(bytes(row[0]))]
    return [event.event_id for event in events.load(txn, found).values()]


def state_keys(txn: Txn, event_ids: Iterable[str]) -> dict[tuple[str, str], str]:
    """Key → id of those of the events that are stored state events which the rules did not reject."""
    loaded = events.load_by_ids(txn, event_ids)
    places = events.places(txn, [nid for nid, _ in loaded.values()])
    return {
        event.key: event_id
        for event_id, (nid, event) in loaded.items()
        if event.key is not None and not places[nid].flags & events.REJECTED
    }
