# SPDX-License-Identifier: Apache-2.0
"""How work reaches the database: one writer thread with group commit, a few reader threads, one checkpointer.

A *write function* is ``fn(txn, *args)``. Everything that waits is run in one transaction and committed once; when an
item fails the batch is halved and run again, so a write function may run several times and must touch nothing but
`txn`. An exception raised before the item wrote anything fails that item alone. Positions are given out in commit
order, results and changes leave after the commit only.

Nothing here knows an event loop: outcomes are handed to a callback, on the thread where they happened.
`homeserver.services.database` is the asynchronous face of this module, and what the rest of the server uses.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Protocol

import attrs

from storage.caches import Budget, Cache, Names
from storage.dialect import Dialect
from storage.faults import Full, Unavailable, classify
from storage.postgres import PostgresDatabase
from storage.sqlite import SqliteDatabase
from storage.state_tree import weigh_row
from storage.txn import Change, Txn

__all__ = ["Change", "Committed", "Engine", "Outcome", "Txn", "WriteItem", "open_database"]

LARGEST_BATCH = 256
CACHE_BYTES = 96 << 20
CHECKPOINT_CHANGES = 2_000
LONG_LOG_PAGES = 2_048


@attrs.define(slots=True, eq=False)
class WriteItem:
    """A write that waits. `token` is the caller's, handed back with the outcome."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    token: Any


@attrs.frozen(slots=True)
class Outcome:
    """What became of one item: its result, or its error."""

    token: Any
    result: Any = None
    error: Exception | None = None


@attrs.frozen(slots=True)
class Committed:
    """One commit: the clock after it, what it announced, and the outcome of each item in order.

    `reset` is true when the connection was lost: positions and rows that this process remembers may be wrong.
    `seconds` is how long the transaction took, the flush included.
    """

    position: int
    changes: list[Change]
    outcomes: list[Outcome]
    reset: bool = False
    seconds: float = 0.0


class _Writer(Protocol):
    position: int

    @property
    def txn(self) -> Any: ...
    def begin(self) -> None: ...
    def mark(self) -> int: ...
    def commit(self) -> list[Change]: ...
    def rollback(self) -> None: ...
    def alive(self) -> bool: ...
    def close(self) -> None: ...


Database = SqliteDatabase | PostgresDatabase


