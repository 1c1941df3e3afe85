# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server for one test process, and fresh databases on it."""

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import psycopg2

_numbers = itertools.count(1)


@cache
def server(fsync: bool = False) -> str:
    """The socket folder of a running server, started when first asked for and ended with the process.

    initdb refuses root, so root becomes the user postgres. Only a Unix socket: no port to collide with.
    """
    binaries = subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
    folder = tempfile.mkdtemp(prefix="parley-pg-")
    environment = {**os.environ, "HOME": folder, "LC_ALL": "C.UTF-8"}
    as_user: dict[str, object] = {"cwd": folder, "env": environment}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        as_user |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    init = [binaries + "/initdb", "-D", folder + "/data", "-U", "parley", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*init, "--locale=C.UTF-8", "-N"], check=True, stdout=subprocess.DEVNULL, **as_user)  # type: ignore[call-overload]
    settings = ["listen_addresses=", "max_connections=60", "shared_buffers=32MB"]
    settings += [] if fsync else ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
    command = [binaries + "/postgres", "-D", folder + "/data", "-k", folder]
    command += [part for setting in settings for part in ("-c", setting)]
    log = open(folder + "/log", "wb")  # noqa: SIM115
    process = subprocess.Popen(command, stdout=log, stderr=log, **as_user)  # type: ignore[call-overload]
    atexit.register(_end, process, folder)
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError("PostgreSQL did not start:\n" + Path(folder, "log").read_text())
        try:
            psycopg2.connect(host=folder, user="parley", dbname="postgres").close()
            return folder
        except psycopg2.OperationalError:
            time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not answer within 10 seconds")


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(20)
    shutil.rmtree(folder, ignore_errors=True)


def url(name: str, fsync: bool = False) -> str:
    """The address of a database of that name."""
    return f"postgresql://parley@/{name}?host={server(fsync)}"


def create(template: str | None = None, fsync: bool = False) -> str:
    """Make a database, a copy of `template` (to which nobody may be connected) or empty; give its address."""
    name = f"t{next(_numbers)}"
    connection = psycopg2.connect(host=server(fsync), user="parley", dbname="postgres")
    connection.autocommit = True
    copy = f" TEMPLATE {template} STRATEGY file_copy" if template else ""
    connection.cursor().execute(f"CREATE DATABASE {name}{copy}")
    connection.close()
    return url(name, fsync)
