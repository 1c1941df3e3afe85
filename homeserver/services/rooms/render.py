# SPDX-License-Identifier: Apache-2.0
"""What a stored event looks like to a client: the content spliced in as it is stored, and everything under `unsigned`.

`Renderer.client_events` is for pages that show events outside of sync; `decorated` renders within a read transaction,
for sync.

https://spec.matrix.org/v1.19/client-server-api/#room-event-format
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.ignoring import IGNORED_USERS, ignored_users
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.bundles import Bundles, bundles_of
from homeserver.services.rooms.transactions import Transactions
from storage import account_data, events, names, relations
from storage.events import REDACTED, Place, StoredEvent
from storage.membership import JOIN, Membership
from storage.membership import of as membership_of
from storage.state_tree import StateTree
from storage.txn import Txn

MEMBER = "m.room.member"
REDACTION = "m.room.redaction"
EVERYTHING = 2**62
NOBODY = User("", 0, None, 0)


@attrs.frozen(slots=True)
class Details:
    """What rendering events needs beside themselves, by nid."""

    bundles: Mapping[int, Bundles]
    redacts: Mapping[int, str]
    because: Mapping[int, StoredEvent]
    extras: Mapping[int, StoredEvent]
    """Edits and the last events of threads, that bundles name."""
    replaced: Mapping[int, StoredEvent]
    memberships: Mapping[int, str]
    hides: frozenset[int] = frozenset()
    """State events whose predecessor's content stays hidden."""


