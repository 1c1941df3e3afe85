# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random instants, twenty times: what was acknowledged is there once."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from twisted.trial import unittest

from tests.faults.drill import Drill
from tests.harness.servers import Postgres, parley

KILLS = int(os.environ.get("PARLEY_KILLS", "20"))


class Killed(unittest.TestCase):
    """The whole drill on each database."""

    timeout = 900

    async def drill(self, postgres: Postgres | None) -> None:
        """Write, kill, restart, check, many times."""
        server = parley(Path(tempfile.mkdtemp(prefix="parley-kill-")) / "server", postgres)
        server.start()
        self.addCleanup(server.stop)
        drill = Drill(server, seed=20)
        await drill.prepare()
        for _ in range(KILLS):
            await drill.until_killed(drill.random.uniform(0.05, 0.8))
            server.start()
            await drill.resend()
            await drill.check()
        self.assertGreater(len(drill.events), KILLS, "the drill wrote nothing")
        self.assertGreater(len(drill.messages), KILLS)
        self.assertGreater(len(drill.claimed), KILLS)
        self.assertGreater(drill.receipt, 0)

    def test_nothing_acknowledged_is_lost_on_sqlite(self) -> None:
        asyncio.run(self.drill(None))

    def test_nothing_acknowledged_is_lost_on_postgresql(self) -> None:
        postgres = Postgres(durable=True)
        self.addCleanup(postgres.stop)
        asyncio.run(self.drill(postgres))
