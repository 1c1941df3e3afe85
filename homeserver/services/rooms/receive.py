# SPDX-License-Identifier: Apache-2.0
"""How events of other servers get into a room: assessed by the rules, then the same append and the same wake-up as
local ones.

The caller (federation) has done checks 1 to 3 (format, signatures, hash), holds the room's lock, and fetches what
`MissingEvents` names. `receive` is for events whose prevs are here, or for one whose state before it was fetched;
`store_outliers` for auth events; `adopt` for a room that a local user joins elsewhere; `note_membership` for
invites and knocks to rooms that this server is not in.
"""

from collections.abc import Container, Mapping, Sequence

import attrs

from homeserver.protocol.auth_rules import authorize, check_auth_events
from homeserver.protocol.errors import MissingEvents, Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.room_versions import RoomVersion
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.rooms.assess import Assessment, Verdict, assess
from homeserver.services.rooms.locks import Held
from homeserver.services.rooms.resolve import NEW
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.stage import Author
from homeserver.services.rooms.targets import encoded
from storage import events, membership, names, relations, rooms
from storage.append import LIVE, Append, Appended, Item, MemberRow, Redacting, Relating, append
from storage.envelope import Envelopes
from storage.events import NewEvent
from storage.rooms import RoomRow
from storage.txn import Txn

OUTLIERS_AT_ONCE = 500
"""Outliers in one write: a large room must not keep the others waiting."""


@attrs.frozen(slots=True)
class Received:
    """What became of an event; `reason` says why it was not accepted."""

    verdict: Verdict
    reason: str = ""


