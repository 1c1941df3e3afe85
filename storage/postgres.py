# SPDX-License-Identifier: Apache-2.0
"""How a PostgreSQL database is connected, owned, written and read."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Event
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg2
import psycopg2.extensions

from storage.caches import Names
from storage.dialect import Dialect, any_of, to_postgresql
from storage.envelope import Envelopes
from storage.faults import InUse, Unavailable
from storage.txn import Change

OWNER_KEY = 0x7061726C6579
"""The advisory lock of the process that writes ("parley")."""

_translated = lru_cache(maxsize=4096)(to_postgresql)


@lru_cache(maxsize=64)
def _marks(count: int) -> str:
    return f"({','.join(['%s'] * count)})"


def _bytes(value: str | bytes | None, _cursor: object) -> bytes | None:
    return None if value is None else bytes.fromhex(value[2:])  # type: ignore[arg-type]


_BYTEA = psycopg2.extensions.new_type((17,), "PARLEY_BYTEA", _bytes)


class PostgresTxn:
    """A `storage.txn.Txn` on PostgreSQL. What was `put` travels with the next statement that is answered, or with the
    commit.
    """

    dialect: Dialect = "postgresql"

    def __init__(self, connection: psycopg2.extensions.connection, names: Names, *, writing: bool) -> None:
        self.connection = connection
        self.names = names
        self.fresh = Names() if writing else names
        self.envelopes = Envelopes()
        self.changes: list[Change] = []
        self.clock = 0
        self.statements = 0
        self.pending: list[bytes] = []
        self._rows: dict[str, list[bytes]] = {}
        self._cursor = connection.cursor()
        self._writing = writing

    def _answer(self, sql: str, params: Sequence[object]) -> None:
        cursor = self._cursor
        self.gather()
        if self.pending:
            self.pending.append(cursor.mogrify(_translated(sql), params))
            text = b";\n".join(self.pending)
            self.pending = []
            cursor.execute(text)
        else:
            cursor.execute(_translated(sql), params)

    def gather(self) -> None:
        """Makes statements of what `bulk` collected."""
        if self._rows:
            for sql, rows in self._rows.items():
                head, _, tail = sql.partition("{rows}")
                self.pending.append(b"".join((head.encode(), b",".join(rows), tail.encode())))
            self._rows = {}

    def flush(self) -> None:
        """Sends what is pending."""
        self.gather()
        if self.pending:
            text = b";\n".join(self.pending)
            self.pending = []
            self._cursor.execute(text)

    def one(self, sql: str, params: Sequence[object] = ()) -> tuple[Any, ...] | None:
        self._answer(sql, params)
        return self._cursor.fetchone()

    def all(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self._answer(sql, params)
        return self._cursor.fetchall()

    def any(self, expression: str, values: Sequence[object]) -> tuple[str, list[object]]:
        return any_of("postgresql", expression, values)

    def run(self, sql: str, params: Sequence[object] = ()) -> int:
        self._refuse_reader()
        self.statements += 1
        self._answer(sql, params)
        return self._cursor.rowcount

    def put(self, sql: str, params: Sequence[object] = ()) -> None:
        self._refuse_reader()
        self.statements += 1
        self.gather()
        self.pending.append(self._cursor.mogrify(_translated(sql), params))

    def many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._refuse_reader()
        self.statements += 1
        self.gather()
        text, mogrify = _translated(sql), self._cursor.mogrify
        self.pending.extend(mogrify(text, row) for row in rows)

    def bulk(self, sql: str, row: Sequence[object]) -> None:
        self._refuse_reader()
        self.statements += 1
        self._rows.setdefault(sql, []).append(self._cursor.mogrify(_marks(len(row)), row))

    def forget(self) -> None:
        """Drops what waits to be sent."""
        self.pending = []
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


class PostgresWriter:
    """The one connection that writes; it holds the owner's lock as long as it lives."""

    def __init__(self, connection: psycopg2.extensions.connection, names: Names) -> None:
        self._connection = connection
        self._names = names
        self.txn = PostgresTxn(connection, names, writing=True)
        row = self.txn.one("SELECT position FROM clock")
        assert row is not None
        self.position: int = row[0]
        self.txn.clock = self.position

    def begin(self) -> None:
        txn = self.txn
        txn.fresh = Names()
        txn.changes = []
        txn.clock = self.position
        txn.statements = 0
        txn.forget()
        txn.pending = [b"BEGIN"]

    def mark(self) -> int:
        """Changes when an item has written anything that must be undone with it."""
        return self.txn.statements

    def commit(self) -> list[Change]:
        """Makes everything since `begin` durable; gives what was announced."""
        txn = self.txn
        if txn.pending == [b"BEGIN"] and not txn.statements:
            txn.pending = []
            return txn.changes
        if txn.clock != self.position:
            txn.put("UPDATE clock SET position = ?", (txn.clock,))
        txn.gather()
        txn.pending.append(b"COMMIT")
        txn.flush()
        self.position = txn.clock
        self._names.absorb(txn.fresh)
        return txn.changes

    def rollback(self) -> None:
        self.txn.forget()
        if self._connection.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            self.txn.pending = [b"ROLLBACK"]
            self.txn.flush()

    def alive(self) -> bool:
        return not self._connection.closed

    def close(self) -> None:
        self._connection.close()


