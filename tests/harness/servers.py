# SPDX-License-Identifier: Apache-2.0
"""How homeservers and databases run as processes of their own: installed, started, measured from outside, stopped."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import IO

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent
SECRET = "shared secret of the benchmark"
SYNAPSE_VERSION = "1.163.2"
PSYCOPG2_VERSION = "2.9.13"
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += _children(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its living and reaped descendants, user and system."""
    total = 0
    for one in _children(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        total += sum(int(n) for n in fields[11:15])
    return total / TICKS


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its descendants in MB."""
    total = 0
    for one in _children(pid):
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except FileNotFoundError:
            continue
    return total / 1024


class Postgres:
    """A PostgreSQL cluster of our own, on a Unix socket in a temporary folder."""

    def __init__(self, durable: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parley-pg-"))
        binaries = subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
        drop: dict[str, object] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            drop = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        run = {"cwd": self.folder, "env": {**os.environ, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}, **drop}
        init = [f"{binaries}/initdb", "-D", "data", "-U", "parley", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, **run)  # type: ignore[call-overload]
        self._settings = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "shared_buffers=256MB"]
        if not durable:
            self._settings += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._binary, self._run = f"{binaries}/postgres", run
        self.start()

    def start(self) -> None:
        """Start the cluster, also again after `halt`."""
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            [self._binary, "-D", "data", *self._settings], stderr=log, stdout=log, **self._run
        )
        self._wait()

    def halt(self) -> None:
        """Stop the cluster at once and keep its data."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def _wait(self) -> None:
        for _ in range(200):
            if self.sql("SELECT 1", check=False) == "1":
                return
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.05)
        raise RuntimeError("PostgreSQL did not start")

    def sql(self, text: str, database: str = "postgres", check: bool = True) -> str:
        """Run one statement with psql and return its output."""
        command = ["psql", "-h", str(self.folder), "-U", "parley", "-d", database, "-Atqc", text]
        done = subprocess.run(command, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    def create(self, name: str) -> str:
        """Make an empty database and return its name."""
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        return name

    def url(self, name: str) -> str:
        """The URL of a database for `database: {url}`."""
        return f"postgresql://parley@/{name}?host={self.folder}"

    def stop(self) -> None:
        """Stop the cluster and remove its folder."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def _with_bytecode() -> dict[str, str]:
    """Our environment, but Python keeps compiled modules, as it does wherever people run a server."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "pycache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


@attrs.define
class Server:
    """A running homeserver as tests and benchmarks see it from outside."""

    name: str
    folder: Path
    base: str
    command: list[str]
    postgres: Postgres | None
    database: str
    process: subprocess.Popen[bytes] | None = None
    _log: IO[bytes] | None = None

    def start(self) -> float:
        """Start the process; seconds until it first answered."""
        began = time.perf_counter()
        self._log = open(self.folder / "out.log", "ab")
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, stdout=self._log, stderr=self._log, env=_with_bytecode()
        )
        for _ in range(2400):
            try:
                with urllib.request.urlopen(f"{self.base}/_matrix/client/versions", timeout=5) as reply:
                    if reply.status == 200:
                        return time.perf_counter() - began
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.025)
        raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'out.log').read_text()[-4000:]}")

    def stop(self, hard: bool = False) -> None:
        """Stop the process; `hard` is SIGKILL."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            self.process.wait(60)
            self.process = None
        if self._log is not None:
            self._log.close()

    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def cpu(self) -> float:
        """CPU seconds used so far by the server and by its PostgreSQL cluster."""
        return cpu_seconds(self.pid()) + (cpu_seconds(self.postgres.process.pid) if self.postgres else 0.0)

    def register(self, user: str, admin: bool = False) -> dict[str, str]:
        """Make an account through the shared-secret endpoint; the answer holds the access token."""
        path = f"{self.base}/_synapse/admin/v1/register"
        with urllib.request.urlopen(path, timeout=60) as reply:
            nonce = json.load(reply)["nonce"]
        parts = [nonce, user, "benchmark", "admin" if admin else "notadmin"]
        mac = hmac.new(SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": user, "password": "benchmark", "admin": admin, "mac": mac}
        request = urllib.request.Request(path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer: dict[str, str] = json.load(reply)
            return answer


def parley(folder: Path, postgres: Postgres | None) -> Server:
    """A new Parley with its own data folder, configured by its own `init`."""
    port = free_port()
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "homeserver", "init", "--server-name", "localhost", "--data", str(folder)]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--open-registration", "--no-rate-limits"]
    database = ""
    if postgres:
        database = postgres.create(f"parley_{port}")
        command += ["--database", postgres.url(database)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    os.environ["PARLEY_REGISTRATION__SHARED_SECRET"] = SECRET
    run = [sys.executable, "-m", "homeserver", "run", "-c", str(folder / "homeserver.yaml")]
    return Server("Parley", folder, f"http://127.0.0.1:{port}", run, postgres, database)


def synapse_python(postgres: bool = False) -> Path:
    """The interpreter of the peer's own virtual environment, made from its lock file at the first call.

    With `postgres` it also has psycopg2 itself, which is built from source and needs a compiler and libpq's headers.
    """
    given = os.environ.get("PARLEY_PEER_VENV")
    home = Path(given) if given else ROOT / ".cache" / f"synapse-{SYNAPSE_VERSION}"
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if not given and not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        lock = Path(__file__).with_name("synapse.txt")
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)], check=True)
        (home / "done").touch()
    if postgres and not given and not (home / "done-postgres").exists():
        subprocess.run([*pip, f"psycopg2=={PSYCOPG2_VERSION}"], check=True)
        (home / "done-postgres").touch()
    return python


_UNLIMITED = {"per_second": 1_000_000, "burst_count": 1_000_000}


def synapse(folder: Path, postgres: Postgres | None) -> Server:
    """A new Synapse with its own data folder and without rate limits."""
    port = free_port()
    folder.mkdir(parents=True)
    name = f"synapse_{port}"
    database: dict[str, object] = {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}}
    if postgres:
        postgres.create(name)
        args = {"user": "parley", "dbname": name, "host": str(postgres.folder), "cp_min": 5, "cp_max": 10}
        database = {"name": "psycopg2", "args": args}
    log = folder / "log.yaml"
    log.write_text("version: 1\nroot: {level: WARNING}\ndisable_existing_loggers: false\n")
    listener = {"port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "resources": [{"names": ["client"]}]}
    limits = ("rc_message", "rc_registration", "rc_joins_per_room", "rc_third_party_invite", "rc_room_creation")
    config = {
        "server_name": "localhost",
        "listeners": [listener],
        "database": database,
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "log_config": str(log),
        "report_stats": False,
        "registration_shared_secret": SECRET,
        "macaroon_secret_key": "benchmark",
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "trusted_key_servers": [],
        "presence": {"enabled": False},
        "bcrypt_rounds": 4,
        **{key: _UNLIMITED for key in limits},
        "rc_login": {key: _UNLIMITED for key in ("address", "account", "failed_attempts")},
        "rc_joins": {key: _UNLIMITED for key in ("local", "remote")},
        "rc_invites": {key: _UNLIMITED for key in ("per_room", "per_user", "per_issuer")},
    }
    path = folder / "homeserver.yaml"
    path.write_text(json.dumps(config, indent=1))
    python = synapse_python(postgres is not None)
    generate = [str(python), "-m", "synapse.app.homeserver", "-c", str(path), "--generate-keys"]
    subprocess.run(generate, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    run = [str(python), "-m", "synapse.app.homeserver", "-c", str(path)]
    return Server("Synapse", folder, f"http://127.0.0.1:{port}", run, postgres, name if postgres else "")
