# SPDX-License-Identifier: Apache-2.0
"""How what a local user says becomes an event of the room, once: lock, transaction id, snapshot, build, one append.

Drafts that come while a room's commit is under way wait together and become one chain in one write.
"""

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from homeserver.protocol.errors import MatrixError, Rejected, forbidden
from homeserver.protocol.events import Draft, Event, StateKey
from homeserver.protocol.relations import relation_of
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms import targets
from homeserver.services.rooms.contents import check_content
from homeserver.services.rooms.locks import Held, RoomLocks
from homeserver.services.rooms.merge import Merge
from homeserver.services.rooms.snapshot import Snapshot, Snapshots
from homeserver.services.rooms.stage import MOST_PREVS, NOTHING, REDACTION, Author, Circumstances, Stage
from homeserver.services.rooms.transactions import Transactions, TxnScope
from storage.append import append
from storage.faults import Duplicate

LONGEST_CHAIN = 64


@attrs.define(slots=True, eq=False)
class _Waiting:
    """A draft on its way to its event id. Who leads a chain needs no `done`: it looks at the answer itself."""

    draft: Draft
    scope: TxnScope | None
    done: "Deferred[str] | None" = None
    event_id: str | None = None
    error: Exception | None = None

    def answer(self, event_id: str) -> None:
        self.event_id = event_id
        if self.done is not None:
            self.done.callback(event_id)

    def refuse(self, error: Exception) -> None:
        self.error = error
        if self.done is not None:
            self.done.errback(error)

    @property
    def answered(self) -> bool:
        return self.event_id is not None or self.error is not None

    def result(self) -> str:
        if self.event_id is None:
            assert self.error is not None
            raise self.error
        return self.event_id


