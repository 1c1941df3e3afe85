# SPDX-License-Identifier: Apache-2.0
"""How clamd is asked about files, and what becomes of those it has not been asked about."""

import logging
import socket
from typing import BinaryIO

from homeserver.config.media import Clamd as Settings
from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.media_files import MediaFiles
from storage import media_verdicts
from storage.media_verdicts import Verdict

CHUNK = 1 << 16
MAX_ANSWER = 4096
CLAMD_THREADS = 4

_log = logging.getLogger(__name__)


class Unanswered(Exception):
    """clamd is not there, too slow, or says nonsense."""


class Clamd:
    """The INSTREAM command. Every call blocks: call it in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def scan(self, file: BinaryIO) -> str | None:
        """The name of what is found in a file, None for nothing; raises Unanswered."""
        try:
            with self._connect() as connection:
                return _meaning(self._ask(connection, file))
        except OSError as error:
            raise Unanswered(str(error) or type(error).__name__) from None

    def _connect(self) -> socket.socket:
        settings, seconds = self._settings, self._settings.timeout / 1000
        if settings.socket is None:
            return socket.create_connection((settings.host, settings.port), seconds)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        try:
            connection.connect(str(settings.socket))
        except OSError:
            connection.close()
            raise
        return connection

    def _ask(self, connection: socket.socket, file: BinaryIO) -> bytes:
        try:
            connection.sendall(b"zINSTREAM\0")
            while chunk := file.read(CHUNK):
                connection.sendall(len(chunk).to_bytes(4, "big") + chunk)
            connection.sendall(b"\0\0\0\0")
        except ConnectionError:
            pass  # it hangs up on what it does not want, and has said why
        answer = b""
        while not answer.endswith(b"\0") and len(answer) < MAX_ANSWER and (data := connection.recv(MAX_ANSWER)):
            answer += data
        return answer


def _meaning(answer: bytes) -> str | None:
    text = answer.rstrip(b"\0").decode("ascii", "replace")
    if text == "stream: OK":
        return None
    if text.startswith("stream: ") and text.endswith(" FOUND"):
        return text[len("stream: ") : -len(" FOUND")]
    raise Unanswered(f"it answered {text[:200]!r}")


class VirusScan:
    """Verdicts on contents, each kept under its hash: the same content is scanned once."""

    def __init__(self, settings: Settings, database: Database, runtime: Runtime, files: MediaFiles) -> None:
        self._refuses = settings.when_down == "refuse"
        self._clamd = Clamd(settings)
        self._database = database
        self._runtime = runtime
        self._files = files
        self._answers = True
        self.scans = 0
        self.threats = 0

    @property
    def answers(self) -> bool:
        """Whether clamd answered when it was last asked."""
        return self._answers

    async def threat(self, sha256: bytes) -> str | None:
        """What is known, or found now, in a content that is stored here; None for nothing.

        Raises FileNotFoundError; M_UNKNOWN (503) when clamd does not answer and files are not to be taken then.
        """
        known = await self._database.point(media_verdicts.find, sha256)
        if known is not None:
            return known.threat
        try:
            found = await self._runtime.in_pool("clamd", CLAMD_THREADS, self._scan, sha256)
        except Unanswered as error:
            if self._answers:
                _log.error("clamd: %s; files are %s", error, "refused" if self._refuses else "accepted")
            self._answers = False
            if self._refuses:
                raise MatrixError(503, "M_UNKNOWN", "Files cannot be checked for viruses at the moment") from None
            return None
        if not self._answers:
            _log.info("clamd answers again")
            self._answers = True
        self.scans += 1
        if found is not None:
            self.threats += 1
            _log.warning("a file holds %s: %s", found, sha256.hex())
        await self._database.write(media_verdicts.put, sha256, Verdict(found, self._runtime.now_ms()))
        return found

    def _scan(self, sha256: bytes) -> str | None:
        with self._files.open(sha256) as file:
            return self._clamd.scan(file)
