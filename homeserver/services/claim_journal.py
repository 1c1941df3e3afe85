# SPDX-License-Identifier: Apache-2.0
"""Up to which position one-time keys have been handed out, told apart from the database.

A database that is put back to an earlier state still holds keys that were handed out since. This file, beside the
configuration's other data, says so: its position then lies in the database's future.
"""

import fcntl
import logging
import os
from pathlib import Path

from twisted.internet.defer import Deferred

from homeserver.runtime import Runtime

_log = logging.getLogger(__name__)

LENGTH = 21


class ClaimJournal:
    """One number in a file. It is on disk before a claim is answered; claims that wait share one flush."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        self._runtime = runtime
        self._path = path
        self._noted = 0
        self._wanted = 0
        self._writing: Deferred[None] | None = None

    def last(self) -> int:
        """The position of the last claim that was answered; 0 when there is none or nobody can tell."""
        try:
            text = self._path.read_text("ascii")
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            text = ""
        if not text.strip().isdecimal():
            _log.warning("%s does not say which one-time keys were handed out; it is written anew", self._path)
            return 0
        return int(text)

    async def restart_from(self, position: int) -> None:
        """The database was put back to this position, and what it still held of keys is dropped."""
        await self._runtime.in_thread(_write, self._path, position, False)

    async def note(self, position: int) -> None:
        """Return when the file says that a claim was answered at `position`, or later."""
        self._wanted = max(self._wanted, position)
        while self._noted < position:
            if self._writing is None:
                await self._write_wanted()
            else:
                await _end_of(self._writing)

    async def _write_wanted(self) -> None:
        self._writing = Deferred()
        wanted = self._wanted
        try:
            await self._runtime.in_thread(_write, self._path, wanted, True)
            self._noted = wanted
        finally:
            ended, self._writing = self._writing, None
            ended.callback(None)


async def _end_of(writing: "Deferred[None]") -> None:
    """Wait for somebody else's write, whatever becomes of it."""
    mine: Deferred[None] = Deferred()

    def pass_on(result: None) -> None:
        mine.callback(None)

    writing.addCallback(pass_on)
    await mine


def _write(path: Path, position: int, only_forward: bool) -> None:
    """Write 20 digits and a newline, always in the same place. Processes of one server share the file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        present = os.pread(file, LENGTH, 0).strip()
        if not (only_forward and present.isdigit() and int(present) >= position):
            os.pwrite(file, b"%0*d\n" % (LENGTH - 1, position), 0)
        os.fsync(file)
    finally:
        os.close(file)