def open_database(url: str, *, synchronous: str = "FULL") -> Database:
    """The database of a ``sqlite:///path`` or ``postgresql://`` URL; ``sqlite:////absolute/path`` has four slashes."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(url.removeprefix("sqlite:///"), synchronous=synchronous)
    if url.startswith(("postgresql://", "postgres://")):
        return PostgresDatabase(url)
    raise ValueError("the database URL must start with sqlite:/// or postgresql://")


_Done = Callable[[Any, Exception | None], None]
_Jobs = SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], bool, _Done] | None]


class Engine:
    """The threads of one database. `on_commit` is called on the writer's thread, in commit order."""

    def __init__(
        self,
        database: Database,
        *,
        on_commit: Callable[[Committed], None],
        readers: int = 3,
        cache_bytes: int = 96 << 20,
    ) -> None:
        self.database = database
        self.budget = Budget(cache_bytes)
        self.names = Names(Cache("state tree", self.budget, weigh_row))
        self.batches = 0
        self._on_commit = on_commit
        self._waiting: deque[WriteItem] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._writer: _Writer | None = None
        self._reset = False
        self._readers = readers
        self._reads: _Jobs = SimpleQueue()
        self._quick_reads: _Jobs = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._checkpoint_wanted = threading.Event()
        self._log_is_long = False
        self._checkpointed = 0

    @property
    def dialect(self) -> Dialect:
        return self.database.dialect

    @property
    def queued(self) -> int:
        """Writes that wait for the writer thread."""
        return len(self._waiting)

    def start(self) -> int:
        """Owns the database, starts the threads and gives the clock's position. Raises `StorageError`. The schema must
        be there.
        """
        self.database.own()
        self._writer = self.database.writer(self.names)
        position = self._writer.position
        self._start_thread("parley-writer", self._write_forever)
        for number in range(self._readers):
            self._start_thread(f"parley-reader-{number}", self._read_forever, self._reads)
        if not self.database.inline_reads:
            self._start_thread("parley-quick-reader", self._read_forever, self._quick_reads)
        if isinstance(self.database, SqliteDatabase):
            self._start_thread("parley-checkpoint", self._checkpoint_forever, self.database)
        return position

    def _start_thread(self, name: str, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Commits what waits, ends the threads and gives the database back."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        for _ in range(self._readers):
            self._reads.put(None)
        self._quick_reads.put(None)
        self._checkpoint_wanted.set()
        for thread in self._threads:
            thread.join()
        if self._writer is not None:
            self._writer.close()
        self.database.disown()

    # ---- writing ----

    def enqueue(self, item: WriteItem) -> None:
        """Queues a write; its outcome comes with a commit after the next `kick`.

        Who queues several in one turn kicks once at its end: the writer thread then does not compete with the one
        that still makes work for it.
        """
        if self._stopping:
            raise Unavailable("The server is stopping")
        self._waiting.append(item)

    def kick(self) -> None:
        """Wakes the writer thread."""
        with self._wake:
            self._wake.notify()

    def submit(self, item: WriteItem) -> None:
        """`enqueue` and `kick`."""
        self.enqueue(item)
        self.kick()

    def _write_forever(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_BATCH))]
            self._commit(batch)
            self._tidy_log()

    def _commit(self, batch: list[WriteItem]) -> None:
        """Runs a batch to its outcomes, in halves where an item fails."""
        try:
            writer = self._connected()
        except Exception as error:
            self._fail(batch, error)
            return
        outcomes: list[Outcome] = []
        began = perf_counter()
        try:
            writer.begin()
            for item in batch:
                outcomes.append(_attempt(writer, item))
            changes = writer.commit()
        except Exception as error:
            self._undo(writer, batch, error)
            return
        self.batches += 1
        reset, self._reset = self._reset, False
        self._on_commit(Committed(writer.position, changes, outcomes, reset, perf_counter() - began))

    def _undo(self, writer: _Writer, batch: list[WriteItem], error: Exception) -> None:
        try:
            writer.rollback()
        except Exception:
            pass  # the connection is gone, and the transaction with it
        fault = classify(error)
        if isinstance(fault, (Unavailable, Full)):
            self._lose(writer)  # whether the commit happened is not known: the next one reads the clock again
            self._fail(batch, fault)
        elif len(batch) == 1:
            self._fail(batch, fault or error)
        else:
            middle = len(batch) // 2
            self._commit(batch[:middle])
            self._commit(batch[middle:])

    def _fail(self, batch: list[WriteItem], error: Exception) -> None:
        position = self._writer.position if self._writer else 0
        self._on_commit(
            Committed(position, [], [Outcome(item.token, error=classify(error) or error) for item in batch], False)
        )

    def _lose(self, writer: _Writer) -> None:
        try:
            writer.close()
        except Exception:  # the connection is gone already
            pass
        self._writer = None
        self._reset = True
        self._checkpointed = 0
        self.names.counters.clear()

    def _connected(self) -> _Writer:
        if self._writer is None:
            self._writer = self.database.writer(self.names)
        return self._writer

    # ---- reading ----

    def read(self, fn: Callable[..., Any], args: tuple[Any, ...], snapshot: bool, done: _Done) -> None:
        """Runs ``fn(txn, *args)`` on a reader thread and calls `done` there.

        With `snapshot` all its statements see one moment.
        """
        self._reads.put((fn, args, snapshot, done))

    def read_quickly(self, fn: Callable[..., Any], args: tuple[Any, ...], done: _Done) -> None:
        """The same for bounded reads by key: they do not wait behind long ones."""
        self._quick_reads.put((fn, args, False, done))

    def _read_forever(self, jobs: _Jobs) -> None:
        reader: Any = None
        while (job := jobs.get()) is not None:
            fn, args, snapshot, done = job
            for attempt in (1, 2):
                try:
                    if reader is None:
                        reader = self.database.reader(self.names)
                    result = _in_snapshot(reader, fn, args) if snapshot else fn(reader, *args)
                except Exception as error:
                    fault = classify(error)
                    if reader is not None and isinstance(fault, Unavailable):
                        _close_quietly(reader)
                        reader = None
                        if attempt == 1:
                            continue
                    done(None, fault or error)
                else:
                    done(result, None)
                break
        if reader is not None:
            reader.connection.close()

    def reader(self) -> Txn:
        """A reading connection of the caller's own, for one thread. SQLite's bounded point reads on the reactor use
        one.
        """
        return self.database.reader(self.names)

    # ---- SQLite's log ----

    def _tidy_log(self) -> None:
        writer = self._writer
        if writer is None or not isinstance(self.database, SqliteDatabase):
            return
        if self._log_is_long:
            # The checkpointer moved all but what was committed meanwhile. With that moved too, between two commits, the
            # next one starts the log over in the space it has: a growing file costs every flush a change of the inode.
            self._log_is_long = False
            self.database.checkpoint(writer.txn.connection, whole=False)
        changes = writer.mark()
        if changes - self._checkpointed >= CHECKPOINT_CHANGES:
            self._checkpointed = changes
            self._checkpoint_wanted.set()

    def _checkpoint_forever(self, database: SqliteDatabase) -> None:
        connection = database.connect()
        while True:
            self._checkpoint_wanted.wait()
            self._checkpoint_wanted.clear()
            try:
                pages = database.checkpoint(connection, whole=self._stopping)
                self._log_is_long = pages > LONG_LOG_PAGES
            except sqlite3.Error:  # a full disk or a foreign lock: the log keeps everything, the next round tries again
                pass
            if self._stopping:
                connection.close()
                return


def _attempt(writer: _Writer, item: WriteItem) -> Outcome:
    """Runs one item. An error before its first write is its own; a later one is raised, for the whole batch to be
    undone.
    """
    before, announced = writer.mark(), len(writer.txn.changes)
    try:
        return Outcome(item.token, item.fn(writer.txn, *item.args))
    except Exception as error:
        fault = classify(error)
        # PostgreSQL gives up the transaction at any error, SQLite at a full disk or a broken file.
        broken = fault is not None and (writer.txn.dialect == "postgresql" or isinstance(fault, (Unavailable, Full)))
        if broken or writer.mark() != before:
            raise
        del writer.txn.changes[announced:]
        return Outcome(item.token, error=fault or error)


def _in_snapshot(reader: Any, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    begin = "BEGIN" if reader.dialect == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    cursor = reader.connection.cursor()
    cursor.execute(begin)
    try:
        return fn(reader, *args)
    finally:
        cursor.execute("ROLLBACK")
        cursor.close()


def _close_quietly(reader: Any) -> None:
    try:
        reader.connection.close()
    except Exception:  # the connection is gone already
        pass
