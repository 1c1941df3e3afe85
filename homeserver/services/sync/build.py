# SPDX-License-Identifier: Apache-2.0
"""Knows how a whole answer to `/sync` is put together, as a function of the database and a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.filters import EventFilter
from homeserver.protocol.ignoring import InviteAnswer, InvitePolicy
from homeserver.services.sync.plan import Plan, RoomAsk
from homeserver.services.sync.rooms import Parts, Section, render_entry, room_sections, says_something
from storage import account_data, device_lists, names, to_device
from storage.account_data import Entry
from storage.membership import BAN, INVITE, JOIN, KNOCK, LEAVE
from storage.sync_reads import (
    EventRow,
    Membership,
    changed_rooms,
    events,
    last_change,
    membership_of,
    memberships,
    rooms_read_by,
    stripped_states,
)
from storage.txn import Txn

ROOMS_AT_ONCE = 200
ROOMS_ENCODED_LATER = 20
ACCOUNT = 0


@attrs.frozen(slots=True)
class Built:
    """An answer without token, presence and key counts.

    `to_device` is the position that acknowledges its messages; `neighbors` are users who may be new to the client.
    """

    body: dict[str, Any]
    to_device: int
    neighbors: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        return not self.body


def build(txn: Txn, plan: Plan, parts: Parts) -> Built:
    """Everything that the database has for the plan."""
    body: dict[str, Any] = {}
    entries = _account_data(txn, plan)
    rooms = _rooms(txn, plan, parts, entries)
    if rooms:
        # A long answer is encoded here, on the reader's thread, and not later on the reactor.
        many = sum(map(len, rooms.values())) > ROOMS_ENCODED_LATER
        body["rooms"] = orjson.Fragment(orjson.dumps(rooms)) if many else rooms
    chosen = plan.request.filter.account_data
    own = [render_entry(entry) for entry in entries.get(ACCOUNT, ()) if chosen.allows_type(entry.type)]
    if own and not chosen.passes_nothing:
        body["account_data"] = {"events": own}
    acknowledges = _to_device(txn, plan, body)
    return Built(body, acknowledges, _device_lists(txn, plan, body))


def _account_data(txn: Txn, plan: Plan) -> dict[int, list[Entry]]:
    """What changed of the account (0) and of rooms."""
    found: dict[int, list[Entry]] = {}
    if plan.own or plan.since is None:
        for entry in account_data.since(txn, plan.usr, plan.after, plan.upto.pos):
            found.setdefault(entry.room, []).append(entry)
    return found


def _to_device(txn: Txn, plan: Plan, body: dict[str, Any]) -> int:
    device = plan.request.user.device
    after = 0 if plan.since is None else plan.since.to_device_pos
    if not device or not (plan.own or plan.since is None or after != plan.after):
        return plan.upto.pos
    messages, acknowledges = to_device.for_sync(txn, device, after, plan.upto.pos)
    if messages:
        body["to_device"] = {"events": [orjson.Fragment(message) for message in messages]}
    return acknowledges


def _device_lists(txn: Txn, plan: Plan, body: dict[str, Any]) -> tuple[int, ...]:
    """Nothing for a client that starts: it asks for the keys of whom it talks to. Returns who changed or came near."""
    if plan.since is None or not plan.device_lists:
        return ()
    changed, left = device_lists.changed(txn, plan.usr, plan.after, plan.upto.pos)
    if changed or left:
        ids = names.user_ids(txn, [*changed, *left])
        body["device_lists"] = {"changed": [ids[usr] for usr in changed], "left": [ids[usr] for usr in left]}
    return tuple(changed)


# Rooms


def _rooms(txn: Txn, plan: Plan, parts: Parts, entries: Mapping[int, list[Entry]]) -> dict[str, dict[str, Any]]:
    standings = _standings(txn, plan)
    asks = [*_joined_asks(txn, plan, standings, entries), *_left_asks(txn, plan, standings)]
    sections: dict[str, dict[str, Any]] = {}
    for start in range(0, len(asks), ROOMS_AT_ONCE):
        part = asks[start : start + ROOMS_AT_ONCE]
        found = room_sections(txn, plan, part, parts, entries)
        for ask in part:
            section = found[ask.room_id]
            if ask.after is None or says_something(plan, section, ask):
                sections.setdefault("join" if ask.joined else "leave", {})[ask.room_id] = section
    for name, kind in (("invite", INVITE), ("knock", KNOCK)):
        previews = _previews(txn, plan, [one for one in standings.values() if one.kind == kind], name)
        if previews:
            sections[name] = previews
    return sections


def _standings(txn: Txn, plan: Plan) -> dict[int, Membership]:
    """How the user stands to every room that is new to the client; all rooms for one that starts."""
    if plan.since is None:
        found = memberships(txn, plan.usr)
    elif plan.memberships:
        found = memberships(txn, plan.usr, plan.after)
    else:
        found = []
    return {one.room: one for one in found}


def _joined_asks(
    txn: Txn, plan: Plan, standings: Mapping[int, Membership], entries: Mapping[int, list[Entry]]
) -> list[RoomAsk]:
    newly = {one.room: one for one in standings.values() if one.kind == JOIN}
    if plan.since is None:
        known: Mapping[int, Membership] = {}
    else:
        known = _known_rooms(txn, plan, entries, standings)
    asks = []
    for standing in [*newly.values(), *known.values()]:
        ask = _ask(txn, plan, standing, is_new=standing.room in newly)
        if ask is not None:
            asks.append(ask)
    return asks


def _known_rooms(
    txn: Txn, plan: Plan, entries: Mapping[int, list[Entry]], standings: Mapping[int, Membership]
) -> dict[int, Membership]:
    """The rooms that the user was joined to all the time, and where there is something to tell."""
    if plan.request.full_state:
        return {one.room: one for one in memberships(txn, plan.usr) if one.kind == JOIN and one.room not in standings}
    rooms = set(changed_rooms(txn, plan.usr, plan.after) if plan.rooms is None else plan.rooms)
    rooms |= plan.typing_changed | {room for room in entries if room != ACCOUNT}
    if plan.private_reads:
        rooms |= rooms_read_by(txn, plan.usr, plan.after)
    rooms.difference_update(standings)
    found = {room: plan.standings[room] for room in rooms if room in plan.standings}
    unknown = [room for room in rooms if room not in found]
    if unknown:
        found.update(membership_of(txn, plan.usr, unknown))
    return {room: one for room, one in found.items() if one.kind == JOIN}


def _ask(txn: Txn, plan: Plan, standing: Membership, is_new: bool) -> RoomAsk | None:
    room_id = names.room_id(txn, standing.room)
    if not plan.request.filter.room.allows_room(room_id):
        return None
    after = None if is_new else plan.after
    return RoomAsk(
        room=standing.room,
        room_id=room_id,
        standing=standing,
        after=after,
        upto=plan.upto.pos,
        full=is_new or plan.request.full_state,
        newly=is_new and plan.since is not None,
    )


def _left_asks(txn: Txn, plan: Plan, standings: Mapping[int, Membership]) -> list[RoomAsk]:
    """Rooms left since the last answer; all that were left for a client that starts or asks for the full state, if it
    wants them.
    """
    if plan.since is None and not plan.request.filter.room.include_leave:
        return []
    # Also a room that was left and forgotten meanwhile: the user's other clients still have to let it go.
    known = plan.since is not None
    left = [one for one in standings.values() if one.kind in (LEAVE, BAN) and (known or not one.forgotten)]
    if plan.since is not None and plan.request.full_state and plan.request.filter.room.include_leave:
        gone = [one for one in memberships(txn, plan.usr) if one.kind in (LEAVE, BAN) and not one.forgotten]
        left += [one for one in gone if one.room not in standings]
    leaving = events(txn, [one.event for one in left])
    asks = []
    for standing in left:
        room_id = names.room_id(txn, standing.room)
        row = leaving.get(standing.event)
        if not plan.request.filter.room.allows_room(room_id) or row is None:
            continue
        was_joined = plan.since is not None and _was_joined(txn, plan, standing)
        asks.append(
            RoomAsk(
                room=standing.room,
                room_id=room_id,
                standing=standing,
                after=plan.after if was_joined else None,
                upto=standing.since,
                full=not was_joined,
                joined=False,
            )
        )
    return asks


def _was_joined(txn: Txn, plan: Plan, standing: Membership) -> bool:
    """Whether the user was joined to the room at the client's last position."""
    key = names.skey_nid(txn, "m.room.member", plan.request.user.user_id)
    before = None if key is None else last_change(txn, standing.room, key, plan.after)
    row = None if before is None else events(txn, [before]).get(before)
    return row is not None and orjson.loads(row.event.content).get("membership") == "join"


