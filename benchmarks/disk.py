# SPDX-License-Identifier: Apache-2.0
"""Bytes on disk per event, indexes included and transaction-id rows excluded, of a stopped server's database."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

from benchmarks.scenarios import Figures, Sizes, fill_rooms
from tests.harness.servers import Server

TRANSACTION_TABLES = {"Parley": ("txn",), "Synapse": ("event_txn_id_device_id",)}
EVENT_TABLE = {"Parley": "event", "Synapse": "events"}


def _sqlite(server: Server) -> tuple[int, int]:
    source = next(path for path in sorted(server.folder.rglob("*.db")) if path.stat().st_size > 0)
    copy = Path(str(source) + ".measured")
    for suffix in ("", "-wal"):
        if Path(str(source) + suffix).exists():
            shutil.copy(str(source) + suffix, str(copy) + suffix)
    with sqlite3.connect(copy) as database:
        for table in TRANSACTION_TABLES[server.name]:
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant of this module
        (events,) = database.execute(f"SELECT count(*) FROM {EVENT_TABLE[server.name]}").fetchone()  # noqa: S608
    database.execute("VACUUM")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    size = copy.stat().st_size
    for suffix in ("", "-wal", "-shm"):
        Path(str(copy) + suffix).unlink(missing_ok=True)
    return size, int(events)


def _postgres(server: Server) -> tuple[int, int]:
    assert server.postgres is not None
    run = server.postgres.sql
    for table in TRANSACTION_TABLES[server.name]:
        run(f"DELETE FROM {table}", server.database)  # noqa: S608 - a constant of this module
    run("VACUUM FULL", server.database)
    events = run(f"SELECT count(*) FROM {EVENT_TABLE[server.name]}", server.database)  # noqa: S608
    return int(run(f"SELECT pg_database_size('{server.database}')", server.database)), int(events)  # noqa: S608


def measure(server: Server) -> tuple[int, int]:
    """Bytes and number of events, after compaction; the server must be stopped."""
    return _postgres(server) if server.postgres else _sqlite(server)


def bytes_per_event(server: Server, sizes: Sizes, members: int) -> Figures:
    """Fill rooms of `members` people and divide what the database grew by the events it gained."""
    server.start()
    asyncio.run(fill_rooms(server, "warm", members, 5, 100))
    server.stop()
    before_bytes, before_events = measure(server)
    server.start()
    rooms = max(1, sizes.disk_messages // 100)
    asyncio.run(fill_rooms(server, "measured", members, rooms, sizes.disk_messages))
    server.stop()
    after_bytes, after_events = measure(server)
    per_event = (after_bytes - before_bytes) / (after_events - before_events)
    return {f"disk, rooms of {members}: bytes per event": per_event}