class Sender:
    """The door for local events. `send` for one, `append_in` for several by who holds the room."""

    def __init__(
        self,
        runtime: Runtime,
        db: Database,
        locks: RoomLocks,
        snapshots: Snapshots,
        transactions: Transactions,
        author: Author,
        merger: Merge,
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._locks = locks
        self._snapshots = snapshots
        self._transactions = transactions
        self._author = author
        self._merger = merger
        self._queues: dict[str, list[_Waiting]] = {}

    # ---- one event ----

    async def send(self, user: User | None, room_id: str, draft: Draft, *, scope: TxnScope | None = None) -> str:
        """Sends one event and gives its id, after its commit. Raises `MatrixError`.

        The same `scope` gives the same event again. A state event equal to the current one by the same sender is not
        sent again: the current one's id is the answer.
        """
        check_content(draft)
        if scope is not None:
            known = self._transactions.recall(scope)
            if known is not None:
                return known
            running = self._transactions.begin(scope)
            if running is not None:
                return await running
        try:
            event_id = await self._in_turn(room_id, draft, scope)
        except Exception as error:
            event_id = await self._sent_before(scope, error)
        if scope is not None:
            self._transactions.succeed(scope, event_id)
        return event_id

    async def _sent_before(self, scope: TxnScope | None, error: Exception) -> str:
        """The event that was sent under this id in an earlier run; else the error is raised."""
        try:
            found = None if scope is None else await self._transactions.find(scope)
        except Exception:  # whatever it is, the transaction must be answered: with the first error
            found = None
        if found is not None:
            return found
        if isinstance(error, Duplicate):
            error = MatrixError(500, "M_UNKNOWN", "The event could not be stored")
        if scope is not None:
            self._transactions.fail(scope, error)
        raise error

    async def _in_turn(self, room_id: str, draft: Draft, scope: TxnScope | None) -> str:
        """Sends at once when the room is idle; else with all that waits, when the commit under way is through."""
        queue = self._queues.get(room_id)
        if queue is not None:
            following = _Waiting(draft, scope, Deferred())
            queue.append(following)
            assert following.done is not None
            return await following.done
        queue = self._queues[room_id] = []
        leading = _Waiting(draft, scope)
        async with self._locks.lock(room_id) as held:
            await self._send_chain(held, [leading])
        if queue:
            self._runtime.background("sending", self._drain(room_id, queue))
        else:
            del self._queues[room_id]
        return leading.result()

    async def _drain(self, room_id: str, queue: list[_Waiting]) -> None:
        """Sends what waits for a room, chain by chain, until nothing does."""
        while queue:
            async with self._locks.lock(room_id) as held:
                batch = queue[:LONGEST_CHAIN]
                del queue[:LONGEST_CHAIN]
                await self._send_chain(held, batch)
        del self._queues[room_id]

    async def _send_chain(self, held: Held, batch: Sequence[_Waiting]) -> None:
        """Builds the drafts on one another, writes once and answers; what is refused is answered alone."""
        accepted: list[_Waiting] = []
        try:
            stage, snapshot = await self._stage(held, batch[0].draft.sender)
            for waiting in batch:
                try:
                    same = await self._same(snapshot, stage, waiting.draft)
                    if same is None:
                        await self._add(stage, snapshot, waiting.draft, waiting.scope)
                        accepted.append(waiting)
                    else:
                        waiting.answer(same)
                except MatrixError as refused:
                    waiting.refuse(refused)
            if accepted:
                await self._write(stage, snapshot)
        except Duplicate as error:
            if len(accepted) == 1:
                accepted[0].refuse(error)
            else:
                for waiting in accepted:
                    await self._send_chain(held, [waiting])
            return
        except Exception as error:
            for waiting in batch:
                if not waiting.answered:
                    waiting.refuse(error)
            return
        for waiting, event in zip(accepted, stage.built, strict=True):
            waiting.answer(event.event_id)

    async def current_content(self, room_id: str, key: StateKey) -> dict[str, Any]:
        """The content of a current state event; {} when there is none."""
        async with self._locks.lock(room_id):
            snapshot = await self._snapshots.get(room_id, (key,))
            entry = None if snapshot is None else snapshot.entries[key]
            return {} if entry is None else entry.event.content

    # ---- by who holds the room ----

    async def append_in(
        self,
        held: Held,
        drafts: Sequence[Draft],
        *,
        scope: TxnScope | None = None,
    ) -> list[str]:
        """Appends the drafts in one commit, all or none; gives their ids. `scope` belongs to the first."""
        stage, snapshot = await self._stage(held, drafts[0].sender)
        for number, draft in enumerate(drafts):
            await self._add(stage, snapshot, draft, scope if number == 0 else None)
        await self._write(stage, snapshot)
        return [event.event_id for event in stage.built]

    async def _stage(self, held: Held, sender: str) -> tuple[Stage, Snapshot]:
        room_id = held.require()
        snapshot = await self._snapshots.get(room_id)
        if snapshot is not None and len(snapshot.heads) > MOST_PREVS:
            await self._merger.merge(held, sender)
            snapshot = await self._snapshots.get(room_id)
        if snapshot is None:
            raise forbidden("You are not in this room")
        members = await self._author.unread.room(snapshot.room)
        return Stage(self._author, snapshot.version, snapshot, members), snapshot

    async def _add(self, stage: Stage, snapshot: Snapshot, draft: Draft, scope: TxnScope | None) -> Event:
        keys = stage.keys_of(draft)
        if any(key not in snapshot.entries for key in keys):
            await self._snapshots.need(snapshot, keys)
        found = NOTHING
        try:
            if draft.type == REDACTION or "m.relates_to" in draft.content:
                found = await self._circumstances(stage, snapshot, draft)
            return stage.add(draft, self._runtime.now_ms(), found, scope)
        except Rejected as refused:  # a level that is none, in an old room
            raise forbidden(refused.reason) from refused

    async def _circumstances(self, stage: Stage, snapshot: Snapshot, draft: Draft) -> Circumstances:
        if draft.type == REDACTION and draft.redacts is not None:
            target = await self._db.point(targets.find_target, snapshot.room, draft.redacts)
            if target is None:
                await self._db.point(targets.require_here, snapshot.room, draft.redacts)
            levels = stage.levels()
            targets.check_target(target, draft.sender, levels.user(draft.sender), levels.redact)
            return Circumstances(target=target)
        if relation_of(draft.content) is None:
            return NOTHING
        await self._db.point(targets.check_relation, draft.sender, draft.type, draft.content)
        return Circumstances(link=await self._db.point(targets.find_link, snapshot.room, draft.content))

    async def _same(self, snapshot: Snapshot, stage: Stage, draft: Draft) -> str | None:
        """The id of the current state event when the draft says the same again."""
        if draft.key is None:
            return None
        await self._snapshots.need(snapshot, (draft.key,))
        entry = stage.entry(draft.key)
        if entry is None or entry.event.sender != draft.sender or entry.event.content != draft.content:
            return None
        return entry.event.event_id

    async def _write(self, stage: Stage, snapshot: Snapshot) -> None:
        try:
            done = await self._db.write(append, stage.plan(self._runtime.now_ms() // 1000))
        except Exception:
            self._snapshots.drop(snapshot.room_id)
            self._author.unread.forget_room(snapshot.room)
            raise
        stage.settle(done)