def _previews(txn: Txn, plan: Plan, standings: Sequence[Membership], name: str) -> dict[str, Section]:
    """What an invited or knocking user may see of rooms. Invites of ignored and unwelcome users are left out."""
    if not standings:
        return {}
    chosen = plan.request.filter.room
    by = events(txn, [one.event for one in standings])
    stripped = stripped_states(txn, plan.usr, [one.room for one in standings])
    found = {}
    for standing in standings:
        room_id = names.room_id(txn, standing.room)
        row = by.get(standing.event)
        if not chosen.allows_room(room_id) or (
            name == "invite" and row is not None and is_unwelcome(row.event.sender, plan.ignored, plan.invites)
        ):
            continue
        state = orjson.loads(stripped.get(standing.room, b"[]"))
        if row is not None:
            state = with_membership(state, row)
        found[room_id] = {f"{name}_state": {"events": state}}
    return found


def is_unwelcome(inviter: str, ignored: frozenset[str], invites: InvitePolicy) -> bool:
    """ "Invite events [...] MUST NOT be served over client synchronisation endpoints" where they are blocked."""
    return inviter in ignored or invites.answer(inviter) is not InviteAnswer.ALLOW


def with_membership(state: list[dict[str, Any]], row: EventRow) -> list[dict[str, Any]]:
    """Stripped state with the membership event of the one it is for, which may be newer than what came with it."""
    event = row.event
    others = [one for one in state if (one.get("type"), one.get("state_key")) != (event.type, event.state_key)]
    member = {
        "type": event.type,
        "state_key": event.state_key,
        "sender": event.sender,
        "content": orjson.Fragment(event.content),
    }
    return [*others, member]


def is_wanted(chosen: EventFilter, event_type: str, sender: str) -> bool:
    """Whether something that is no event of a room passes a filter."""
    return not chosen.passes_nothing and chosen.allows_type(event_type) and chosen.allows_sender(sender)
