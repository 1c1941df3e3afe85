# SPDX-License-Identifier: Apache-2.0
"""Migrations run once, in order, by one process, and refuse what does not fit."""

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from storage.db import open_database
from storage.dialect import statements
from storage.faults import InUse
from storage.migrate import Migration, SchemaError, known, migrate, status
from storage.postgres import PostgresDatabase
from storage.sqlite import SqliteDatabase
from tests.storage.temporary import ON_POSTGRESQL, new_url

ONE = Migration(1, "one", "CREATE TABLE a (x {bigint} NOT NULL) {compact_no};".replace(" {compact_no}", ""))
TWO = Migration(2, "two", "-- compatible: 0001\nCREATE TABLE b (y {blob});\n--@sqlite\nCREATE TABLE only (z {int});\n")
THREE = Migration(3, "three", "CREATE TABLE c (x {nonsense});")


class Migrating(SynchronousTestCase):
    def setUp(self) -> None:
        self.url = new_url()
        self.database = self.opened()

    def opened(self) -> SqliteDatabase | PostgresDatabase:
        database = open_database(self.url)
        self.addCleanup(database.disown)
        return database

    def test_all_of_ours_run_on_an_empty_database_once(self) -> None:
        self.assertEqual(len(migrate(self.database)), len(known()))
        self.assertEqual(migrate(self.database), [])
        self.assertEqual(status(self.database).pending, ())

    def test_a_later_one_runs_alone(self) -> None:
        self.assertEqual(migrate(self.database, migrations=[ONE]), ["0001_one"])
        self.assertEqual(migrate(self.database, migrations=[ONE, TWO]), ["0002_two"])

    def test_a_changed_one_is_refused(self) -> None:
        migrate(self.database, migrations=[ONE])
        changed = Migration(1, "one", ONE.text + "\n")
        error = self.assertRaises(SchemaError, migrate, self.database, migrations=[changed, TWO])
        self.assertIn("0001_one differs", error.reason)

    def test_a_newer_database_is_refused_unless_it_says_it_is_compatible(self) -> None:
        migrate(self.database, migrations=[ONE, TWO])
        self.assertEqual(migrate(self.database, migrations=[ONE]), [])
        newer = Migration(3, "three", "CREATE TABLE c (x {int});")
        migrate(self.database, migrations=[ONE, TWO, newer])
        error = self.assertRaises(SchemaError, migrate, self.database, migrations=[ONE])
        self.assertIn("newer Parley", error.reason)

    def test_one_that_fails_leaves_nothing(self) -> None:
        self.assertRaises(ValueError, migrate, self.database, migrations=[ONE, THREE])
        self.assertEqual(migrate(self.database, migrations=[ONE]), ["0001_one"])

    def test_two_starts_cannot_migrate_at_once(self) -> None:
        other = self.opened()
        if isinstance(other, SqliteDatabase):
            other.own()
            self.assertRaises(InUse, migrate, self.database)
            return
        connection = other.connect()
        connection.cursor().execute("SELECT pg_advisory_lock(%s)", (0x7061726C6D67,))
        self.assertRaises(InUse, migrate, self.database)
        connection.close()

    def test_a_sqlite_file_is_copied_before(self) -> None:
        if ON_POSTGRESQL:
            return
        migrate(self.database, migrations=[ONE])
        lines: list[str] = []
        migrate(self.database, migrations=[ONE, TWO], report=lines.append)
        copy = Path(self.url.removeprefix("sqlite:///")).with_name("parley.db.before-0002")
        self.assertTrue(any("parley.db.before-0002" in line for line in lines))
        tables = sqlite3.connect(copy).execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
        self.assertEqual(tables, [("a",), ("migration",)])


class Statements(SynchronousTestCase):
    def test_each_database_gets_its_own(self) -> None:
        self.assertEqual(statements("postgresql", TWO.text), ["-- compatible: 0001\nCREATE TABLE b (y bytea)"])
        self.assertEqual(len(statements("sqlite", TWO.text)), 2)
