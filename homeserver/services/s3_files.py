# SPDX-License-Identifier: Apache-2.0
"""How contents are kept in an S3 bucket, with those last used on disk as well."""

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from homeserver.config.media import S3 as Settings
from homeserver.services.media_files import MediaFiles

CHUNK = 1 << 16
CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 5, 15, 2
CONNECTIONS = 10

_log = logging.getLogger(__name__)


class Bucket(Protocol):
    """Objects under names. Every call blocks and raises OSError, FileNotFoundError for an object that is not there."""

    def has(self, name: str, size: int) -> bool:
        """Whether there is such an object of that size."""

    def put(self, name: str, file: BinaryIO) -> None:
        """Keep what is left in a file."""

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        """Hand an object on, a piece at a time."""

    def delete(self, name: str) -> None:
        """Forget an object, if it is there."""


class S3Bucket:
    """A bucket of a server that speaks S3; boto3 is imported when it is first needed."""

    def __init__(self, settings: Settings, read_seconds: float = READ_SECONDS) -> None:
        self._settings = settings
        self._read_seconds = read_seconds
        self._lock = threading.Lock()
        self._made: Any = None

    def has(self, name: str, size: int) -> bool:
        try:
            return bool(self._call("head_object", Key=name).get("ContentLength") == size)
        except FileNotFoundError:
            return False

    def put(self, name: str, file: BinaryIO) -> None:
        if not self._call("put_object", Key=name, Body=file).get("ETag"):
            raise OSError("S3: what answered is no S3 server")

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        body = self._call("get_object", Key=name)["Body"]
        try:
            for piece in body.iter_chunks(CHUNK):
                write(piece)
        except Exception as error:  # urllib3's and botocore's own: a connection that breaks
            raise OSError(f"S3: {error}") from None
        finally:
            body.close()

    def delete(self, name: str) -> None:
        self._call("delete_object", Key=name)

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(), operation)(Bucket=self._settings.bucket, **arguments)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise FileNotFoundError(arguments["Key"]) from None
            raise OSError(f"S3: {error}") from None
        except (BotoCoreError, ValueError) as error:
            raise OSError(f"S3: {error}") from None

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._connected()
            return self._made

    def _connected(self) -> Any:
        import boto3
        from botocore.config import Config

        settings = self._settings
        return boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=self._read_seconds,
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                max_pool_connections=CONNECTIONS,
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


class S3Files(MediaFiles):
    """Contents in a bucket. Those last used, and all thumbnails, are in the folder, which may be lost at any time."""

    def __init__(self, folder: Path, bucket: Bucket, cache_size: int) -> None:
        super().__init__(folder)
        self._bucket = bucket
        self._cache_size = cache_size
        self._trimming = threading.Lock()
        self._since_trim = cache_size  # what there is at the start is looked at soon

    def open(self, sha256: bytes) -> BinaryIO:
        try:
            file = super().open(sha256)
            os.utime(file.fileno())
            return file
        except FileNotFoundError:
            return self._fetched(sha256)

    def delete(self, sha256: bytes, *, unused_since: float | None = None) -> bool:
        # The copy on disk tells when it was last stored or read.
        if not super().delete(sha256, unused_since=unused_since):
            return False
        self._bucket.delete(_name(sha256))
        return True

    def _place(self, file: Path, sha256: bytes) -> None:
        size = file.stat().st_size
        if not self._bucket.has(_name(sha256), size):
            with file.open("rb") as source:
                self._bucket.put(_name(sha256), source)
        super()._place(file, sha256)
        self._trim(size)

    def _fetched(self, sha256: bytes) -> BinaryIO:
        digest, size = hashlib.sha256(), 0
        file, name = self._begin()
        try:
            with file:

                def write(piece: bytes) -> None:
                    nonlocal size
                    size += len(piece)
                    digest.update(piece)
                    file.write(piece)

                self._bucket.get(_name(sha256), write)
            if digest.digest() != sha256:
                raise OSError(f"S3: the object {_name(sha256)} is not what was put there")
            found = name.open("rb")
            super()._place(name, sha256)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
        self._trim(size)
        return found

    def _trim(self, added: int) -> None:
        """Deletes what was not used for longest, down to four fifths of what may be, when enough has come."""
        self._since_trim += added
        if self._since_trim < self._cache_size // 5 or not self._trimming.acquire(blocking=False):
            return
        try:
            self._since_trim = 0
            kept = sorted(_files(self._folder / "content"), reverse=True)
            left = self._cache_size
            if sum(size for _, size, _ in kept) <= left:
                return
            for _, size, path in kept:
                left -= size
                if left < self._cache_size // 5:
                    path.unlink(missing_ok=True)
        finally:
            self._trimming.release()


def _name(sha256: bytes) -> str:
    return f"content/{sha256.hex()}"


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size and place of each file."""
    found = []
    for path in folder.glob("*/*/*"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((state.st_mtime, state.st_size, path))
    return found