class Renderer:
    """Renders stored events for one who asks."""

    def __init__(self, db: Database, transactions: Transactions, now_ms: Callable[[], int]) -> None:
        self._db = db
        self._transactions = transactions
        self._now_ms = now_ms

    async def client_events(
        self, found: Sequence[StoredEvent], user: User, *, bundle: bool = True, up_to: int | None = None
    ) -> list[dict[str, Any]]:
        """Client events in the order given, with room ids. Nothing is bundled that came after event number `up_to`."""
        if not found:
            return []
        read = self._db.point if len(found) < 20 else self._db.read
        details, rooms = await read(_gather, found, user, bundle, EVERYTHING if up_to is None else up_to)
        now = self._now_ms()
        return [self._event(event, user, details, now, rooms[event.room]) for event in found]

    def decorated(
        self, txn: Txn, found: Sequence[StoredEvent], user: User, ignored: frozenset[str]
    ) -> list[dict[str, Any]]:
        """The same within a read transaction, without room ids, memberships and predecessors: sync adds its own."""
        details = _details(txn, found, user, ignored, EVERYTHING)
        now = self._now_ms()
        return [self._event(event, user, details, now, None) for event in found]

    def for_services(self, txn: Txn, found: Sequence[StoredEvent]) -> list[dict[str, Any]]:
        """The same for application services: with room ids and predecessors, and nothing that is one user's."""
        details = attrs.evolve(
            _details(txn, found, NOBODY, frozenset(), 0),
            replaced=_predecessors(txn, found, events.places(txn, [event.nid for event in found])),
        )
        now = self._now_ms()
        rooms = {room: names.room_id(txn, room) for room in {event.room for event in found}}
        return [self._event(event, NOBODY, details, now, rooms[event.room]) for event in found]

    def _event(self, event: StoredEvent, user: User, details: Details, now: int, room_id: str | None) -> dict[str, Any]:
        shown = self._bare(event, details, room_id)
        unsigned: dict[str, Any] = {"age": now - event.ts}
        if event.sender == user.user_id:
            echo = self._transactions.transaction_id(event.event_id, user.device)
            if echo is not None:
                unsigned["transaction_id"] = echo
        if event.nid in details.memberships:
            unsigned["membership"] = details.memberships[event.nid]
        before = details.replaced.get(event.nid)
        if before is not None:
            unsigned["replaces_state"] = before.event_id
            if event.nid not in details.hides:
                unsigned["prev_content"] = orjson.Fragment(before.content)
        because = details.because.get(event.nid)
        if because is not None:
            unsigned["redacted_because"] = self._bare(because, details, room_id)
        bundle = details.bundles.get(event.nid)
        if bundle is not None:
            unsigned["m.relations"] = self._relations(bundle, user, details, now, room_id)
        shown["unsigned"] = unsigned
        return shown

    def _bare(self, event: StoredEvent, details: Details, room_id: str | None) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "content": orjson.Fragment(event.content),
            "event_id": event.event_id,
            "origin_server_ts": event.ts,
            "sender": event.sender,
            "type": event.type,
        }
        if room_id is not None:
            shown["room_id"] = room_id
        if event.state_key is not None:
            shown["state_key"] = event.state_key
        target = details.redacts.get(event.nid)
        if target is not None:
            # For room versions 1 to 10 also in the content, from 11 on also at the top level: old and new clients.
            shown["redacts"] = target
            shown["content"] = {**orjson.loads(event.content), "redacts": target}
        return shown

    def _relations(
        self, bundle: Bundles, user: User, details: Details, now: int, room_id: str | None
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        if bundle.edit is not None:
            shown["m.replace"] = self._event(details.extras[bundle.edit], user, details, now, room_id)
        if bundle.thread is not None:
            shown["m.thread"] = {
                "latest_event": self._event(details.extras[bundle.thread.latest], user, details, now, room_id),
                "count": bundle.thread.length,
                "current_user_participated": bundle.thread.participated,
            }
        if bundle.references:
            shown["m.reference"] = {"chunk": [{"event_id": one} for one in bundle.references]}
        return shown


# ---- in one read transaction ----


def _gather(
    txn: Txn, found: Sequence[StoredEvent], user: User, bundle: bool, up_to: int
) -> tuple[Details, dict[int, str]]:
    raw = account_data.get(txn, user.usr, 0, IGNORED_USERS)
    ignored = ignored_users(orjson.loads(raw)) if raw is not None else frozenset()
    details = _details(txn, found, user, ignored - {user.user_id}, up_to if bundle else 0)
    places = events.places(txn, [event.nid for event in found])
    replaced, hides = _replaced(txn, found, places, user)
    memberships = _memberships(txn, found, places, user)
    rooms = {room: names.room_id(txn, room) for room in {event.room for event in found}}
    return attrs.evolve(details, replaced=replaced, hides=hides, memberships=memberships), rooms


def _details(txn: Txn, found: Sequence[StoredEvent], user: User, ignored: frozenset[str], up_to: int) -> Details:
    bundles, extras = bundles_of(txn, found, user.user_id, ignored, up_to) if up_to else ({}, {})
    shown = [*found, *extras.values()]
    because = _redacted_because(txn, [event.nid for event in shown if event.flags & REDACTED])
    redactions = [event for event in (*shown, *because.values()) if event.type == REDACTION]
    return Details(bundles, _redacts(txn, redactions), because, extras, {}, {})


def _redacts(txn: Txn, redactions: Sequence[StoredEvent]) -> dict[int, str]:
    """What redactions redact. Those of older rooms have it in the envelope."""
    found = {event.nid: orjson.loads(event.content).get("redacts") for event in redactions}
    unknown = [nid for nid, target in found.items() if not isinstance(target, str)]
    for nid, event in events.load(txn, unknown).items():
        found[nid] = event.redacts
    return {nid: target for nid, target in found.items() if isinstance(target, str)}


def _redacted_because(txn: Txn, nids: Sequence[int]) -> dict[int, StoredEvent]:
    """The first redaction that was applied to each."""
    if not nids:
        return {}
    by_target = relations.children(txn, nids, (relations.REDACTION,))
    stored = events.by_nids(txn, [child for children in by_target.values() for _, child in children])
    found: dict[int, StoredEvent] = {}
    for nid, children in by_target.items():
        shown = [stored[child] for _, child in children if child in stored and not stored[child].flags & events.HIDDEN]
        if shown:
            found[nid] = shown[0]
    return found


def _predecessors(txn: Txn, found: Sequence[StoredEvent], places: Mapping[int, Place]) -> dict[int, StoredEvent]:
    """What each state event took the place of."""
    before: dict[int, int] = {}
    trees = {room: StateTree(txn, room) for room in {event.room for event in found}}
    for event in found:
        place = places.get(event.nid)
        if place is not None and place.skey is not None and place.state:
            nid = trees[event.room].get(place.state, place.skey)
            if nid is not None and nid != event.nid:
                before[event.nid] = nid
    stored = events.by_nids(txn, set(before.values())) if before else {}
    return {nid: stored[one] for nid, one in before.items() if one in stored}


def _replaced(
    txn: Txn, found: Sequence[StoredEvent], places: Mapping[int, Place], user: User
) -> tuple[dict[int, StoredEvent], frozenset[int]]:
    """What each state event took the place of, and where that content is not for the user: from before their join."""
    before = _predecessors(txn, found, places)
    if not before:
        return {}, frozenset()
    oldest = min(event.nid for event in found)
    rooms = {event.room for event in found}
    standing: dict[int, Membership | None] = {room: membership_of(txn, user.usr, room) for room in rooms}
    hides = set()
    for event in found:
        own = standing[event.room]
        since = own.since if own is not None and own.kind == JOIN else oldest
        if event.nid in before and before[event.nid].nid < min(since, oldest):
            hides.add(event.nid)
    return before, frozenset(hides)


def _memberships(txn: Txn, found: Sequence[StoredEvent], places: Mapping[int, Place], user: User) -> dict[int, str]:
    """ "membership: The room membership of the user making the request, at the time of the event." """
    key = names.skey_nid(txn, MEMBER, user.user_id)
    trees = {room: StateTree(txn, room) for room in {event.room for event in found}}
    at: dict[int, int | None] = {}
    for event in found:
        place = places.get(event.nid)
        if place is None or place.state is None:
            continue
        own = key is not None and place.skey == key
        at[event.nid] = event.nid if own else (trees[event.room].get(place.state, key) if key is not None else None)
    contents = events.by_nids(txn, {nid for nid in at.values() if nid is not None})
    found_memberships = {}
    for nid, member in at.items():
        value = None if member is None else orjson.loads(contents[member].content).get("membership")
        found_memberships[nid] = value if isinstance(value, str) else "leave"
    return found_memberships