class Receiver:
    """The door for events of other servers."""

    def __init__(self, runtime: Runtime, db: Database, snapshots: Snapshots, author: Author) -> None:
        self._runtime = runtime
        self._db = db
        self._snapshots = snapshots
        self._author = author

    async def receive(
        self, held: Held, event: Event, *, state: Mapping[StateKey, str] | None = None, fresh: bool = False
    ) -> Received:
        """Assesses and stores an event. Raises `MissingEvents` when auth events, prevs or events of `state` are not
        stored. `fresh`: the room begins anew for this server, with this event.
        """
        found = await self._db.read(assess, held.require(), event, state, fresh)
        if found.verdict is Verdict.KNOWN:
            return Received(Verdict.KNOWN)
        item = await self._item(event, found)
        accepted = found.verdict is Verdict.ACCEPTED
        plan = Append(
            room=found.room.nid,
            items=[item],
            state=found.room.state,
            next_row=found.room.next_row,
            kept_heads=[head for head in found.room.heads if head.event not in found.cited_heads],
            now_s=self._runtime.now_ms() // 1000,
            server_name=self._author.signer.server_name,
            kinds=found.kinds,
            advances=accepted,
            replaces=found.replaces,
            missing=found.missing if accepted else (),
        )
        await self._write(event.room_id, found.room.nid, plan)
        return Received(found.verdict, found.reason)

    async def backfill(
        self, held: Held, event: Event, ord_: int, *, state: Mapping[StateKey, str] | None = None
    ) -> Received:
        """Stores an event of the room's history at its place in the order; `state` and what is raised as in `receive`.

        Nobody is told of it, and it notifies nobody.
        """
        found = await self._db.read(assess, held.require(), event, state, False, True)
        if found.verdict is Verdict.KNOWN:
            return Received(Verdict.KNOWN)
        item = await self._item(event, attrs.evolve(found, levels=None))
        if found.verdict is Verdict.ACCEPTED:
            item = attrs.evolve(item, place=ord_)
        plan = attrs.evolve(self._outlier_plan(found.room.nid, found.room, [item]), replaces=found.replaces)
        await self._write(event.room_id, found.room.nid, plan)
        return Received(found.verdict, found.reason)

    async def _item(self, event: Event, found: Assessment) -> Item:
        accepted = found.verdict is Verdict.ACCEPTED
        flags = 0 if accepted else events.REJECTED if found.verdict is Verdict.REJECTED else events.SOFT_FAILED
        redacted = accepted and any(one.allowed for one in found.waiting)
        if redacted:
            flags |= events.REDACTED
        if found.target is None or not found.applies:
            flags |= events.HIDDEN if event.redacts is not None else 0
        exceptions: Sequence[tuple[int, int, int]] = ()
        if accepted and not redacted and found.levels is not None:
            flags, exceptions = await self._unread(event, found, flags)
        thread = None if found.link is None else found.link.thread
        return Item(
            new=self._prepared(
                self._author.envelopes, event.redacted() if redacted else event, found.auth, flags, thread
            ),
            place=LIVE if accepted else None,
            base=found.before.root,
            fixes=found.before.over,
            visible={key: -1 if nid == NEW else nid for key, nid in found.visible.items()},
            becomes_current=found.becomes_current,
            relating=_relating(event, found) if accepted else None,
            redacting=_redacting(found) if accepted else None,
            settles=accepted,
            reveals=[one.nid for one in found.waiting if one.allowed] if accepted else (),
            existing=found.existing,
            exceptions=exceptions,
        )

    async def _unread(self, event: Event, found: Assessment, flags: int) -> tuple[int, Sequence[tuple[int, int, int]]]:
        members = await self._author.unread.room(found.room.nid)
        levels = found.levels
        assert levels is not None

        def may_notify(kind: str) -> bool:
            try:
                return levels.user(event.sender) >= levels.notification(kind)
            except Rejected:
                return False

        unread = self._author.unread.at_append(members, event, may_notify)
        return flags | unread.flags, unread.exceptions

    def _prepared(
        self, envelopes: Envelopes, event: Event, auth: Sequence[int], flags: int, thread: int | None = None
    ) -> NewEvent:
        pdu, span = encoded({key: value for key, value in event.pdu.items() if key != "unsigned"})
        return events.prepared(
            envelopes,
            event,
            pdu,
            span,
            local=self._is_local(event.sender),
            auth=auth,
            flags=flags,
            thread=thread,
        )

    def _is_local(self, user_id: str) -> bool:
        return user_id.endswith(":" + self._author.signer.server_name)

    async def _write(self, room_id: str, room: int, plan: Append) -> Appended:
        try:
            return await self._db.write(append, plan)
        except Exception:
            self._author.unread.forget_room(room)
            raise
        finally:
            self._snapshots.drop(room_id)

    # ---- events without a place in the timeline ----

    async def store_outliers(self, held: Held, found: Sequence[Event]) -> None:
        """Stores auth events and state events, each checked against its own auth events (check 4).

        In any order; raises `MissingEvents` when an auth event is neither stored nor among them.
        """
        room_id = held.require()
        row, known, stale = await self._db.read(_known, room_id, [event.event_id for event in found], found)
        if row is None:
            raise LookupError(f"{room_id} is not a room of this server")
        new = ordered([event for event in found if event.event_id not in known], known.keys())
        for start in range(0, len(new), OUTLIERS_AT_ONCE):
            part = new[start : start + OUTLIERS_AT_ONCE]
            items = await self._runtime.in_thread(self._outliers, part, known, Envelopes())
            replaced = [stale[event.event_id] for event in part if event.event_id in stale]
            plan = attrs.evolve(self._outlier_plan(row.nid, row, items), replaces=replaced)
            done = await self._write(room_id, row.nid, plan)
            for event, item, nid in zip(part, items, done.nids, strict=True):
                known[event.event_id] = (nid, event, bool(item.new.flags & events.REJECTED))

    def _outliers(
        self, found: Sequence[Event], known: Mapping[str, tuple[int, Event, bool]], envelopes: Envelopes
    ) -> list[Item]:
        """`known` is id -> (nid, event, whether rejected) of what is stored."""
        here = dict(known)
        items: list[Item] = []
        for event in found:
            auth = [here[one] for one in event.auth_event_ids]
            flags = events.OUTLIER
            if not _passes(event, [one for _, one, _ in auth], {e.event_id for _, e, bad in auth if bad}, here):
                flags |= events.REJECTED
            here[event.event_id] = (-1 - len(items), event, bool(flags & events.REJECTED))
            new = self._prepared(envelopes, event, [nid for nid, _, _ in auth], flags)
            items.append(Item(new=new, place=None, state_known=False))
        return items

    def _outlier_plan(self, room: int | tuple[str, str], row: RoomRow | None, items: Sequence[Item]) -> Append:
        return Append(
            room=room,
            items=items,
            state=row.state if row else 0,
            next_row=row.next_row if row else 1,
            kept_heads=row.heads if row else (),
            now_s=self._runtime.now_ms() // 1000,
            server_name=self._author.signer.server_name,
            advances=False,
        )

    # ---- rooms of elsewhere ----

    async def adopt(
        self,
        held: Held,
        version: RoomVersion,
        event: Event,
        state: Mapping[StateKey, str],
        found: Sequence[Event],
    ) -> Received:
        """Takes part in a room by `event` (a local user's join), with the state before it and all events of its auth
        chain.

        A room seen before (an invite, an earlier stay) keeps its history; its state is what is given now.
        """
        room_id = held.require()
        row = await self._db.point(_row, room_id)
        if row is None:
            await self._db.write(rooms.create, room_id, version.id)
        elif row.version != version.id:
            if row.heads:
                return Received(Verdict.REJECTED, f"The room has version {row.version}, not {version.id}")
            await self._db.write(rooms.set_version, row.nid, room_id, version.id)
        await self.store_outliers(held, found)
        good = await self._db.read(_not_rejected, list(state.values()))
        before = {key: event_id for key, event_id in state.items() if event_id in good}
        return await self.receive(held, event, state=before, fresh=True)

    async def note_membership(
        self, held: Held, version: RoomVersion, event: Event, user_id: str, kind: str, stripped: bytes | None
    ) -> None:
        """Stores a membership event of a room that this server is not in: an invite, a knock, or its end.

        `stripped` is what the user may see of the room: a JSON list of stripped state events.
        """
        room_id = held.require()
        row = await self._db.point(_row, room_id)
        new = self._prepared(self._author.envelopes, event, (), events.OUTLIER)
        item = Item(new=new, place=None, state_known=False)
        plan = self._outlier_plan(row.nid if row else (room_id, version.id), row, [item])
        member = MemberRow(user_id, membership.KINDS[kind], -1, stripped)
        await self._write(room_id, row.nid if row else 0, attrs.evolve(plan, members=[member]))


