# SPDX-License-Identifier: Apache-2.0
"""The one write by which events get into a room: events, heads, state, memberships, relations, transaction ids, unread.

Everything is decided before: the caller holds the room's lock, knows its row from its snapshot, and describes what
happens as an `Append`. Where a value may be an event of the same append its number is -1-i for the event number i.

Announces, per event in the timeline, ``event`` (room); per change of the current state ``state`` (room) and, for
members, ``membership`` (room and user).
"""

from collections.abc import Collection, Mapping, Sequence

import attrs

from storage import events, gaps, membership, names, relations, rooms, state, txns, unread
from storage.events import NewEvent
from storage.rooms import Head
from storage.state import StateKey
from storage.state_tree import StateTree
from storage.txn import Change, Txn

LIVE = "live"
MEMBER = "m.room.member"


@attrs.frozen(slots=True)
class Relating:
    """What an event relates to: the parent's number when it is here, its packed id in any case."""

    kind: int
    parent: int | None
    parent_id: bytes


@attrs.frozen(slots=True)
class Redacting:
    """An event (`nid`) that becomes its redacted form; `relation` is what it related to."""

    nid: int
    pdu: bytes
    span: tuple[int, int]
    ord: int | None
    relation: tuple[int, int] | None = None
    """(parent, kind)"""


@attrs.frozen(slots=True)
class Item:
    """One event of an append.

    `place` is LIVE, an explicit `ord` (backfill), or None for events in no timeline. The state before it is that of
    tree address `base` with `fixes` laid over; with base None it is the state after the item before (or, for the first,
    the current state). `state_known` False: an outlier. `visible` is what changes in the room's current state by it.
    """

    new: NewEvent
    place: str | int | None = LIVE
    base: int | None = None
    fixes: Mapping[StateKey, int | None] = attrs.field(factory=dict)
    state_known: bool = True
    visible: Mapping[StateKey, int | None] = attrs.field(factory=dict)
    becomes_current: bool = True
    """The state after it is the room's current state, as an address too."""
    relating: Relating | None = None
    redacting: Redacting | None = None
    settles: bool = False
    """Others may have related to it before it came."""
    reveals: Sequence[int] = ()
    """Redactions of this event that came before it and were hidden till now."""
    existing: int | None = None
    """The number of an outlier that gets its place in the room now."""
    txn: tuple[int, bytes] | None = None
    exceptions: Sequence[tuple[int, int, int]] = ()


@attrs.frozen(slots=True)
class MemberRow:
    """A membership that does not follow from the current state: an invite or knock from elsewhere."""

    user_id: str
    kind: int
    event: int
    stripped: bytes | None = None


@attrs.frozen(slots=True)
class Append:
    """`room` is the number, or (id, version) of a room to be made. `kept_heads` are those no item cites."""

    room: int | tuple[str, str]
    items: Sequence[Item]
    state: int
    next_row: int
    kept_heads: Sequence[Head]
    now_s: int
    server_name: str
    kinds: Mapping[int, int] = attrs.field(factory=dict)
    """Kinds of membership of older events that `visible` names."""
    members: Sequence[MemberRow] = ()
    advances: bool = True
    """The last item becomes a head."""
    replaces: Sequence[int] = ()
    """Events that were noted without their auth events, and are stored anew."""
    missing: Collection[str] = ()
    """What the last item cites that is not here: a gap in the history."""
    stripped: Mapping[str, bytes] = attrs.field(factory=dict)
    """What local users that are invited (or knock) by these events may see of the room."""


@attrs.frozen(slots=True)
class Appended:
    """What came of it. `roots` are the addresses of the state after each item (None where unknown)."""

    room: int
    nids: Sequence[int]
    roots: Sequence[int | None]
    state: int
    next_row: int
    heads: tuple[Head, ...]


def append(txn: Txn, plan: Append) -> Appended:
    """Stores what the plan says. Raises `Duplicate` when a transaction id or an event id is there already."""
    for nid in plan.replaces:
        events.remove(txn, nid)
    positions = [txn.position() for _ in plan.items]
    nids = [at if item.existing is None else item.existing for item, at in zip(plan.items, positions, strict=True)]
    for item, nid in zip(plan.items, nids, strict=True):
        if item.txn is not None:
            txns.record(txn, item.txn[0], item.txn[1], nid, plan.now_s)
    room = plan.room if isinstance(plan.room, int) else rooms.create(txn, *plan.room)
    tree = StateTree(txn, room, plan.next_row)
    current, last, head = plan.state, 0, 0
    before: int = plan.state
    roots: list[int | None] = []
    changed: dict[int, int | None] = {}
    for item, nid, at in zip(plan.items, nids, positions, strict=True):
        root = _root_before(txn, tree, item, before, nids)
        ord_ = at << events.ORD_SHIFT if item.place == LIVE else item.place
        assert not isinstance(ord_, str)
        known = root if item.state_known else None
        if item.existing is None:
            events.insert(txn, room, item.new, nid, ord_, known, nids)
        else:
            events.promote(txn, nid, ord_, known, item.new.thread, item.new.flags)
        after = _root_after(txn, tree, item, root, nid)
        roots.append(after if item.state_known else None)
        if item.place == LIVE:
            before, last, head = after, at, nid
            txn.announce(Change(at, "event", room))
        if item.visible:
            visible = _numbered(txn, item.visible, nids)
            state.log(txn, room, at, visible)
            changed.update(visible)
            current = after if item.becomes_current else tree.update(current, visible)
            _members(txn, plan, room, at, item, nids)
        _consequences(txn, room, item, nid, ord_, nids)
    if changed:
        state.set_current(txn, room, changed)
    for row in plan.members:
        _member_row(txn, plan, room, row, nids)
    if plan.missing and last:
        gaps.open_below(txn, room, head, last, plan.missing)
    heads = tuple(plan.kept_heads)
    if plan.advances and last:
        heads = (*heads, Head(head, before))
    _store_room(txn, plan, room, tree, last, current, heads)
    return Appended(room, nids, roots, current, tree.next_row, heads)


