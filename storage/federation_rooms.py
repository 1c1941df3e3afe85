# SPDX-License-Identifier: Apache-2.0
"""What other servers are given of rooms: state and its permission, whether their users are there, what is passed on."""

from collections.abc import Iterable, Sequence

import attrs

from homeserver.protocol.room_versions import lookup
from storage import events, membership, names, state
from storage.auth_chain import AuthGraph, reachable
from storage.txn import Txn


@attrs.frozen(slots=True)
class Snapshot:
    """The state at an event and the events of its auth chain that are not part of it, as nids."""

    state: tuple[int, ...]
    auth: tuple[int, ...]


def resident(txn: Txn, room_id: str) -> int | None:
    """The number of a room that a local user is joined to; None for any other."""
    room = names.room_nid(txn, room_id)
    if room is None:
        return None
    row = txn.one(
        "SELECT 1 FROM membership m JOIN usr u ON u.nid = m.usr WHERE m.room = ? AND m.kind = ? AND u.local = 1"
        " LIMIT 1",
        (room, membership.JOIN),
    )
    return None if row is None else room


def version_of(txn: Txn, room_id: str) -> str | None:
    """The version of a known room."""
    room = names.room_nid(txn, room_id)
    return None if room is None else names.room_version(txn, room)


def has_member_of(txn: Txn, room_id: str, server: str) -> bool:
    """Whether a user of that server is joined to the room."""
    room = names.room_nid(txn, room_id)
    return room is not None and server in membership.servers_of_room(txn, room)


def state_before(txn: Txn, room_id: str, event_id: str) -> Snapshot | None:
    """The state before an event of the room; None when the event, or its state, is not known."""
    room, nid = names.room_nid(txn, room_id), events.nid_of(txn, event_id)
    place = None if nid is None else events.places(txn, [nid]).get(nid)
    if room is None or place is None or place.room != room or place.state is None:
        return None
    if place.flags & (events.REJECTED | events.OUTLIER):
        return None
    held = set(state.at(txn, room, place.state).values())
    return Snapshot(tuple(sorted(held)), auth_chain(txn, room, held))


def auth_chain(txn: Txn, room: int, of: Iterable[int]) -> tuple[int, ...]:
    """The auth chain of some events without themselves, those that others cite first."""
    starts = set(of)
    return tuple(sorted(reachable(AuthGraph(txn, room), starts, 0) - starts))


def auth_chain_of(txn: Txn, room_id: str, event_id: str) -> tuple[int, ...] | None:
    """The auth chain of one event of the room; None when it is not known."""
    room, nid = names.room_nid(txn, room_id), events.nid_of(txn, event_id)
    place = None if nid is None else events.places(txn, [nid]).get(nid)
    if room is None or nid is None or place is None or place.room != room:
        return None
    event = events.load(txn, [nid])[nid]
    auth = {one for one, _ in events.load_by_ids(txn, event.auth_event_ids).values()}
    return tuple(sorted(auth | set(auth_chain(txn, room, auth))))


def ids_of(txn: Txn, nids: Sequence[int]) -> list[str]:
    """The ids of events."""
    if not nids:
        return []
    found: dict[int, str] = {}
    for start in range(0, len(nids), 5_000):
        condition, params = txn.any("nid", list(nids[start : start + 5_000]))
        rows = txn.all(f"SELECT nid, room, id FROM event WHERE {condition}", params)
        for nid, room, raw in rows:
            found[nid] = events.unpack_id(raw, lookup(names.room_version(txn, room)))
    return [found[nid] for nid in nids if nid in found]


def pdus_of(txn: Txn, nids: Sequence[int]) -> list[bytes]:
    """The PDUs of events, in the same order."""
    found = events.pdus(txn, nids)
    return [found[nid] for nid in nids if nid in found]


def not_rejected(txn: Txn, event_ids: Iterable[str]) -> set[str]:
    """Those of the stored events that the rules did not reject."""
    loaded = events.load_by_ids(txn, event_ids)
    places = events.places(txn, [nid for nid, _ in loaded.values()])
    return {event_id for event_id, (nid, _) in loaded.items() if not places[nid].flags & events.REJECTED}


def unknown(txn: Txn, event_ids: Iterable[str]) -> set[str]:
    """Those of the events that are not stored at all."""
    wanted = list(dict.fromkeys(event_ids))
    known: set[bytes] = set()
    for start in range(0, len(wanted), 5_000):
        condition, params = txn.any("id", [events.pack_id(one) for one in wanted[start : start + 5_000]])
        known.update(bytes(row[0]) for row in txn.all(f"SELECT id FROM event WHERE {condition}", params))
    return {one for one in wanted if events.pack_id(one) not in known}
