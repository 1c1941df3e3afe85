# SPDX-License-Identifier: Apache-2.0
"""How one SQLite file is opened, owned, written, read and checkpointed."""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from storage.caches import Names
from storage.dialect import Dialect, any_of, with_rows
from storage.envelope import Envelopes
from storage.faults import InUse, Unavailable
from storage.txn import Change

BUSY_MS = 5_000
"""How long a statement waits for another program's lock."""

LARGEST_PORTION = 32
"""Rows of one statement; a power of two."""


class SqliteTxn:
    """A `storage.txn.Txn` on SQLite. Reading transactions have no position to give out."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, names: Names, *, writing: bool) -> None:
        self.connection = connection
        self.names = names
        self.fresh = Names() if writing else names
        self.envelopes = Envelopes()
        self.changes: list[Change] = []
        self.clock = 0
        self.bulked = 0
        self._rows: dict[str, list[Sequence[object]]] = {}
        self._cursor = connection.cursor()
        self._writing = writing

    def one(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        if self._rows:
            self.flush()
        rows = self._cursor.execute(
            sql, params
        ).fetchall()  # to the end: a half-read statement would keep its snapshot open
        return rows[0] if rows else None

    def all(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        if self._rows:
            self.flush()
        return self._cursor.execute(sql, params).fetchall()

    def any(self, expression: str, values: Sequence[object]) -> tuple[str, list[object]]:
        return any_of("sqlite", expression, values)

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        self._refuse_reader()
        self.flush()
        return self._cursor.execute(sql, params).rowcount

    def put(self, sql: str, params: Sequence[object] = ()) -> None:
        self._refuse_reader()
        self.flush()
        self._cursor.execute(sql, params)

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._refuse_reader()
        self.flush()
        self._cursor.executemany(sql, rows)

    def bulk(self, sql: str, row: Sequence[object]) -> None:
        self._refuse_reader()
        self.bulked += 1
        waiting = self._rows.get(sql)
        if waiting is None:
            self._rows[sql] = [row]
        else:
            waiting.append(row)

    def flush(self) -> None:
        """Runs what `bulk` collected, in portions of a few sizes, so that prepared statements are found again."""
        if not self._rows:
            return
        collected, self._rows = self._rows, {}
        for sql, rows in collected.items():
            start, size = 0, LARGEST_PORTION
            while start < len(rows):
                while size > len(rows) - start:
                    size //= 2
                portion = rows[start : start + size]
                self._cursor.execute(with_rows(sql, len(portion[0]), size), [value for row in portion for value in row])
                start += size

    def forget(self) -> None:
        """Drops what `bulk` collected."""
        self._rows = {}

    def position(self) -> int:
        self._refuse_reader()
        self.clock += 1
        return self.clock

    def announce(self, change: Change) -> None:
        self._refuse_reader()
        self.changes.append(change)

    def _refuse_reader(self) -> None:
        if not self._writing:
            raise RuntimeError("this is a reading transaction")


class SqliteWriter:
    """The one connection that writes. `begin`, then the items, then `commit` or `rollback`."""

    def __init__(self, connection: sqlite3.Connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.txn = SqliteTxn(connection, names, writing=True)
        self.position = 0
        self._read_clock()

    def _read_clock(self) -> None:
        row = self._connection.execute("SELECT position FROM clock").fetchone()
        self.position = row[0]
        self.txn.clock = row[0]

    def begin(self) -> None:
        self.txn.fresh = Names()
        self.txn.changes = []
        self.txn.clock = self.position
        self.txn.forget()
        self._connection.execute("BEGIN IMMEDIATE")

    def mark(self) -> int:
        """Changes when an item has written anything that must be undone with it."""
        return self._connection.total_changes + self.txn.bulked

    def commit(self) -> list[Change]:
        """Makes everything since `begin` durable; gives what was announced."""
        txn = self.txn
        txn.flush()
        if txn.clock != self.position:
            self._connection.execute("UPDATE clock SET position = ?", (txn.clock,))
        self._connection.execute("COMMIT")
        self.position = txn.clock
        self._names.absorb(txn.fresh)
        return txn.changes

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        self._connection.close()


class SqliteDatabase:
    """One file. Makes connections; `own` must be called once before the first."""

    dialect: Dialect = "sqlite"
    inline_reads = True

    def __init__(self, path: str, *, synchronous: str = "FULL") -> None:
        self.path = Path(path)
        self._synchronous = synchronous
        self._lock_file: IO[str] | None = None

    def own(self) -> None:
        """Takes the file for this process. Raises `InUse` when another has it. The system gives it back when the
        process dies.
        """
        if self._lock_file is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock_path = self.path.with_name(self.path.name + ".lock")
        handle = open(lock_path, "a+", encoding="ascii")  # noqa: SIM115 - held as long as the process owns the data
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip()
            handle.close()
            raise InUse(
                f"{self.path} is in use by another Parley process" + (f" (process {owner})" if owner else "")
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._lock_file = handle

    def disown(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def connect(self) -> sqlite3.Connection:
        """A connection in autocommit mode with this server's settings."""
        try:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=512
            )
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise Unavailable(
                    f"{self.path} cannot use write-ahead logging (it answers {mode!r}); is it on a network file system?"
                )
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(
                "PRAGMA wal_autocheckpoint = 0"
            )  # a second connection does it, outside the writer's commits
            connection.execute("PRAGMA cache_size = -8192")
            connection.execute("PRAGMA temp_store = MEMORY")
            return connection
        except sqlite3.Error as error:
            raise Unavailable(f"cannot open the database {self.path}: {error}") from error

    def writer(self, names: Names) -> SqliteWriter:
        return SqliteWriter(self.connect(), names)

    def reader(self, names: Names) -> SqliteTxn:
        connection = self.connect()
        connection.execute("PRAGMA query_only = ON")
        return SqliteTxn(connection, names, writing=False)

    def checkpoint(self, connection: sqlite3.Connection, *, whole: bool) -> int:
        """Moves committed pages from the log into the file; gives the pages the log held. `whole` empties the log as
        well.
        """
        _, pages, _ = connection.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if whole else 'PASSIVE'})").fetchone()
        return max(int(pages), 0)