def _store_room(
    txn: Txn, plan: Append, room: int, tree: StateTree, last: int, current: int, heads: tuple[Head, ...]
) -> None:
    rows = tree.flush()
    if rows:
        state.add_rows(txn, room, rows)
    if last:
        rooms.advance(txn, room, last=last, state=current, next_row=tree.next_row, heads=heads)
    elif rows or current != plan.state:
        rooms.keep_state(txn, room, current, tree.next_row)


def _root_before(txn: Txn, tree: StateTree, item: Item, before: int, nids: Sequence[int]) -> int:
    root = before if item.base is None else item.base
    return tree.update(root, _numbered(txn, item.fixes, nids)) if item.fixes else root


def _root_after(txn: Txn, tree: StateTree, item: Item, root: int, nid: int) -> int:
    event = item.new.event
    if event.state_key is None or not item.state_known or item.new.flags & events.REJECTED:
        return root
    return tree.update(root, {names.intern_skey(txn, event.type, event.state_key): nid})


def _numbered(txn: Txn, changes: Mapping[StateKey, int | None], nids: Sequence[int]) -> dict[int, int | None]:
    return {
        names.intern_skey(txn, *key): nids[-1 - event] if event is not None and event < 0 else event
        for key, event in changes.items()
    }


def _members(txn: Txn, plan: Append, room: int, position: int, item: Item, nids: Sequence[int]) -> None:
    """Rows of the members among what became visible."""
    for (event_type, user_id), event in item.visible.items():
        if event_type != MEMBER or event is None:
            continue
        if event < 0:
            content = plan.items[-1 - event].new.event.content
            kind, nid = membership.KINDS.get(content.get("membership", ""), membership.LEAVE), nids[-1 - event]
        else:
            kind, nid = plan.kinds[event], event
        local = user_id.endswith(":" + plan.server_name)
        usr = names.intern_user(txn, user_id, local)
        membership.put(txn, usr, room, kind, nid, position)
        if local and kind in (membership.LEAVE, membership.BAN):
            unread.left(txn, usr, room)
        if user_id in plan.stripped:
            membership.put_stripped(txn, usr, room, plan.stripped[user_id])
        txn.announce(Change(position, "membership", room, usr))
    txn.announce(Change(position, "state", room))


def _member_row(txn: Txn, plan: Append, room: int, row: MemberRow, nids: Sequence[int]) -> None:
    usr = names.intern_user(txn, row.user_id, row.user_id.endswith(":" + plan.server_name))
    nid = nids[-1 - row.event] if row.event < 0 else row.event
    membership.put(txn, usr, room, row.kind, nid, nid)
    if row.stripped is not None:
        membership.put_stripped(txn, usr, room, row.stripped)
    txn.announce(Change(nids[-1] if nids else nid, "membership", room, usr))


def _consequences(txn: Txn, room: int, item: Item, nid: int, ord_: int | None, nids: Sequence[int]) -> None:
    """Relations, redaction and unread exceptions of one event."""
    relating, redacting = item.relating, item.redacting
    if relating is not None:
        if relating.parent is None:
            relations.wait(txn, relating.parent_id, relating.kind, nid)
        else:
            parent = nids[-1 - relating.parent] if relating.parent < 0 else relating.parent
            relations.add(txn, parent, relating.kind, nid)
    if redacting is not None:
        redact(txn, room, redacting)
    for redaction in item.reveals:
        events.set_flags(txn, redaction, remove=events.HIDDEN)
    if item.settles:
        relations.settle(txn, item.new.raw_id, nid)
    if item.exceptions and ord_ is not None:
        unread.record(txn, room, ord_, item.new.thread, item.exceptions)


def redact(txn: Txn, room: int, redacting: Redacting) -> None:
    """Puts the redacted form in an event's place; it counts and relates no more."""
    events.replace_with_redacted(txn, redacting.nid, redacting.pdu, redacting.span)
    if redacting.relation is not None:
        relations.drop(txn, *redacting.relation, redacting.nid)
    if redacting.ord is not None:
        unread.redacted(txn, room, redacting.ord)