class PostgresDatabase:
    """One database on a server. Makes connections; the writer's takes the owner's lock."""

    dialect: Dialect = "postgresql"
    inline_reads = False

    def __init__(self, url: str) -> None:
        self._arguments = connection_arguments(url)

    def own(self) -> None:
        """Nothing to do ahead: the lock lives in the writer's session."""

    def disown(self) -> None:
        """Nothing to do: closing the writer's session gives the lock back."""

    def connect(self, *, options: str = "") -> psycopg2.extensions.connection:
        try:
            connection: psycopg2.extensions.connection = psycopg2.connect(
                **self._arguments,
                connect_timeout=5,
                application_name="parley",
                options=f"-c timezone=UTC -c synchronous_commit=on -c lock_timeout=30s {options}",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        except psycopg2.Error as error:
            raise Unavailable(f"cannot connect to the database: {str(error).strip()}") from error
        connection.autocommit = True
        psycopg2.extensions.register_type(_BYTEA, connection)
        return connection

    def writer(self, names: Names) -> PostgresWriter:
        """The writing connection; raises `InUse`."""
        connection = self.connect()
        if not take_lock(connection, OWNER_KEY):
            connection.close()
            raise InUse("the database is in use by another Parley process")
        return PostgresWriter(connection, names)

    def reader(self, names: Names) -> PostgresTxn:
        return PostgresTxn(self.connect(options="-c default_transaction_read_only=on"), names, writing=False)


def take_lock(connection: psycopg2.extensions.connection, key: int) -> bool:
    """Takes an advisory lock for the session. A predecessor's session may linger, so this asks for a few seconds."""
    with connection.cursor() as cursor:
        for attempt in range(12):
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (key,))
            row = cursor.fetchone()
            if row and row[0]:
                return True
            if attempt < 11:
                Event().wait(0.25)
    return False


def connection_arguments(url: str) -> dict[str, Any]:
    """libpq's arguments of a ``postgresql://`` URL; a socket directory may be given as ``?host=/path``."""
    parts = urlsplit(url)
    given: dict[str, Any] = {"dbname": unquote(parts.path.lstrip("/"))}
    if parts.hostname:
        given["host"] = parts.hostname
    if parts.port:
        given["port"] = parts.port
    if parts.username:
        given["user"] = unquote(parts.username)
    if parts.password:
        given["password"] = unquote(parts.password)
    given.update(parse_qsl(parts.query))
    return given
