# SPDX-License-Identifier: Apache-2.0
"""Unread counts equal one row per user and event, whatever happens."""

import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from homeserver.runtime import Runtime
from homeserver.services.database import Database
from tests.harness.server import fresh_database
from tests.userdata.unread_world import World

WORLDS = int(os.environ.get("PARLEY_UNREAD_WORLDS", "25"))
STEPS = 45


class UnreadCountTests(TestCase):
    timeout = 600

    async def setUp(self) -> None:  # type: ignore[override]
        folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.runtime = Runtime(reactor)
        self.database = Database(self.runtime, fresh_database(folder), synchronous="OFF")
        self.database.open()
        self.addCleanup(self.runtime.stop)
        self.addCleanup(self.database.close)

    async def test_counts_equal_one_row_per_user_and_event(self) -> None:
        found = 0
        for seed in range(WORLDS):
            world = World(self.database, self.runtime, seed)
            await world.begin()
            for step in range(STEPS):
                await world.step()
                if step % 5 == 4:
                    found += await world.compare()
        self.assertGreater(found, WORLDS * 20)
