# SPDX-License-Identifier: Apache-2.0
"""The state of rooms, as events: what holds now, and what held at an event. No permissions are checked here."""

from collections.abc import Mapping, Sequence

from homeserver.protocol.events import Event, StateKey
from homeserver.services.database import Database
from storage import events, membership, names, state
from storage.events import StoredEvent
from storage.membership import Membership
from storage.txn import Txn


class RoomState:
    """Reads state. `current` gives events for rules, `clients_*` the same events as clients are served them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def current(self, room_id: str, keys: Sequence[StateKey]) -> dict[StateKey, Event]:
        """The current events at some keys; absent ones are left out. {} for an unknown room."""
        return await self._db.point(_current, room_id, keys)

    async def all_current(self, room_id: str) -> dict[StateKey, Event]:
        """The whole current state."""
        return await self._db.read(_current, room_id, None)

    async def clients_current(self, room_id: str, keys: Sequence[StateKey] | None = None) -> list[StoredEvent]:
        """The current state, or some keys of it, ready to render."""
        read = self._db.point if keys is not None and len(keys) < 50 else self._db.read
        return await read(_clients_current, room_id, keys)

    async def at_event(self, event_id: str, keys: Sequence[StateKey] | None = None) -> dict[StateKey, Event] | None:
        """The state after an event, whole or at some keys; None when it is not known."""
        return await self._db.read(_at_event, event_id, keys)

    async def clients_at_event(self, event_id: str, keys: Sequence[StateKey] | None = None) -> list[StoredEvent] | None:
        """The same, ready to render."""
        return await self._db.read(_clients_at_event, event_id, keys)

    async def members(self, room_id: str, kinds: Sequence[int] = (membership.JOIN,)) -> dict[str, Membership]:
        """User id -> membership, of everybody with one of these kinds."""
        return await self._db.read(_members, room_id, kinds)

    async def membership_of(self, user_id: str, room_id: str) -> Membership | None:
        """The user's membership of the room, if there ever was one."""
        return await self._db.point(_membership_of, user_id, room_id)


def _current(txn: Txn, room_id: str, keys: Sequence[StateKey] | None) -> dict[StateKey, Event]:
    room = names.room_nid(txn, room_id)
    if room is None:
        return {}
    nids = state.current_all(txn, room) if keys is None else state.current(txn, room, keys)
    loaded = events.load(txn, nids.values())
    return {key: loaded[nid] for key, nid in nids.items()}


def _clients_current(txn: Txn, room_id: str, keys: Sequence[StateKey] | None) -> list[StoredEvent]:
    room = names.room_nid(txn, room_id)
    return [] if room is None else state.current_events(txn, room, keys)


def _nids_at(txn: Txn, event_id: str, keys: Sequence[StateKey] | None) -> list[int] | None:
    nid = events.nid_of(txn, event_id)
    place = None if nid is None else events.places(txn, [nid]).get(nid)
    if nid is None or place is None or place.state is None:
        return None
    at: Mapping[StateKey, int] = state.at(txn, place.room, place.state, keys)
    if place.skey is not None and not place.flags & (events.REJECTED | events.OUTLIER):
        key = names.skey(txn, place.skey)
        if keys is None or key in keys:
            at = {**at, key: nid}
    return list(at.values())


def _at_event(txn: Txn, event_id: str, keys: Sequence[StateKey] | None) -> dict[StateKey, Event] | None:
    nids = _nids_at(txn, event_id, keys)
    if nids is None:
        return None
    return {event.key: event for event in events.load(txn, nids).values() if event.key is not None}


def _clients_at_event(txn: Txn, event_id: str, keys: Sequence[StateKey] | None) -> list[StoredEvent] | None:
    nids = _nids_at(txn, event_id, keys)
    return None if nids is None else list(events.by_nids(txn, nids).values())


def _members(txn: Txn, room_id: str, kinds: Sequence[int]) -> dict[str, Membership]:
    room = names.room_nid(txn, room_id)
    if room is None:
        return {}
    rows = membership.of_room(txn, room, kinds)
    ids = names.user_ids(txn, (row.usr for row in rows))
    return {ids[row.usr]: row for row in rows}


def _membership_of(txn: Txn, user_id: str, room_id: str) -> Membership | None:
    room, usr = names.room_nid(txn, room_id), names.user_nid(txn, user_id)
    return None if room is None or usr is None else membership.of(txn, usr, room)
