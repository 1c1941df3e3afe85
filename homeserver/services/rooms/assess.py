# SPDX-License-Identifier: Apache-2.0
"""What is to be done with an event from another server: checks 4 to 6 on receiving it, and what it changes in its room.

https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu

All of it happens in one read transaction under the room's lock; the outcome is written by `services.rooms.receive`.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

import attrs

from homeserver.protocol.auth_rules import authorize, check_auth_events
from homeserver.protocol.auth_selection import POWER_LEVELS, deciding_keys
from homeserver.protocol.errors import MissingEvents, Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.redaction import applies
from homeserver.services.rooms.resolve import NEW, NewState, States, View
from homeserver.services.rooms.targets import Link, Target, find_link, find_target
from storage import events, membership, names, relations, rooms
from storage.events import Place
from storage.rooms import RoomRow
from storage.txn import Txn

CREATE = ("m.room.create", "")
MEMBER = "m.room.member"


class Verdict(Enum):
    """What became of an event."""

    ACCEPTED = "accepted"
    SOFT_FAILED = "soft failed"
    REJECTED = "rejected"
    KNOWN = "known"


@attrs.frozen(slots=True)
class Redaction:
    """A redaction that waited for the event that now comes: its number, and whether it may be applied."""

    nid: int
    allowed: bool


@attrs.frozen(slots=True)
class Assessment:
    """What the write needs to know. `visible` is what changes in the room's current state; NEW is the event itself."""

    verdict: Verdict
    room: RoomRow
    reason: str = ""
    existing: int | None = None
    """The number under which the event is stored already, as an outlier."""
    replaces: tuple[int, ...] = ()
    """The number under which it was noted without its auth events, and which goes."""
    auth: tuple[int, ...] = ()
    before: View = View(0)
    becomes_current: bool = False
    visible: Mapping[StateKey, int | None] = attrs.field(factory=dict)
    kinds: Mapping[int, int] = attrs.field(factory=dict)
    cited_heads: frozenset[int] = frozenset()
    missing: frozenset[str] = frozenset()
    """What it cites that is not here, when the state before it was given."""
    link: Link | None = None
    target: Target | None = None
    applies: bool = False
    waiting: Sequence[Redaction] = ()
    levels: PowerLevels | None = None


def assess(
    txn: Txn,
    room_id: str,
    event: Event,
    given: Mapping[StateKey, str] | None,
    fresh: bool = False,
    past: bool = False,
) -> Assessment:
    """Checks 4, 5 and 6. Raises `MissingEvents` for auth events and prevs that are not stored.

    `given` is the state before the event as another server tells it, for events whose prevs are not here; all its
    events must be stored. `fresh`: what is known of the room is from an earlier stay and counts no more. `past`: the
    event is of the room's history, and changes nothing of what is now.
    """
    nid = names.room_nid(txn, room_id)
    row = None if nid is None else rooms.get(txn, nid)
    if row is None:
        raise LookupError(f"{room_id} is not a room of this server")
    if fresh:
        row = attrs.evolve(row, heads=())
    stored = events.load_by_ids(txn, [event.event_id, *event.auth_event_ids])
    known = stored.pop(event.event_id, None)
    existing = None if known is None else known[0]
    replaces: tuple[int, ...] = ()
    if existing is not None:
        place = events.places(txn, [existing])[existing]
        if not place.flags & events.OUTLIER:
            return Assessment(Verdict.KNOWN, row, existing=existing)
        if events.is_noted(place, event):
            replaces, existing = (existing,), None
    missing = {one for one in event.auth_event_ids if one not in stored}
    if missing:
        raise MissingEvents(frozenset(missing))
    auth = tuple(stored[one][0] for one in event.auth_event_ids)
    states = States(txn, row.nid, event.version, NewState(event, auth))
    before, cited = _before(txn, row, event, states, given)
    base = Assessment(Verdict.REJECTED, row, existing=existing, replaces=replaces, auth=auth, before=before)
    if given is not None:
        base = attrs.evolve(base, missing=_not_here(txn, event.prev_event_ids))
    try:
        _check_against_auth(txn, event, stored, states, before)
        _check_against(event, states, before)
    except Rejected as refused:
        return attrs.evolve(base, reason=refused.reason)
    base = _pointing(txn, base, event, states)
    if past:
        return attrs.evolve(base, verdict=Verdict.ACCEPTED)
    try:
        # "6. Passes authorization rules based on the current state of the room, otherwise it is soft failed."
        if row.heads:  # else this event is how this server comes into the room
            _check_against(event, states, View(row.state))
    except Rejected as refused:
        return attrs.evolve(base, verdict=Verdict.SOFT_FAILED, reason=refused.reason)
    return _accepted(txn, base, event, states, cited)


