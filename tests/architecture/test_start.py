# SPDX-License-Identifier: Apache-2.0
"""What a start loads: heavy libraries come when they are first needed."""

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[2]
# bcrypt is not among them: cryptography, which comes with TLS, loads it.
LAZY = {
    "autobahn",
    "PIL",
    "argon2",
    "jwt",
    "treq",
    "prometheus_client",
    "twisted.mail",
    "lxml",
    "jinja2",
    "boto3",
}


def loaded(*arguments: str) -> set[str]:
    """The modules that a Python process imported, and their packages."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, env={**os.environ}
    )
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return names | {name.partition(".")[0] for name in names}


class Starting(TestCase):
    def test_help_loads_no_server(self) -> None:
        names = loaded("-m", "homeserver", "--help")
        self.assertEqual(names & {"twisted", "storage", "orjson", "yaml", "attr"}, set())

    def test_checking_a_configuration_loads_no_reactor(self) -> None:
        names = loaded("-m", "homeserver", "check-config", "-c", "homeserver.yaml")
        self.assertEqual(names & ({"twisted", "psycopg2", "cryptography"} | LAZY), set())

    def test_an_idle_server_has_loaded_nothing_it_may_never_need(self) -> None:
        names = loaded("-c", "import homeserver.app, homeserver.supervise, homeserver.cli.run")
        self.assertIn("homeserver.app", names)
        self.assertEqual(names & LAZY, set())
