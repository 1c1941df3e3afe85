# SPDX-License-Identifier: Apache-2.0
"""How a real clamd is run with signatures of our own, and what passes for one that misbehaves."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.internet.protocol import Factory, Protocol

from tests.harness.servers import free_port

MARKER = b"parley-test-marker-of-harm"


class RealClamd:
    """A clamd on a TCP port and a Unix socket that takes MARKER for a virus."""

    def __init__(self, stream_max: str = "20M") -> None:
        program = shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise AssertionError("this test needs clamd: apt-get install -y --no-install-recommends clamav-daemon")
        self.folder = Path(tempfile.mkdtemp(prefix="parley-clamd-"))
        self.port, self.socket = free_port(), self.folder / "clamd.sock"
        signatures = self.folder / "signatures"
        signatures.mkdir()
        (signatures / "parley.ndb").write_text(f"Parley.Test.Marker:0:*:{MARKER.hex()}\n")
        (self.folder / "clamd.conf").write_text(
            f"Foreground yes\nDatabaseDirectory {signatures}\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"LocalSocket {self.socket}\nStreamMaxLength {stream_max}\nMaxThreads 2\n"
        )
        self._command = [program, f"--config-file={self.folder / 'clamd.conf'}"]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError("clamd did not start: " + (self.folder / "log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Answering(Protocol):
    """Says one thing, whatever it is asked; nothing at all when that is None, and hangs up when it is empty."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        if self._answer is not None:
            self.transport.write(self._answer)  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]


class FakeClamd(Factory):
    """Answers as `answer` says at the time."""

    noisy = False
    answer: bytes | None = b"stream: OK\0"

    def buildProtocol(self, addr: object) -> Answering:
        return Answering(self.answer)