def _before(
    txn: Txn, row: RoomRow, event: Event, states: States, given: Mapping[StateKey, str] | None
) -> tuple[View, frozenset[int]]:
    """The state before the event, and which heads it cites."""
    heads = {head.event: head.state_after for head in row.heads}
    if given is not None:
        found = events.load_by_ids(txn, given.values())
        missing = set(given.values()) - found.keys()
        if missing:
            raise MissingEvents(frozenset(missing))
        wanted = {key: found[event_id][0] for key, event_id in given.items()}
        current = View(row.state)
        over: dict[StateKey, int | None] = {k: n for k, n in wanted.items() if states.get(current, k) != n}
        return View(row.state, over | _removed(txn, states, row, wanted)), _heads_cited(txn, event, heads)
    prevs = {}
    for prev in event.prev_event_ids:
        nid = events.nid_of(txn, prev)
        if nid is not None:
            prevs[prev] = nid
    places = events.places(txn, prevs.values())
    missing = {one for one in event.prev_event_ids if one not in prevs or places[prevs[one]].state is None}
    if missing:
        raise MissingEvents(frozenset(missing))
    views = [_after(txn, nid, places[nid], heads) for nid in prevs.values()]
    return states.settle(views) if views else View(0), frozenset(heads.keys() & set(prevs.values()))


def _not_here(txn: Txn, event_ids: Sequence[str]) -> frozenset[str]:
    """Those of the events that have no place in the room."""
    loaded = events.load_by_ids(txn, event_ids)
    places = events.places(txn, [nid for nid, _ in loaded.values()])
    here = {one for one, (nid, _) in loaded.items() if places[nid].state is not None}
    return frozenset(event_ids) - here


def _removed(txn: Txn, states: States, row: RoomRow, wanted: Mapping[StateKey, int]) -> dict[StateKey, int | None]:
    """Keys of the current state that the given state does not have."""
    current = states.difference(View(row.state), View(0))
    return {key: None for key in current if key not in wanted}


def _heads_cited(txn: Txn, event: Event, heads: Mapping[int, int]) -> frozenset[int]:
    nids = (events.nid_of(txn, prev) for prev in event.prev_event_ids)
    return frozenset(nid for nid in nids if nid is not None and nid in heads)


def _after(txn: Txn, nid: int, place: Place, heads: Mapping[int, int]) -> View:
    """The state after a stored event. Its address is stored for heads only; for others it is one key more."""
    if nid in heads:
        return View(heads[nid])
    assert place.state is not None
    if place.skey is None or place.flags & events.REJECTED:
        return View(place.state)
    return View(place.state, {names.skey(txn, place.skey): nid})


def _check_against_auth(
    txn: Txn, event: Event, stored: Mapping[str, tuple[int, Event]], states: States, before: View
) -> None:
    """ "4. Passes authorization rules based on the event's auth events, otherwise it is rejected." """
    auth = [stored[one][1] for one in event.auth_event_ids]
    flags = events.places(txn, [nid for nid, _ in stored.values()])
    rejected = {one.event_id for nid, one in stored.values() if flags[nid].flags & events.REJECTED}
    check_auth_events(event.version, event, auth, rejected)
    state = {one.key: one for one in auth if one.key is not None}
    if not event.version.create_in_auth_events:
        state |= states.events_at(before, [CREATE])
    authorize(event.version, event, state)


def _check_against(event: Event, states: States, view: View) -> None:
    """ "5. Passes authorization rules based on the state before the event, otherwise it is rejected." """
    authorize(event.version, event, states.events_at(view, deciding_keys(event)))


def _accepted(txn: Txn, base: Assessment, event: Event, states: States, cited: frozenset[int]) -> Assessment:
    """What the event changes: the room's state is what its heads, the event now among them, agree on."""
    row = base.room
    own = {event.key: NEW} if event.key is not None else {}
    after = View(base.before.root, {**base.before.over, **own})
    others = [View(head.state_after) for head in row.heads if head.event not in cited]
    result = states.settle([after, *others]) if others else after
    visible = {key: pair[1] for key, pair in states.difference(View(row.state), result).items()}
    kinds = {}
    for (event_type, _), nid in visible.items():
        if event_type == MEMBER and nid is not None and nid != NEW:
            value = states.event(nid).content.get("membership")
            kinds[nid] = membership.KINDS.get(value if isinstance(value, str) else "", membership.LEAVE)
    return attrs.evolve(
        base,
        verdict=Verdict.ACCEPTED,
        becomes_current=not others,
        visible=visible,
        kinds=kinds,
        cited_heads=cited,
    )


def _pointing(txn: Txn, base: Assessment, event: Event, states: States) -> Assessment:
    """With the relation, the redaction's target, and the redactions that waited for this event."""
    found = states.events_at(base.before, [CREATE, POWER_LEVELS])
    levels = PowerLevels.of(event.version, found.get(CREATE), found.get(POWER_LEVELS))
    raw = events.pack_id(event.event_id)
    children = [child for child, kind in relations.waiting(txn, [raw]).get(raw, ()) if kind == relations.REDACTION]
    redactions = events.load(txn, children)
    waiting = [Redaction(nid, _may_redact(levels, one, event)) for nid, one in redactions.items()]
    if event.redacts is None:
        link = find_link(txn, base.room.nid, event.content)
        return attrs.evolve(base, levels=levels, waiting=waiting, link=link)
    target = find_target(txn, base.room.nid, event.redacts)
    allowed = target is not None and _may_redact(levels, event, target.event)
    return attrs.evolve(base, levels=levels, waiting=waiting, target=target, applies=allowed)


def _may_redact(levels: PowerLevels, redaction: Event, original: Event) -> bool:
    if original.type == "m.room.create":
        return False
    if redaction.version.redaction_is_auth_rule:
        return True
    try:
        return applies(levels.user(redaction.sender), levels.redact, redaction.sender, original.sender)
    except Rejected:
        return False
