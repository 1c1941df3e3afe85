# SPDX-License-Identifier: Apache-2.0
"""How a real S3 server is run that checks signatures: OpenStack Swift with s3api."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.clients.installs import python_with
from tests.harness.servers import free_port

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
HERE = Path(__file__).resolve().parent
PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:cache]
use = egg:swift#memcache
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class Swift:
    """Four processes with one disk: a folder."""

    def __init__(self) -> None:
        self._binaries = Path(python_with("swift", HERE / "requirements.txt")).parent
        self.folder = Path(tempfile.mkdtemp(prefix="parley-swift-"))
        (self.folder / "disks" / "sd1").mkdir(parents=True)
        (self.folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_prefix = parley\nswift_hash_path_suffix = test\n"
            "[storage-policy:0]\nname = p0\ndefault = yes\n"
        )
        self._environment = {**os.environ, "SWIFT_DIR": str(self.folder)}
        self._ports = []
        for kind in ("account", "container", "object"):
            pipeline = f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            self._ports.append(self._configure(kind, pipeline, ring=True))
        self.port = self._configure("proxy", PROXY, ring=False)
        self._ports.append(self.port)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start()

    def _configure(self, kind: str, pipeline: str, *, ring: bool) -> int:
        port, user = free_port(), pwd.getpwuid(os.geteuid()).pw_name
        (self.folder / f"{kind}.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nuser = {user}\n"
            f"swift_dir = {self.folder}\ndevices = {self.folder / 'disks'}\nmount_check = false\n"
            f"workers = 0\n{pipeline}"
        )
        if ring:
            builder = str(self.folder / f"{kind}.builder")
            for step in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/sd1", "1"], ["rebalance"]):
                command = [str(self._binaries / "swift-ring-builder"), builder, *step]
                done = subprocess.run(command, env=self._environment, capture_output=True)
                assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a warning
        return port

    def start(self) -> None:
        """Start the servers and wait for the one that clients talk to."""
        with (self.folder / "log").open("ab") as log:
            for kind in ("account", "container", "object", "proxy"):
                command = [str(self._binaries / f"swift-{kind}-server"), str(self.folder / f"{kind}.conf")]
                options = {"env": self._environment, "stdout": log, "stderr": log, "start_new_session": True}
                self._processes.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
        for port in self._ports:
            self._wait_for(port)

    def _wait_for(self, port: int) -> None:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError("Swift did not start: " + (self.folder / "log").read_text())

    def stop(self) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self._processes = []

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
