# SPDX-License-Identifier: Apache-2.0
"""Databases for storage tests: a SQLite file in a temporary directory, or PostgreSQL where the environment says so."""

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.db import Committed, Engine, WriteItem, open_database
from storage.migrate import migrate
from tests.harness import postgres

ON_POSTGRESQL = os.environ.get("PARLEY_TEST_DATABASE") == "postgresql"


def new_url() -> str:
    """A fresh, empty database on the database system that the environment asks for."""
    if ON_POSTGRESQL:
        return postgres.create()
    return f"sqlite:///{Path(tempfile.mkdtemp(prefix='parley-test-')) / 'parley.db'}"


class Waiter:
    """An engine whose writes and reads can be waited for in a plain thread."""

    def __init__(self, url: str | None = None, *, readers: int = 2) -> None:
        self.url = url or new_url()
        self.commits: list[Committed] = []
        database = open_database(self.url)
        migrate(database)
        self.engine = Engine(database, on_commit=self._committed, readers=readers)
        self.engine.start()

    def _committed(self, commit: Committed) -> None:
        self.commits.append(commit)
        for outcome in commit.outcomes:
            outcome.token(outcome.result, outcome.error)

    def submit(self, fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Queues a write; the answer waits for its result and raises its error."""
        done = threading.Event()
        box: list[Any] = []

        def deliver(result: Any, error: Exception | None) -> None:
            box.extend((result, error))
            done.set()

        self.engine.submit(WriteItem(fn, args, deliver))
        return lambda: _result(done, box)

    def write(self, fn: Callable[..., Any], *args: Any) -> Any:
        return self.submit(fn, *args)()

    def read(self, fn: Callable[..., Any], *args: Any, snapshot: bool = False) -> Any:
        done = threading.Event()
        box: list[Any] = []

        def deliver(result: Any, error: Exception | None) -> None:
            box.extend((result, error))
            done.set()

        self.engine.read(fn, args, snapshot, deliver)
        return _result(done, box)

    def close(self) -> None:
        self.engine.stop()


def _result(done: threading.Event, box: list[Any]) -> Any:
    if not done.wait(30):
        raise AssertionError("the database did not answer in 30 s")
    if box[1] is not None:
        raise box[1]
    return box[0]