def _relating(event: Event, found: Assessment) -> Relating | None:
    if event.redacts is not None:
        nid = None if found.target is None else found.target.stored.nid
        return Relating(relations.REDACTION, nid, events.pack_id(event.redacts))
    return None if found.link is None else found.link.relating


def _redacting(found: Assessment) -> Redacting | None:
    return found.target.redacting() if found.target is not None and found.applies else None


def _passes(
    event: Event, auth: Sequence[Event], rejected: set[str], here: Mapping[str, tuple[int, Event, bool]]
) -> bool:
    try:
        check_auth_events(event.version, event, auth, rejected)
        state = {one.key: one for one in auth if one.key is not None}
        if not event.version.create_in_auth_events and event.type != "m.room.create":
            create = here.get("$" + event.room_id[1:])
            if create is not None:
                state[("m.room.create", "")] = create[1]
        authorize(event.version, event, state)
    except Rejected:
        return False
    return True


def ordered(found: Sequence[Event], known: Container[str]) -> list[Event]:
    """The events with their auth events first; raises `MissingEvents` for auth events that are nowhere."""
    by_id = {event.event_id: event for event in found}
    placed: dict[str, Event] = {}
    missing: set[str] = set()
    stack = list(reversed(found))
    while stack:
        event = stack[-1]
        if event.event_id in placed:
            stack.pop()
            continue
        waiting = []
        for one in event.auth_event_ids:
            if one in by_id and one not in placed:
                waiting.append(by_id[one])
            elif one not in by_id and one not in known:
                missing.add(one)
        if waiting and len(stack) <= 2 * len(by_id) + 1:
            stack.extend(waiting)
        else:
            placed[event.event_id] = event
            stack.pop()
    if missing:
        raise MissingEvents(frozenset(missing))
    # The create event is cited by none in version 12, and yet decides on all.
    return sorted(placed.values(), key=lambda event: event.type != "m.room.create")


def _known(
    txn: Txn, room_id: str, event_ids: Sequence[str], found: Sequence[Event]
) -> tuple[RoomRow | None, dict[str, tuple[int, Event, bool]], dict[str, int]]:
    """The room, what is stored of the events and of those they cite, and what of it is to be stored anew."""
    cited = {one for event in found for one in event.auth_event_ids}
    creates = {"$" + event.room_id[1:] for event in found if event.version.room_id_is_create_hash}
    loaded = events.load_by_ids(txn, {*event_ids, *cited, *creates})
    places = events.places(txn, [nid for nid, _ in loaded.values()])
    given = set(event_ids)
    stale = {one: nid for one, (nid, event) in loaded.items() if one in given and events.is_noted(places[nid], event)}
    known = {
        event_id: (nid, event, bool(places[nid].flags & events.REJECTED))
        for event_id, (nid, event) in loaded.items()
        if event_id not in stale
    }
    return _row(txn, room_id), known, stale


def _not_rejected(txn: Txn, event_ids: Sequence[str]) -> set[str]:
    loaded = events.load_by_ids(txn, event_ids)
    places = events.places(txn, [nid for nid, _ in loaded.values()])
    return {one for one, (nid, _) in loaded.items() if not places[nid].flags & events.REJECTED}


def _row(txn: Txn, room_id: str) -> RoomRow | None:
    nid = names.room_nid(txn, room_id)
    return None if nid is None else rooms.get(txn, nid)
