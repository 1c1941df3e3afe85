# SPDX-License-Identifier: Apache-2.0
"""mautrix-python, unmodified, as a real service: acting, devices, transactions, encryption."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.clients import installs
from tests.harness.servers import Postgres, free_port, parley

HERE = Path(__file__).resolve().parent
AS_TOKEN, HS_TOKEN = "the-token-of-the-service", "the-token-of-the-server"


class Mautrix(TestCase):
    """On SQLite."""

    timeout = 600

    def start_database(self) -> Postgres | None:
        return None

    def test_a_bridge_with_encryption(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="parley-mautrix-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        postgres = self.start_database()
        if postgres:
            self.addCleanup(postgres.stop)
        server, port = parley(folder / "server", postgres), free_port()
        registration = server.folder / "irc.yaml"
        registration.write_text(
            f"""
id: irc
url: http://127.0.0.1:{port}
as_token: {AS_TOKEN}
hs_token: {HS_TOKEN}
sender_localpart: ircbot
rate_limited: false
namespaces:
  users: [{{regex: "@irc_.*:localhost", exclusive: true}}]
org.matrix.msc3202: true
de.sorunome.msc2409.push_ephemeral: true
io.element.msc4190: true
"""
        )
        with (server.folder / "homeserver.yaml").open("a") as settings:
            settings.write("\nappservices: [irc.yaml]\n")
        self.addCleanup(server.stop)
        server.start()
        server.register("alice")
        python = installs.python_with("mautrix", HERE / "mautrix.txt")
        command = [python, str(HERE / "mautrix_journey.py"), server.base, str(port), AS_TOKEN, HS_TOKEN]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
        log = (server.folder / "out.log").read_text()
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr[-4000:]}\nserver log:\n{log[-4000:]}")
        self.assertTrue(done.stdout.endswith("ok the end\n"), done.stdout)
        self.assertNotIn("Traceback", log, log)


class MautrixOnPostgres(Mautrix):
    """The same on PostgreSQL."""

    def start_database(self) -> Postgres | None:
        return Postgres(durable=False)
