# SPDX-License-Identifier: Apache-2.0
"""Writes are grouped, ordered, durable when answered, and fail alone; readers beside them miss nothing."""

import random
import sqlite3
import threading
from typing import Any

import psycopg2
from twisted.trial.unittest import SynchronousTestCase

from storage.db import Change, Engine, Txn, open_database
from storage.faults import Duplicate, Full, InUse, Unavailable
from tests.storage.temporary import ON_POSTGRESQL, Waiter


def prepare(txn: Txn) -> None:
    txn.run("CREATE TABLE IF NOT EXISTS thing (pos bigint PRIMARY KEY, who integer NOT NULL, what text)")


def add(txn: Txn, who: int, what: str = "") -> int:
    position = txn.position()
    txn.put("INSERT INTO thing (pos, who, what) VALUES (?, ?, ?)", (position, who, what))
    txn.announce(Change(position, "thing", user=who))
    if what == "bad after":
        raise ValueError("after writing")
    return position


def add_in_bulk(txn: Txn, who: int, fails: bool = False) -> int:
    position = txn.position()
    txn.bulk("INSERT INTO thing (pos, who, what) VALUES {rows}", (position, who, "bulk"))
    if fails:
        raise ValueError("after collecting")
    return position


def rename_in_bulk(txn: Txn, position: int, what: str) -> None:
    txn.bulk(
        "UPDATE thing SET what = v.column2 FROM (VALUES {rows}) AS v WHERE thing.pos = v.column1", (position, what)
    )


def bad_before(txn: Txn) -> None:
    txn.announce(Change(0, "thing"))
    raise ValueError("before writing")


def again(txn: Txn, position: int) -> None:
    txn.put("INSERT INTO thing (pos, who, what) VALUES (?, 0, '')", (position,))


def positions(txn: Txn) -> list[int]:
    return [row[0] for row in txn.all("SELECT pos FROM thing ORDER BY pos")]


