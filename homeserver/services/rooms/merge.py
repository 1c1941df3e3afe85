# SPDX-License-Identifier: Apache-2.0
"""How a room with more heads than one event may cite is brought back to fewer: by events that say nothing and cite
twenty each.

The state before an event is what the events that it cites agree on. A local event is built on the room's current
state, which is what all heads agree on, so it must be able to cite all of them.
"""

from typing import Protocol

from homeserver.protocol.auth_selection import auth_keys
from homeserver.protocol.errors import Rejected, forbidden
from homeserver.protocol.events import Draft, Event, PrevRef, StateKey, build
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.rooms.assess import Verdict
from homeserver.services.rooms.locks import Held
from homeserver.services.rooms.receive import Receiver
from homeserver.services.rooms.resolve import States, View
from homeserver.services.rooms.stage import MOST_PREVS, Author
from storage import events, names, rooms
from storage.txn import Txn

TYPE = "org.matrix.dummy_event"


class Merge(Protocol):
    """Brings a room's heads down to what one event may cite."""

    async def merge(self, held: Held, sender: str) -> None: ...


class HeadMerger:
    """Writes merging events in the name of a local user who may send to the room."""

    def __init__(self, runtime: Runtime, db: Database, receiver: Receiver, author: Author) -> None:
        self._runtime = runtime
        self._db = db
        self._receiver = receiver
        self._author = author

    async def merge(self, held: Held, sender: str) -> None:
        """Merges until at most twenty heads are left. Raises M_FORBIDDEN when `sender` may not send to the room."""
        while True:
            found = await self._db.read(_oldest_heads, held.require(), sender)
            if found is None:
                return
            event = self._build(held.room_id, sender, *found)
            try:
                done = await self._receiver.receive(held, event)
            except Rejected as refused:
                raise forbidden(refused.reason) from refused
            if done.verdict is not Verdict.ACCEPTED:
                raise forbidden(done.reason or "The room cannot be merged by this user")

    def _build(
        self, room_id: str, sender: str, version: RoomVersion, heads: list[Event], state: dict[StateKey, Event]
    ) -> Event:
        server = self._author.signer.server_name
        auth: list[PrevRef] = [event.ref() for event in state.values()]
        return build(
            version,
            Draft(TYPE, {}, sender),
            room_id=room_id,
            prev_events=[head.ref() for head in heads],
            auth_events=auth,
            depth=max(head.depth for head in heads) + 1,
            ts=self._runtime.now_ms(),
            signer=self._author.signer,
            event_id=f"${self._author.opaque_id()}:{server}" if version.sends_event_id else None,
        ).event


def _oldest_heads(txn: Txn, room_id: str, sender: str) -> tuple[RoomVersion, list[Event], dict[StateKey, Event]] | None:
    """The twenty oldest heads of a room that has more, and what of their state authorizes a message by the sender."""
    nid = names.room_nid(txn, room_id)
    row = None if nid is None else rooms.get(txn, nid)
    version = None if row is None else lookup(row.version)
    if row is None or version is None or len(row.heads) <= MOST_PREVS:
        return None
    cited = sorted(row.heads, key=lambda head: head.event)[:MOST_PREVS]
    states = States(txn, row.nid, version)
    before = states.settle([View(head.state_after) for head in cited])
    state = states.events_at(before, auth_keys(version, TYPE, sender, None, {}))
    loaded = events.load(txn, [head.event for head in cited])
    return version, [loaded[head.event] for head in cited], state
