# SPDX-License-Identifier: Apache-2.0
"""Which errors of a database mean what to the rest of the server."""

import sqlite3

import psycopg2
import psycopg2.errors


class StorageError(Exception):
    """The database could not do what was asked. `reason` is a sentence for the log and for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unavailable(StorageError):
    """The database is not there, is locked by another program, or has lost the connection. Nothing of the write was
    kept, or its fate is unknown.
    """


class Full(StorageError):
    """There is no room left on the disk. Nothing of the write was kept; reading goes on."""


class InUse(StorageError):
    """Another process owns this data."""


class Duplicate(StorageError):
    """A row with this key is already there."""


def classify(error: BaseException) -> StorageError | None:
    """The meaning of a driver's exception; None for an error that is a bug."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    if isinstance(error, psycopg2.Error):
        return _of_postgresql(error)
    return None


def _of_sqlite(error: sqlite3.Error) -> StorageError | None:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"):
        return Duplicate(str(error))
    if name == "SQLITE_FULL":
        return Full("The server's disk is full")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable("The server's database is locked by another program")
    if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return Unavailable(f"The server cannot use its database file ({error})")
    return None


def _of_postgresql(error: psycopg2.Error) -> StorageError | None:
    if isinstance(error, psycopg2.errors.UniqueViolation):
        return Duplicate(str(error))
    if isinstance(error, psycopg2.errors.DiskFull):
        return Full("The database's disk is full")
    if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
        return Unavailable("The server's database accepts no writes at the moment")
    if isinstance(error, (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled)):
        return Unavailable("The server's database is busy")
    lost = type(error) is psycopg2.DatabaseError and error.pgcode is None  # how libpq reports a connection cut short
    if lost or isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        return Unavailable("The server cannot reach its database")
    return None
