# SPDX-License-Identifier: Apache-2.0
"""Knows what each event of an answer carries under `unsigned`, and puts all of them on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import orjson

from homeserver.protocol.filters import select_fields
from homeserver.services.callers import User
from homeserver.services.sync.plan import Plan
from homeserver.services.sync.rooms import Rendered, RoomRows
from homeserver.services.sync.wire import Frames, encode_text
from storage import names
from storage.events import REDACTED, StoredEvent, pdus
from storage.membership import JOIN
from storage.state_tree import StateTree
from storage.sync_reads import MEMBER, EventRow, events, parents_among
from storage.txn import Txn

REDACTION = "m.room.redaction"
#: By how much the `age` of an event that was rendered for somebody else may be wrong.
AGE_ERROR_MS = 100


class Echoes(Protocol):
    """Remembers under which transaction id a device sent an event."""

    def transaction_id(self, event_id: str, device: int) -> str | None: ...


class Decorator(Protocol):
    """Renders events that carry more than most: redactions, redacted events, events that others relate to."""

    def decorated(
        self, txn: Txn, found: Sequence[StoredEvent], user: User, ignored: frozenset[str]
    ) -> list[dict[str, Any]]: ...


@attrs.frozen(slots=True)
class Seen:
    """A state event's predecessor: its content where the user may know it."""

    event_id: str
    content: bytes | None


class RowRenderer:
    """Renders the rows of an answer's rooms."""

    def __init__(self, echoes: Echoes, decorator: Decorator, now_ms: Callable[[], int]) -> None:
        self._echoes = echoes
        self._decorator = decorator
        self._now_ms = now_ms

    def __call__(self, txn: Txn, plan: Plan, rooms: Mapping[int, RoomRows]) -> dict[int, Rendered]:
        """What each room's rows look like to the one who asks."""
        if plan.request.filter.federation_format:
            return _federation_format(txn, rooms)
        frames = Frames(self._now_ms())
        special = self._special(txn, plan, rooms)
        rendered = {}
        for room, one in rooms.items():
            timeline = self._timeline(txn, plan, one, frames, special)
            state: list[Any] = [orjson.Fragment(frames.plain(row.event)) for row in one.state]
            rendered[room] = Rendered(timeline, state)
        fields = plan.request.filter.event_fields
        return rendered if fields is None else _only_fields(rendered, fields)

    def _special(self, txn: Txn, plan: Plan, rooms: Mapping[int, RoomRows]) -> dict[int, dict[str, Any]]:
        """The events that are not plain, rendered, by number. Nothing relates yet to the newest event of a room."""
        found = [row.event for one in rooms.values() for row in one.timeline.rows]
        newest: set[int] = set()
        if plan.request.filter.room.timeline.passes_every_event and not plan.ignored:
            newest = {one.timeline.rows[-1].nid for one in rooms.values() if one.timeline.rows and one.ask.joined}
        older = [event.nid for event in found if event.nid not in newest]
        parents = parents_among(txn, older)
        wanted = [event for event in found if event.nid in parents or event.flags & REDACTED or event.type == REDACTION]
        if not wanted:
            return {}
        rendered = self._decorator.decorated(txn, wanted, plan.request.user, plan.ignored)
        return {event.nid: one for event, one in zip(wanted, rendered, strict=True)}

    def _timeline(
        self, txn: Txn, plan: Plan, one: RoomRows, frames: Frames, special: Mapping[int, dict[str, Any]]
    ) -> list[Any]:
        user = plan.request.user
        rows = one.timeline.rows
        if not rows:
            return []
        stood = memberships_at(txn, user.user_id, one)
        replaced = _replaced(txn, one)
        own = user.user_id
        tails: dict[str, bytes] = {}
        found: list[Any] = []
        for row, membership in zip(rows, stood, strict=True):
            event = row.event
            if event.sender != own and row.nid not in replaced and row.nid not in special:
                kept = one.timeline.frames.get(row.nid)
                if kept is not None and membership == "join" and frames.now - kept[0] < AGE_ERROR_MS:
                    found.append(kept[1])
                    continue
                tail = tails.get(membership)
                if tail is None:
                    tail = tails[membership] = b',"membership":%b' % encode_text(membership)
                fragment = orjson.Fragment(frames.framed(event, tail))
                if membership == "join":
                    one.timeline.frames[row.nid] = (frames.now, fragment)
                found.append(fragment)
                continue
            unsigned = self._unsigned(user, event, membership, replaced.get(row.nid))
            decorated = special.get(row.nid)
            if decorated is None:
                found.append(orjson.Fragment(frames.plain(event, unsigned)))
            else:
                found.append({**decorated, "unsigned": {**decorated.get("unsigned", {}), **unsigned}})
        return found

    def _unsigned(self, user: User, event: StoredEvent, membership: str, before: Seen | None) -> dict[str, object]:
        unsigned: dict[str, object] = {"membership": membership}
        if event.sender == user.user_id:
            echo = self._echoes.transaction_id(event.event_id, user.device)
            if echo is not None:
                unsigned["transaction_id"] = echo
        if before is not None:
            unsigned["replaces_state"] = before.event_id
            if before.content is not None:
                unsigned["prev_content"] = orjson.Fragment(before.content)
        return unsigned


