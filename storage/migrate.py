# SPDX-License-Identifier: Apache-2.0
"""How a database gets to the schema that this code wants: numbered files, run once each, in order, by one process at a
time.

A file is ``NNNN_name.sql``; `storage.dialect` lists its tokens. A line ``-- compatible: NNNN`` says that code which
knows only the files up to NNNN can still run on the database after this one (expand, backfill, contract). Without it
older code is refused.
"""

import hashlib
import re
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import attrs

from storage.dialect import Dialect, statements
from storage.faults import InUse, StorageError
from storage.postgres import PostgresDatabase, take_lock
from storage.sqlite import SqliteDatabase

MIGRATION_KEY = 0x7061726C6D67
"""The advisory lock of the process that migrates."""

_NAME = re.compile(r"(\d{4})_(\w+)\.sql$")
_COMPATIBLE = re.compile(r"^-- compatible: (\d{4})$", re.MULTILINE)
_TABLE = """CREATE TABLE IF NOT EXISTS migration
 (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, compatible integer NOT NULL)"""


class SchemaError(StorageError):
    """The database's schema and this code do not fit together."""


@attrs.frozen
class Migration:
    """One file. `compatible` is the newest file that older code must know to run beside it."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def compatible(self) -> int:
        found = _COMPATIBLE.search(self.text)
        return int(found.group(1)) if found else self.number


@attrs.frozen
class Status:
    """Where a database stands: numbers of the files applied, and names of those that wait."""

    applied: tuple[int, ...]
    pending: tuple[str, ...]


def known() -> list[Migration]:
    """The files that come with this code, in order."""
    found = []
    for entry in files("storage").joinpath("migrations").iterdir():
        named = _NAME.fullmatch(entry.name)
        if named:
            found.append(Migration(int(named.group(1)), named.group(2), entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def status(database: SqliteDatabase | PostgresDatabase) -> Status:
    """What has been applied and what waits. Changes nothing."""
    if isinstance(database, SqliteDatabase) and not database.path.exists():
        return Status((), tuple(one.name for one in known()))
    connection: Any = database.connect()
    try:
        cursor = connection.cursor()
        applied = _applied(cursor, database.dialect)
    finally:
        connection.close()
    _check(applied, known())
    return Status(
        tuple(sorted(applied)), tuple(f"{one.number:04d}_{one.name}" for one in known() if one.number not in applied)
    )


def migrate(
    database: SqliteDatabase | PostgresDatabase,
    *,
    report: Callable[[str], None] = lambda line: None,
    migrations: list[Migration] | None = None,
) -> list[str]:
    """Brings the database up to date; gives the names of the files applied. Raises `SchemaError` and `InUse`.

    An existing SQLite file is copied beside itself first, as ``<name>.before-NNNN``.
    """
    wanted = known() if migrations is None else migrations
    if isinstance(database, SqliteDatabase):
        database.own()
        return _migrate_sqlite(database, wanted, report)
    return _migrate_postgresql(database, wanted, report)


def _migrate_sqlite(database: SqliteDatabase, wanted: list[Migration], report: Callable[[str], None]) -> list[str]:
    connection = database.connect()
    try:
        cursor = connection.cursor()
        applied = _applied(cursor, "sqlite")
        _check(applied, wanted)
        pending = [one for one in wanted if one.number not in applied]
        if not pending:
            return []
        if applied:
            _copy(database, connection, pending[0], report)
        cursor.execute("BEGIN EXCLUSIVE")
        try:
            _apply(cursor, "sqlite", "?", pending, report)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        return [f"{one.number:04d}_{one.name}" for one in pending]
    finally:
        connection.close()


def _copy(
    database: SqliteDatabase, connection: sqlite3.Connection, first: Migration, report: Callable[[str], None]
) -> None:
    target = database.path.with_name(f"{database.path.name}.before-{first.number:04d}")
    report(f"copying {database.path.name} to {target.name} before migrating")
    copy = sqlite3.connect(target)
    try:
        connection.backup(copy)
    finally:
        copy.close()


def _migrate_postgresql(
    database: PostgresDatabase, wanted: list[Migration], report: Callable[[str], None]
) -> list[str]:
    connection = database.connect()
    try:
        if not take_lock(connection, MIGRATION_KEY):
            raise InUse("another process is migrating this database")
        cursor = connection.cursor()
        applied = _applied(cursor, "postgresql")
        _check(applied, wanted)
        pending = [one for one in wanted if one.number not in applied]
        if not pending:
            return []
        cursor.execute("BEGIN")
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        try:
            _apply(cursor, "postgresql", "%s", pending, report)
            cursor.execute("COMMIT")
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        return [f"{one.number:04d}_{one.name}" for one in pending]
    finally:
        connection.close()


def _applied(cursor: Any, dialect: Dialect) -> dict[int, tuple[str, str, int]]:
    """Number -> (name, checksum, compatible) of what the database says was applied."""
    present = (
        "SELECT 1 FROM sqlite_master WHERE name = 'migration'"
        if dialect == "sqlite"
        else "SELECT to_regclass('migration')"
    )
    cursor.execute(present)
    row = cursor.fetchone()
    if not row or row[0] is None:
        return {}
    cursor.execute("SELECT number, name, checksum, compatible FROM migration")
    return {number: (name, checksum, compatible) for number, name, checksum, compatible in cursor.fetchall()}


def _check(applied: dict[int, tuple[str, str, int]], wanted: list[Migration]) -> None:
    newest = max((one.number for one in wanted), default=0)
    for one in wanted:
        if one.number in applied and applied[one.number][1] != one.checksum:
            raise SchemaError(f"migration {one.number:04d}_{one.name} differs from the one that made this database")
    needed = max((compatible for _, _, compatible in applied.values()), default=0)
    if needed > newest:
        raise SchemaError(
            f"this database was made by a newer Parley: it needs migration {needed:04d}, this one knows {newest:04d}"
        )


def _apply(cursor: Any, dialect: Dialect, mark: str, pending: list[Migration], report: Callable[[str], None]) -> None:
    cursor.execute(_TABLE)
    for one in pending:
        report(f"applying migration {one.number:04d}_{one.name}")
        for statement in statements(dialect, one.text):
            cursor.execute(statement)
        cursor.execute(
            "INSERT INTO migration (number, name, checksum, compatible) VALUES (?, ?, ?, ?)".replace("?", mark),
            (one.number, one.name, one.checksum, one.compatible),
        )
