# SPDX-License-Identifier: Apache-2.0
"""The commands as a person runs them, each in a process of its own."""

import datetime
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long enough password"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificate(certificate: Path, key: Path) -> None:
    """A certificate for localhost that signs itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Commands(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parley-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.file = self.folder / "homeserver.yaml"
        self.port = free_port()
        self.processes: list[subprocess.Popen[str]] = []
        self.addCleanup(self._end)

    def _end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def parley(self, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "homeserver", *arguments],
            cwd=ROOT,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environment},
        )

    def init(self, *more: str) -> None:
        done = self.parley(
            "init", "--server-name", "cli.test", "--data", str(self.folder), "--port", str(self.port), *more
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def start(self) -> subprocess.Popen[str]:
        """Start the server; returns when it says that it serves."""
        process = subprocess.Popen(
            [sys.executable, "-m", "homeserver", "run", "-c", str(self.file)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        self.said = ""
        self.read_until(process, "Parley serves|parley: ")
        return process

    def read_until(self, process: subprocess.Popen[str], pattern: str) -> str:
        assert process.stdout is not None
        while not re.search(pattern, self.said):
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"the server ended:\n{self.said}")
            self.said += line
        return self.said

    def ask(self, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        return answer.status, json.loads(raw) if is_json else raw.decode()

    def login(self, user: str) -> tuple[int, Any]:
        identifier = {"type": "m.id.user", "user": user}
        body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        return self.ask("POST", "/_matrix/client/v3/login", body)

    # init and check-config

    def test_every_command_has_help(self) -> None:
        for words in ("", "init", "run", "check-config", "register", "setup-link", "db", "db status", "db migrate"):
            done = self.parley(*words.split(), "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            self.assertIn("usage: parley", done.stdout)

    def test_wrong_use_is_status_2(self) -> None:
        self.assertEqual(self.parley("run").returncode, 2)
        self.assertEqual(self.parley("fly").returncode, 2)

    def test_init_writes_a_file_that_is_right_and_a_key_for_one_pair_of_eyes(self) -> None:
        self.init("--open-registration", "--no-rate-limits", "--bind", "127.0.0.2", "--database", "sqlite:///x.db")
        self.assertEqual(self.parley("check-config", "-c", str(self.file)).returncode, 0)
        text = self.file.read_text()
        self.assertIn("# ", text)
        self.assertRegex(text, r"url: \"?sqlite:///x.db")
        for line in ("enabled: true", "guests: true", "minimum_length: 1"):
            self.assertIn(f"\n  {line}\n", text)
        self.assertRegex((self.folder / "signing.key").read_text(), r"^ed25519 a_\w+ [A-Za-z0-9+/]{43}\n$")
        self.assertEqual(stat.S_IMODE((self.folder / "signing.key").stat().st_mode), 0o600)

    def test_init_overwrites_nothing(self) -> None:
        self.init()
        before = self.file.read_text(), (self.folder / "signing.key").read_text()
        done = self.parley("init", "--server-name", "other.test", "--data", str(self.folder))
        self.assertEqual(
            (done.returncode, (self.file.read_text(), (self.folder / "signing.key").read_text())), (1, before)
        )

    def test_init_with_a_wrong_value_writes_nothing(self) -> None:
        done = self.parley("init", "--server-name", "not a name", "--data", str(self.folder / "new"))
        self.assertEqual((done.returncode, (self.folder / "new").exists()), (2, False))

    def test_a_faulty_file_stops_every_command_with_status_2_and_nothing_is_changed(self) -> None:
        self.file.write_text("server_name: cli.test\nlog: {level: loud}\nport: 1\n")
        for words in ("run", "check-config", "db status", "db migrate", "register --user a", "setup-link"):
            done = self.parley(*words.split(), "-c", str(self.file))
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("homeserver.yaml:2: log.level: expected one of", done.stderr)
            self.assertIn("homeserver.yaml:3: port: unknown key", done.stderr)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["homeserver.yaml"])

    # db and register

    def test_the_database_can_be_migrated_and_looked_at(self) -> None:
        self.init()
        self.assertIn("waiting: ", self.parley("db", "status", "-c", str(self.file)).stdout)
        self.assertFalse((self.folder / "parley.db").exists())
        self.assertIn("migrations applied", self.parley("db", "migrate", "-c", str(self.file)).stdout)
        self.assertNotIn("waiting: ", self.parley("db", "status", "-c", str(self.file)).stdout)
        self.assertIn("Nothing to do", self.parley("db", "migrate", "-c", str(self.file)).stdout)

    def test_accounts_are_made_without_a_server_and_with_one(self) -> None:
        self.init()
        make = ("register", "-c", str(self.file), "--password-file", "-", "--user")
        self.assertIn("@early:cli.test", self.parley(*make, "early", given=PASSWORD + "\n").stdout)
        server = self.start()
        said = self.parley(*make, "late", "--admin", given=PASSWORD + "\n").stdout
        self.assertIn("Made @late:cli.test, a server administrator", said)
        for user in ("early", "late"):
            self.assertEqual(self.login(user)[0], 200, user)
        twice = self.parley(*make, "late", given=PASSWORD + "\n")
        self.assertEqual((twice.returncode, twice.stdout), (1, ""))
        self.assertEqual(self.parley(*make, "nobody", given="\n").returncode, 2)
        self.assertIsNone(server.poll())

    # run

    def test_the_first_start_gives_a_link_that_makes_one_administrator(self) -> None:
        self.init()
        server = self.start()
        link = re.search(r"http://localhost:\d+/_parley/setup#(\S+)", self.read_until(server, "_parley/setup#"))
        assert link is not None
        status, page = self.ask("GET", "/_parley/setup")
        self.assertEqual(status, 200)
        self.assertIn("<form>", page)
        body = {"token": link.group(1), "username": "root", "password": PASSWORD}
        self.assertEqual(self.ask("POST", "/_parley/setup", {**body, "token": "wrong"})[0], 403)
        self.assertEqual(self.ask("POST", "/_parley/setup", {**body, "username": "Not OK"})[0], 400)
        self.assertEqual(self.ask("POST", "/_parley/setup", body), (200, {"user_id": "@root:cli.test"}))
        self.assertEqual(self.ask("POST", "/_parley/setup", {**body, "username": "again"})[0], 403)
        token = self.login("root")[1]["access_token"]
        self.assertEqual(self.ask("GET", "/_matrix/client/v3/admin/whois/@root:cli.test", token=token)[0], 200)
        server.send_signal(signal.SIGTERM)
        server.wait(20)
        self.start()
        self.assertNotIn("_parley/setup#", self.said)
        again = self.parley("setup-link", "-c", str(self.file))
        self.assertRegex(again.stdout, r"/_parley/setup#\S+")

    def test_the_page_at_the_root_says_how_to_connect(self) -> None:
        self.init()
        self.start()
        status, page = self.ask("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn(f"<code>http://localhost:{self.port}</code>", page)
        self.assertEqual(self.ask("GET", "/health"), (200, {"status": "ready"}))
        self.assertEqual(self.ask("GET", "/health/live"), (200, {"status": "live"}))
        self.assertEqual(self.ask("GET", "/metrics")[0], 404)
        well_known = self.ask("GET", "/.well-known/matrix/client")
        self.assertEqual(well_known, (200, {"m.homeserver": {"base_url": f"http://localhost:{self.port}"}}))

    def test_sigterm_lets_a_write_finish_and_drops_long_polls(self) -> None:
        self.init("--open-registration")
        server = self.start()
        auth = {"type": "m.login.dummy"}
        made = self.ask("POST", "/_matrix/client/v3/register", {"username": "a", "password": PASSWORD, "auth": auth})[1]
        token = made["access_token"]
        since = self.ask("GET", "/_matrix/client/v3/sync", token=token)[1]["next_batch"]
        poll = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        path = f"/_matrix/client/v3/sync?timeout=60000&since={since}"
        poll.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        time.sleep(0.3)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait(20), 0)
        self.assertLess(time.monotonic() - began, 8)
        poll.close()
        self.start()
        self.assertEqual(self.ask("GET", "/_matrix/client/v3/account/whoami", token=token)[0], 200)

    def test_sighup_takes_over_limits_and_keeps_what_is_right(self) -> None:
        self.init()
        server = self.start()
        text = self.file.read_text()
        self.file.write_text(text + "\nrate_limits: {default: {per_second: 0.001, burst: 2}}\n")
        server.send_signal(signal.SIGHUP)
        self.read_until(server, "the configuration was reloaded")
        said = [self.ask("GET", "/_matrix/client/versions")[0] for _ in range(3)]
        self.assertEqual(said, [200, 200, 429])
        self.file.write_text(text + "\nnonsense: 1\n")
        server.send_signal(signal.SIGHUP)
        self.read_until(server, "the configuration was not reloaded")
        self.assertEqual(self.ask("GET", "/_matrix/client/versions")[0], 429)

    def test_a_second_start_on_the_same_data_says_so(self) -> None:
        self.init()
        self.start()
        second = self.parley("run", "-c", str(self.file), PARLEY_LISTENERS__0__PORT="0")
        self.assertEqual(second.returncode, 1)
        self.assertIn("in use", second.stderr)

    def test_a_port_that_is_taken_is_said(self) -> None:
        self.init()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.port))
            taken.listen()
            done = self.parley("run", "-c", str(self.file))
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(self.port), done.stderr)

    def test_a_key_that_is_gone_is_not_made_again_beside_data(self) -> None:
        self.init()
        self.parley("db", "migrate", "-c", str(self.file))
        (self.folder / "signing.key").unlink()
        done = self.parley("run", "-c", str(self.file))
        self.assertEqual(done.returncode, 2)
        self.assertIn("signing.key", done.stderr)

    def test_https_and_metrics_have_listeners_of_their_own(self) -> None:
        certificate, key = self.folder / "c.pem", self.folder / "k.pem"
        make_certificate(certificate, key)
        second = free_port()
        self.file.write_text(
            f"""
server_name: cli.test
data_dir: data
listeners:
  - {{port: {self.port}, tls: {{certificate_file: c.pem, private_key_file: k.pem}}, serve: [client]}}
  - {{port: {second}, serve: [metrics]}}
log: {{format: json}}
"""
        )
        self.start()
        context = ssl._create_unverified_context()
        secure = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)
        secure.request("GET", "/_matrix/client/versions")
        self.assertEqual(secure.getresponse().status, 200)
        secure.close()
        self.port = second
        status, text = self.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertIn('parley_http_requests_total{method="GET",path="/_matrix/client/versions",status="200"} 1.0', text)
        for name in ("parley_stream_position", "parley_commit_writes_bucket", "parley_long_polls", "process_cpu"):
            self.assertIn(name, text)
        self.assertIn("parley_reactor_lag_seconds", text)
        self.assertEqual(self.ask("GET", "/_matrix/client/versions")[0], 404)
        first = next(line for line in self.said.splitlines() if line.startswith("{"))
        self.assertEqual(json.loads(first)["level"], "INFO")
