# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of media lie on disk: each content once, under its SHA-256, whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK = 1 << 16


class Readable(Protocol):
    """What can be read from its start to its end."""

    def read(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""


class MediaFiles:
    """A folder of contents and of what is made from them. Every call blocks: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self, source: Readable) -> tuple[bytes, int]:
        """Copy what is left in `source`; returns its SHA-256 and size. It is there whole when this returns."""
        digest, size = hashlib.sha256(), 0
        target, name = self._begin()
        try:
            with target:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            self._place(name, digest.digest())
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        return digest.digest(), size

    def open(self, sha256: bytes) -> BinaryIO:
        """The content; raises FileNotFoundError."""
        return self._content(sha256).open("rb")

    def delete(self, sha256: bytes, *, unused_since: float | None = None) -> bool:
        """Forget a content and what was made of it; not when it was stored after `unused_since` (Unix time)."""
        content = self._content(sha256)
        if unused_since is not None and content.exists() and content.stat().st_mtime > unused_since:
            return False
        shutil.rmtree(self._derived(sha256), ignore_errors=True)
        content.unlink(missing_ok=True)
        return True

    def open_derived(self, sha256: bytes, name: str) -> BinaryIO | None:
        """What was made of a content and kept under a name, such as a thumbnail."""
        try:
            return (self._derived(sha256) / name).open("rb")
        except FileNotFoundError:
            return None

    def keep_derived(self, sha256: bytes, name: str, data: bytes) -> None:
        target, temporary = self._begin()
        with target:
            target.write(data)
        self._move(temporary, self._derived(sha256) / name)

    def clear_incoming(self) -> None:
        """Delete what an interrupted upload left; call before anything is uploaded."""
        for left in (self._folder / "incoming").glob("*"):
            left.unlink(missing_ok=True)

    def _begin(self) -> tuple[BinaryIO, Path]:
        """A file to be written, and where it is."""
        incoming = self._folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=incoming)
        return os.fdopen(handle, "wb"), Path(name)

    def _place(self, file: Path, sha256: bytes) -> None:
        """Makes a whole file the content of that hash."""
        self._move(file, self._content(sha256))

    def _move(self, source: Path, target: Path) -> None:
        try:
            os.utime(target)
        except FileNotFoundError:
            pass
        else:
            source.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _content(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / "content" / name[:2] / name[2:4] / name

    def _derived(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / "derived" / name[:2] / name[2:4] / name
