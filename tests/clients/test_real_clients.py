# SPDX-License-Identifier: Apache-2.0
"""Unmodified third-party clients, encryption included, against a server started by its own command line."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from twisted.trial import unittest

from tests.clients import installs
from tests.harness.servers import Postgres, Server, parley

HERE = Path(__file__).resolve().parent


class RealClients(unittest.TestCase):
    """On SQLite."""

    timeout = 600

    def start_database(self) -> Postgres | None:
        """The cluster that the server is to use, None for SQLite."""
        return None

    def setUp(self) -> None:
        postgres = self.start_database()
        if postgres:
            self.addCleanup(postgres.stop)
        self.server: Server = parley(Path(tempfile.mkdtemp(prefix="parley-clients-")) / "server", postgres)
        self.addCleanup(self.server.stop)
        self.server.start()

    def run_journey(self, command: list[str], cwd: Path) -> None:
        """Run a client program and report its steps when one fails."""
        done = subprocess.run([*command, self.server.base], cwd=cwd, capture_output=True, text=True, timeout=240)
        log = (self.server.folder / "out.log").read_text()
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr[-4000:]}\nserver log:\n{log[-4000:]}")
        self.assertNotIn("Traceback", log, log)
        self.assertRegex(done.stdout, "ok (the end|logging out removes the device for everybody)\n$")

    def test_matrix_nio_with_encryption(self) -> None:
        self.run_journey([installs.nio_python(), str(HERE / "nio_journey.py")], HERE)

    def run_script(self, name: str) -> None:
        """Run one of the programs in `js/`."""
        home = installs.js_folder()
        self.run_journey([installs.node(home), "--no-deprecation", name], home)

    def test_matrix_js_sdk_with_rust_crypto(self) -> None:
        self.run_script("journey.mjs")

    def test_matrix_js_sdk_over_sliding_sync(self) -> None:
        self.run_script("sliding.mjs")

    def test_matrix_js_sdk_in_spaces_and_threads(self) -> None:
        self.run_script("spaces.mjs")

    def test_matrix_bot_sdk(self) -> None:
        self.run_script("bot.mjs")


class RealClientsOnPostgres(RealClients):
    """The same on PostgreSQL."""

    def start_database(self) -> Postgres | None:
        """A cluster of our own."""
        return Postgres(durable=False)