class Writing(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiter = Waiter()
        self.addCleanup(self.close)
        self.waiter.write(prepare)

    def close(self) -> None:
        if self.waiter is not None:
            self.waiter.close()

    def held_back(self) -> threading.Event:
        """Keeps the writer busy until the event is set, so that what is submitted meanwhile is one batch."""
        go, busy = threading.Event(), threading.Event()
        self.waiter.submit(lambda txn: (busy.set(), go.wait(10)))
        busy.wait(10)
        return go

    def test_what_waits_together_is_committed_together_in_order(self) -> None:
        go = self.held_back()
        answers = [self.waiter.submit(add, who) for who in range(50)]
        go.set()
        found = [answer() for answer in answers]
        self.assertEqual(found, sorted(found))
        last = self.waiter.commits[-1]
        self.assertEqual(len(last.outcomes), 50)
        self.assertEqual([change.pos for change in last.changes], found)
        self.assertEqual(last.position, found[-1])

    def test_a_failing_item_takes_nobody_with_it(self) -> None:
        go = self.held_back()
        answers = [self.waiter.submit(add, who, "bad after" if who in (3, 17) else "fine") for who in range(20)]
        go.set()
        found = []
        for who, answer in enumerate(answers):
            if who in (3, 17):
                self.assertRaises(ValueError, answer)
            else:
                found.append(answer())
        self.assertEqual(found, sorted(found))
        self.assertEqual(self.waiter.read(positions), found)
        announced = [change.pos for commit in self.waiter.commits for change in commit.changes]
        self.assertEqual(announced, found)

    def test_an_error_before_writing_costs_no_second_run(self) -> None:
        go = self.held_back()
        commits = len(self.waiter.commits)
        answers = [self.waiter.submit(add, 1), self.waiter.submit(bad_before), self.waiter.submit(add, 2)]
        go.set()
        answers[0]()
        self.assertRaises(ValueError, answers[1])
        answers[2]()
        self.assertLessEqual(len(self.waiter.commits) - commits, 2)
        self.assertNotIn(0, [change.pos for commit in self.waiter.commits for change in commit.changes])

    def test_rows_in_bulk_are_there_for_the_next_question_and_gone_with_their_item(self) -> None:
        go = self.held_back()
        answers = [self.waiter.submit(add_in_bulk, who, who in (5, 40)) for who in range(70)]
        seen = self.waiter.submit(positions)
        go.set()
        kept = []
        for who, answer in enumerate(answers):
            if who in (5, 40):
                self.assertRaises(ValueError, answer)
            else:
                kept.append(answer())
        self.assertEqual(seen(), kept)
        go = self.held_back()
        renames = [self.waiter.submit(rename_in_bulk, position, f"n{position}") for position in kept]
        go.set()
        for rename in renames:
            rename()
        rows = self.waiter.read(lambda txn: txn.all("SELECT pos, what FROM thing ORDER BY pos"))
        self.assertEqual(rows, [(position, f"n{position}") for position in kept])

    def test_a_duplicate_among_rows_in_bulk_fails_alone(self) -> None:
        position = self.waiter.write(add_in_bulk, 1)

        def repeat(txn: Txn) -> None:
            txn.bulk("INSERT INTO thing (pos, who, what) VALUES {rows}", (position, 2, ""))

        go = self.held_back()
        answers = [self.waiter.submit(add_in_bulk, who) for who in range(5)]
        bad = self.waiter.submit(repeat)
        go.set()
        for answer in answers:
            answer()
        self.assertRaises(Duplicate, bad)

    def test_a_key_that_is_there_is_a_duplicate(self) -> None:
        position = self.waiter.write(add, 1)
        self.assertRaises(Duplicate, self.waiter.write, again, position)
        self.waiter.write(add, 2)

    def test_reading_transactions_cannot_write(self) -> None:
        self.assertRaises(RuntimeError, self.waiter.read, add, 1)

    def test_a_snapshot_sees_one_moment(self) -> None:
        self.waiter.write(add, 1)

        def twice(txn: Txn) -> tuple[int, int]:
            first = len(positions(txn))
            self.waiter.write(add, 2)
            return first, len(positions(txn))

        self.assertEqual(self.waiter.read(twice, snapshot=True), (1, 1))
        self.assertEqual(self.waiter.read(twice), (2, 3))

    def test_a_reader_beside_concurrent_writers_misses_no_row(self) -> None:
        stop = threading.Event()
        published = [0]
        self.waiter.engine._on_commit = self._publishing(published)  # the service's order: publish, then answer
        seen: list[int] = []

        def page(txn: Txn, above: int, up_to: int) -> list[int]:
            return [
                r[0] for r in txn.all("SELECT pos FROM thing WHERE pos > ? AND pos <= ? ORDER BY pos", (above, up_to))
            ]

        def follow() -> None:
            token = 0
            while not stop.is_set() or token < published[0]:
                up_to = published[0]
                seen.extend(self.waiter.read(page, token, up_to))
                token = up_to

        reader = threading.Thread(target=follow)
        reader.start()
        writers = [threading.Thread(target=self._write_some, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        stop.set()
        reader.join()
        self.assertEqual(seen, self.waiter.read(positions))
        self.assertGreater(len(seen), 200)

    def _publishing(self, published: list[int]) -> Any:
        def committed(commit: Any) -> None:
            published[0] = max(published[0], commit.position)
            self.waiter._committed(commit)

        return committed

    def _write_some(self, number: int) -> None:
        chance = random.Random(number)
        for _ in range(100):
            answer = self.waiter.submit(add, number, chance.choice(["", "", "", "bad after"]))
            try:
                answer()
            except ValueError:
                pass

    def test_positions_go_on_after_a_restart(self) -> None:
        last = self.waiter.write(add, 1)
        url = self.waiter.url
        self.waiter.close()
        self.waiter = Waiter(url)
        self.assertEqual(self.waiter.write(add, 2), last + 1)

    def test_a_second_start_on_the_same_data_is_refused(self) -> None:
        second = Engine(open_database(self.waiter.url), on_commit=lambda commit: None)
        error = self.assertRaises(InUse, second.start)
        self.assertIn("in use by another Parley process", error.reason)
        self.waiter.write(add, 1)


if ON_POSTGRESQL:

    class PostgresFaults(SynchronousTestCase):
        def setUp(self) -> None:
            self.waiter = Waiter()
            self.addCleanup(self.waiter.close)
            self.waiter.write(prepare)

        def kill_connections(self) -> None:
            admin = psycopg2.connect(self.waiter.url)
            admin.autocommit = True
            admin.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parley' "
                "AND datname = current_database()"
            )
            admin.close()

        def test_a_lost_connection_is_a_clear_error_and_comes_back(self) -> None:
            kept = self.waiter.write(add, 1)
            self.waiter.read(positions)
            self.kill_connections()
            error = self.assertRaises(Unavailable, self.waiter.write, add, 2)
            self.assertIn("cannot reach its database", error.reason)
            self.assertEqual(self.waiter.read(positions), [kept])
            self.assertEqual(self.waiter.write(add, 3), kept + 1)
            self.assertTrue(self.waiter.commits[-1].reset)

else:

    class SqliteFaults(SynchronousTestCase):
        def setUp(self) -> None:
            self.waiter = Waiter()
            self.addCleanup(self.waiter.close)
            self.waiter.write(prepare)

        def test_a_full_disk_refuses_writes_keeps_reading_and_recovers(self) -> None:
            kept = self.waiter.write(add, 1)

            def limit(txn: Any, pages: int) -> None:
                txn.connection.execute(f"PRAGMA max_page_count = {pages}")

            self.waiter.write(limit, 1)
            self.assertRaises(Full, lambda: [self.waiter.write(add, 1, "x" * 5000) for _ in range(50)])
            self.assertIn(kept, self.waiter.read(positions))
            self.waiter.write(limit, 1_000_000)
            self.waiter.write(add, 2, "x" * 5000)

        def test_a_file_locked_by_another_program_is_a_clear_error_and_passes(self) -> None:
            self.waiter.write(lambda txn: txn.connection.execute("PRAGMA busy_timeout = 50"))
            path = self.waiter.url.removeprefix("sqlite:///")
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            error = self.assertRaises(Unavailable, self.waiter.write, add, 1)
            self.assertIn("locked by another program", error.reason)
            other.execute("ROLLBACK")
            other.close()
            self.waiter.write(add, 1)

        def test_the_log_is_moved_into_the_file_by_the_checkpointer(self) -> None:
            for _ in range(30):
                for answer in [self.waiter.submit(add, 1, "y" * 100) for _ in range(100)]:
                    answer()
            self.assertTrue(self.waiter.engine._checkpointed > 0)