def memberships_at(txn: Txn, user_id: str, one: RoomRows) -> list[str]:
    """The user's membership at each row of a timeline, with what the row itself changes."""
    rows, standing = one.timeline.rows, one.ask.standing
    if standing.kind == JOIN and standing.since < rows[0].nid:
        return ["join"] * len(rows)
    key = names.skey_nid(txn, MEMBER, user_id)
    membership = "leave"
    if key is not None and rows[0].state:
        before = StateTree(txn, one.ask.room).get(rows[0].state, key)
        row = events(txn, [before]).get(before) if before is not None else None
        membership = "leave" if row is None else _membership(row)
    found = []
    for row in rows:
        if key is not None and row.skey == key:
            membership = _membership(row)
        found.append(membership)
    return found


def _membership(row: EventRow) -> str:
    value = orjson.loads(row.event.content).get("membership")
    return value if isinstance(value, str) else "leave"


def _replaced(txn: Txn, one: RoomRows) -> dict[int, Seen]:
    """What the state events of a timeline replaced. Contents from before the user's join stay hidden."""
    tree = StateTree(txn, one.ask.room)
    before = {}
    for row in one.timeline.rows:
        if row.skey is not None and row.state:
            nid = tree.get(row.state, row.skey)
            if nid is not None and nid != row.nid:
                before[row.nid] = nid
    if not before:
        return {}
    known = events(txn, before.values())
    oldest = one.timeline.rows[0].nid
    visible_from = min(oldest, one.ask.standing.since) if one.ask.standing.kind == JOIN else oldest
    found = {}
    for nid, replaced in before.items():
        old = known.get(replaced)
        if old is not None:
            content = old.event.content if replaced >= visible_from else None
            found[nid] = Seen(old.event.event_id, content)
    return found


def _federation_format(txn: Txn, rooms: Mapping[int, RoomRows]) -> dict[int, Rendered]:
    """The events as other servers are sent them."""
    nids = [row.nid for one in rooms.values() for row in (*one.timeline.rows, *one.state)]
    raw = pdus(txn, nids)
    return {
        room: Rendered(
            [orjson.Fragment(raw[row.nid]) for row in one.timeline.rows],
            [orjson.Fragment(raw[row.nid]) for row in one.state],
        )
        for room, one in rooms.items()
    }


def _only_fields(rendered: Mapping[int, Rendered], fields: Sequence[tuple[str, ...]]) -> dict[int, Rendered]:
    def cut(event: Any) -> dict[str, object]:
        return select_fields(orjson.loads(orjson.dumps(event)), fields)

    return {
        room: Rendered([cut(event) for event in one.timeline], [cut(event) for event in one.state])
        for room, one in rendered.items()
    }
