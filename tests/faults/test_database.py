# SPDX-License-Identifier: Apache-2.0
"""A full disk, a database that goes away, a locked file, a second start: a clear message, and nothing is lost."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from tests.harness.connections import Person
from tests.harness.servers import ROOT, Postgres, Server, parley


class Faults(unittest.TestCase):
    """Servers of their own, each fault at a running or a starting one."""

    timeout = 240

    def server(self, postgres: Postgres | None = None) -> Server:
        """A server that is not started yet."""
        return parley(Path(tempfile.mkdtemp(prefix="parley-fault-")) / "server", postgres)

    def started(self, postgres: Postgres | None = None) -> Server:
        """A running server."""
        server = self.server(postgres)
        server.start()
        self.addCleanup(server.stop)
        return server

    def start_failing(self, server: Server) -> str:
        """Start a server that must refuse; its output."""
        done = subprocess.run(server.command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout + done.stderr

    def database_file(self, server: Server) -> Path:
        """The SQLite file of a server."""
        return next(path for path in sorted(server.folder.rglob("*.db")) if path.stat().st_size > 0)

    async def sees(self, person: Person, room: str, expected: list[str]) -> None:
        """All these events are in the room's history, once."""
        path = f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1000"
        page: dict[str, Any] = await person.http.good("GET", path)
        found = [event["event_id"] for event in page["chunk"] if event["type"] == "m.room.message"]
        self.assertEqual(sorted(found), sorted(expected))

    def test_a_second_start_on_the_same_data_is_refused(self) -> None:
        server = self.started()
        self.assertRegex(self.start_failing(server).lower(), "already|in use|another")
        asyncio.run(self.talk(server))

    def test_a_second_start_on_the_same_postgresql_is_refused(self) -> None:
        postgres = Postgres(durable=False)
        self.addCleanup(postgres.stop)
        server = self.started(postgres)
        self.assertRegex(self.start_failing(server).lower(), "already|in use|another")
        asyncio.run(self.talk(server))

    async def talk(self, server: Server) -> None:
        """The server works."""
        ann = Person(server.base, server.register(f"ann{time.monotonic_ns()}"))
        room = await ann.create_room()
        await self.sees(ann, room, [await ann.send(room, "hello")])

    def test_a_locked_file_is_named_at_start_and_loses_nothing(self) -> None:
        server = self.server()
        server.start()
        server.stop()
        lock = sqlite3.connect(self.database_file(server), isolation_level=None)
        self.addCleanup(lock.close)
        lock.execute("PRAGMA locking_mode = EXCLUSIVE")
        lock.execute("BEGIN EXCLUSIVE")
        self.assertIn("lock", self.start_failing(server).lower())
        lock.close()
        server.start()
        self.addCleanup(server.stop)
        asyncio.run(self.talk(server))

    def test_a_full_disk_fails_writes_clearly_and_reads_go_on(self) -> None:
        server = self.started()
        asyncio.run(self.full_disk(server))

    async def full_disk(self, server: Server) -> None:
        """No file of the server can grow for a while."""
        ann = Person(server.base, server.register("ann"))
        room = await ann.create_room()
        kept = [await ann.send(room, "before")]
        limits = resource.prlimit(server.pid(), resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid(), resource.RLIMIT_FSIZE, (4096, limits[1]))
        for number in range(3):
            path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/full{number}"
            status, answer = await ann.http.call("PUT", path, {"msgtype": "m.text", "body": "x" * 30_000})
            self.assertGreaterEqual(status, 500, answer)
            self.assertIn("errcode", answer)
        await self.sees(ann, room, kept)
        resource.prlimit(server.pid(), resource.RLIMIT_FSIZE, limits)
        kept.append(await ann.send(room, "after", "full0"))
        kept.append(await ann.send(room, "later"))
        await self.sees(ann, room, kept)
        log = (server.folder / "out.log").read_text().lower()
        self.assertRegex(log, "disk|full|i/o")

    def test_postgresql_goes_away_and_comes_back(self) -> None:
        postgres = Postgres(durable=True)
        self.addCleanup(postgres.stop)
        server = self.started(postgres)
        asyncio.run(self.outage(server, postgres))

    async def outage(self, server: Server, postgres: Postgres) -> None:
        """The cluster is stopped at once and started again, twice."""
        ann = Person(server.base, server.register("ann"))
        room = await ann.create_room()
        kept = [await ann.send(room, "before")]
        for number in range(2):
            postgres.halt()
            path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/gone{number}"
            status, answer = await asyncio.wait_for(ann.http.call("PUT", path, {"msgtype": "m.text", "body": "x"}), 30)
            self.assertGreaterEqual(status, 500, answer)
            self.assertIn("errcode", answer)
            postgres.start()
            kept.append(await self.retried(ann, room, f"gone{number}"))
            kept.append(await ann.send(room, f"after outage {number}"))
            await self.sees(ann, room, kept)

    async def retried(self, ann: Person, room: str, txn: str) -> str:
        """What a client does: the same transaction again until it is answered."""
        for _ in range(40):
            path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}"
            status, answer = await ann.http.call("PUT", path, {"msgtype": "m.text", "body": "x"})
            if status == 200:
                return str(answer["event_id"])
            await asyncio.sleep(0.25)
        raise AssertionError(f"the server did not recover: {status} {answer}")
