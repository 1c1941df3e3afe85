# SPDX-License-Identifier: Apache-2.0
"""How services await the database, and how what a commit announced gets out before anybody goes on.

``await db.write(fn, *args)`` returns after the commit was durable and published. ``await db.point(fn, *args)`` is for
bounded reads by key, ``await db.read(fn, *args)`` for everything else, ``await db.snapshot(fn, *args)`` for several
statements that must see one moment. `fn(txn, *args)` is a plain function of a storage module. Readers cap ranges at a
position taken from `db.published`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from storage.caches import Budget, Names
from storage.db import Change, Committed, Engine, Txn, WriteItem, open_database
from storage.faults import Duplicate, Full, StorageError, classify
from storage.migrate import migrate

P = ParamSpec("P")
T = TypeVar("T")
Publish = Callable[[int, Sequence[Change]], None]

_log = logging.getLogger(__name__)

COMPLAINT_SECONDS = 10.0


class Database:
    """One database, open. `published` is the position up to which everything is durable and announced."""

    def __init__(self, runtime: Runtime, url: str, *, readers: int = 3, synchronous: str = "FULL") -> None:
        self._runtime = runtime
        self._database = open_database(url, synchronous=synchronous)
        self._engine = Engine(self._database, on_commit=self._committed, readers=readers)
        self._inline: Txn | None = None
        self._subscribers: list[Publish] = []
        self._resets: list[Callable[[], None]] = []
        self._observers: list[Callable[[int, float], None]] = []
        self._kick_planned = False
        self._complained = -COMPLAINT_SECONDS
        self.published = 0

    @property
    def names(self) -> Names:
        """Interned names that are committed."""
        return self._engine.names

    @property
    def budget(self) -> Budget:
        """The bytes that caches share; services make theirs with it."""
        return self._engine.budget

    @property
    def dialect(self) -> str:
        return self._engine.dialect

    @property
    def queued(self) -> int:
        """Writes that wait for the writer thread."""
        return self._engine.queued

    @property
    def batches(self) -> int:
        """Commits since the start."""
        return self._engine.batches

    def open(self) -> None:
        """Migrates, takes ownership and starts the threads. Blocks; raises `StorageError` with a sentence for the
        admin.
        """
        try:
            migrate(self._database, report=_log.info)
            self.published = self._engine.start()
            if self._database.inline_reads:
                self._inline = self._engine.reader()
        except BaseException:
            self._engine.stop()
            raise

    def close(self) -> None:
        """Commits what waits and gives the database back. Blocks."""
        self._engine.stop()

    def subscribe(self, publish: Publish) -> None:
        """Has ``publish(position, changes)`` called on the reactor after each commit, before its writers go on; it must
        not raise.
        """
        self._subscribers.append(publish)

    def on_reset(self, forget: Callable[[], None]) -> None:
        """Has ``forget()`` called when the database was lost and came back: what memory knows of it may be wrong."""
        self._resets.append(forget)

    def observe_batches(self, observe: Callable[[int, float], None]) -> None:
        """Has ``observe(items, seconds)`` called for each commit, for metrics."""
        self._observers.append(observe)

    # ---- what services await ----

    async def write(self, fn: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``fn(txn, *args)`` in the next commit. Faults come back as `MatrixError`, `Duplicate` as itself."""
        assert not kwargs, "write functions take positional arguments"
        done: Deferred[T] = Deferred()
        try:
            self._engine.enqueue(WriteItem(fn, args, done))
        except StorageError as fault:
            raise as_matrix_error(fault) from fault
        if not self._kick_planned:
            self._kick_planned = True
            self._runtime.reactor.callLater(0, self._kick)
        return await done

    def _kick(self) -> None:
        """Ends a turn of the reactor: what was queued in it is one batch."""
        self._kick_planned = False
        self._engine.kick()

    async def read(self, fn: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``fn(txn, *args)`` on a reader thread; each statement sees the newest commit."""
        return await self._queued_read(fn, args, False)

    async def snapshot(self, fn: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `read`, and all statements see the same moment."""
        return await self._queued_read(fn, args, True)

    async def point(self, fn: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A bounded read by key: at once on SQLite, on a reader thread on PostgreSQL."""
        if self._inline is not None:
            return self.peek(fn, *args, **kwargs)
        done: Deferred[T] = Deferred()
        self._engine.read_quickly(fn, args, self._delivery(done))
        return await done

    def peek(self, fn: Callable[Concatenate[Any, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A bounded read by key, at once. SQLite only."""
        if self._inline is None:
            raise RuntimeError("only SQLite is read on the reactor; await point() instead")
        try:
            return fn(self._inline, *args, **kwargs)
        except Exception as error:
            fault = classify(error)
            if fault is None:
                raise
            raise as_matrix_error(fault) from error

    async def _queued_read(self, fn: Callable[..., T], args: tuple[Any, ...], snapshot: bool) -> T:
        done: Deferred[T] = Deferred()
        self._engine.read(fn, args, snapshot, self._delivery(done))
        return await done

    def _delivery(self, done: "Deferred[Any]") -> Callable[[Any, Exception | None], None]:
        def deliver(result: Any, error: Exception | None) -> None:
            self._runtime.call_from_thread(_finish, done, result, error)

        return deliver

    # ---- from the writer's thread, in commit order ----

    def _committed(self, commit: Committed) -> None:
        self._runtime.call_from_thread(self._publish, commit)

    def _publish(self, commit: Committed) -> None:
        if commit.position > self.published:
            self.published = commit.position
        if commit.reset:
            for forget in self._resets:
                forget()
        if commit.changes or commit.reset:
            for subscriber in self._subscribers:
                subscriber(self.published, commit.changes)
        for observe in self._observers:
            observe(len(commit.outcomes), commit.seconds)
        for outcome in commit.outcomes:
            if isinstance(outcome.error, StorageError) and not isinstance(outcome.error, Duplicate):
                self._complain(outcome.error.reason)
            _finish(outcome.token, outcome.result, outcome.error)

    def _complain(self, reason: str) -> None:
        """Tells the admin why writes fail, once in ten seconds."""
        now = self._runtime.monotonic()
        if now - self._complained >= COMPLAINT_SECONDS:
            self._complained = now
            _log.error("a write failed: %s", reason)


def _finish(done: "Deferred[Any]", result: Any, error: Exception | None) -> None:
    if error is None:
        done.callback(result)
    elif isinstance(error, StorageError):
        done.errback(as_matrix_error(error))
    else:
        done.errback(error)


def as_matrix_error(fault: StorageError) -> Exception:
    """What a client may be told of a fault; a `Duplicate` stays itself, it means something to the caller."""
    if isinstance(fault, Full):
        return MatrixError(507, "M_UNKNOWN", fault.reason)
    if isinstance(fault, Duplicate):
        return fault
    return MatrixError(503, "M_UNKNOWN", fault.reason)
