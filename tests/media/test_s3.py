# SPDX-License-Identifier: Apache-2.0
"""Files in a bucket: with a real S3 server, and with one that misbehaves as told."""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from twisted.trial.unittest import TestCase

from homeserver.config.media import S3 as Settings
from homeserver.services.s3_files import S3Bucket, S3Files
from tests.harness import spec
from tests.media.swift import ACCESS_KEY, SECRET_KEY, Swift
from tests.media.test_media import THUMBNAIL, UPLOAD, MediaCase, picture


class MemoryBucket:
    """A bucket that can break."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = False
        self.puts = 0

    def _may_break(self) -> None:
        if self.broken:
            raise OSError("S3: the connection was lost")

    def has(self, name: str, size: int) -> bool:
        self._may_break()
        return len(self.objects.get(name, b"")) == size

    def put(self, name: str, file: BinaryIO) -> None:
        self._may_break()
        self.puts += 1
        self.objects[name] = file.read()

    def get(self, name: str, write: Callable[[bytes], object]) -> None:
        if name not in self.objects:
            raise FileNotFoundError(name)
        write(self.objects[name][:10])
        self._may_break()
        write(self.objects[name][10:])

    def delete(self, name: str) -> None:
        self._may_break()
        self.objects.pop(name, None)


class S3FilesTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parley-s3-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.bucket = MemoryBucket()
        self.files = S3Files(self.folder, self.bucket, 10_000)

    def on_disk(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def test_each_content_goes_there_once(self) -> None:
        for _ in range(3):
            sha256, size = self.files.store(io.BytesIO(b"hello"))
        self.assertEqual((sha256, size), (hashlib.sha256(b"hello").digest(), 5))
        self.assertEqual((self.bucket.puts, len(self.on_disk())), (1, 1))

    def test_the_disk_may_be_lost(self) -> None:
        sha256, _ = self.files.store(io.BytesIO(b"hello" * 100))
        shutil.rmtree(self.folder / "content")
        for _ in range(2):
            with self.files.open(sha256) as file:
                self.assertEqual(file.read(), b"hello" * 100)
        self.assertEqual(len(self.on_disk()), 1)

    def test_what_was_not_used_for_longest_goes_first(self) -> None:
        stored = [self.files.store(io.BytesIO(bytes([n]) * 1500))[0] for n in range(5)]
        for age, sha256 in enumerate(stored):
            os.utime(self.files._content(sha256), (1000 - age, 1000 - age))
        self.files.open(stored[4]).close()  # used now
        for n in range(5, 9):
            stored.append(self.files.store(io.BytesIO(bytes([n]) * 1500))[0])
        self.assertLessEqual(sum(path.stat().st_size for path in self.on_disk()), 10_000)
        self.assertTrue(self.files._content(stored[4]).exists())
        self.assertFalse(self.files._content(stored[3]).exists())
        for sha256 in stored:
            with self.files.open(sha256) as file:
                self.assertEqual(hashlib.sha256(file.read()).digest(), sha256)

    def test_a_content_larger_than_the_cache_passes_through(self) -> None:
        sha256, _ = self.files.store(io.BytesIO(bytes(50_000)))
        self.assertEqual(self.on_disk(), [])
        with self.files.open(sha256) as file:
            self.assertEqual(file.read(), bytes(50_000))

    def test_a_bucket_that_breaks_leaves_nothing_half(self) -> None:
        self.bucket.broken = True
        self.assertRaises(OSError, self.files.store, io.BytesIO(b"hello"))
        self.assertEqual((self.on_disk(), self.bucket.objects), ([], {}))
        self.bucket.broken = False
        sha256, _ = self.files.store(io.BytesIO(b"hello" * 10))
        shutil.rmtree(self.folder / "content")
        self.bucket.broken = True
        self.assertRaises(OSError, self.files.open, sha256)
        self.assertEqual(self.on_disk(), [])

    def test_an_object_that_was_changed_is_not_served(self) -> None:
        sha256, _ = self.files.store(io.BytesIO(b"hello"))
        shutil.rmtree(self.folder / "content")
        self.bucket.objects[f"content/{sha256.hex()}"] = b"other"
        self.assertRaises(OSError, self.files.open, sha256)
        self.assertEqual(self.on_disk(), [])

    def test_deleted_is_deleted_everywhere(self) -> None:
        sha256, _ = self.files.store(io.BytesIO(b"hello"))
        self.files.delete(sha256)
        self.assertEqual((self.on_disk(), self.bucket.objects), ([], {}))
        self.assertRaises(FileNotFoundError, self.files.open, sha256)


class NonsenseTests(TestCase):
    """Servers that are no S3, or as good as none."""

    def bucket(self, answer: bytes | None) -> S3Bucket:
        """One that gets this answer to everything; None: no answer for long."""
        listening = socket.create_server(("127.0.0.1", 0))
        open_connections = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                open_connections.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()

        def end() -> None:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()
            for connection in open_connections:
                connection.close()

        self.addCleanup(end)
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        return S3Bucket(Settings(endpoint, "media", "key", "secret"), read_seconds=0.3)

    def test_nothing_is_taken_for_kept_that_is_not(self) -> None:
        page = b"<html>Please log in</html>"
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(page), page),
            b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"220 mail.example.org ESMTP\r\n",
            b"",
            None,
        ):
            folder = Path(tempfile.mkdtemp(prefix="parley-s3-"))
            self.addCleanup(shutil.rmtree, folder)
            files = S3Files(folder, self.bucket(answer), 10_000)
            self.assertRaises(OSError, files.store, io.BytesIO(b"hello"))
            self.assertRaises(OSError, files.open, hashlib.sha256(b"hello").digest())
            self.assertEqual([path for path in folder.rglob("*") if path.is_file()], [], answer)


class SwiftTests(MediaCase):
    timeout = 300

    async def setUp(self) -> None:
        self.swift = Swift()
        self.addCleanup(self.swift.remove)
        self.configure(SECRET_KEY)
        await super().setUp()
        self.bucket().create_bucket(Bucket="media")

    def configure(self, secret: str) -> None:
        self.settings = (
            f"media: {{s3: {{endpoint: '{self.swift.endpoint}', bucket: media,"
            f" access_key: '{ACCESS_KEY}', secret_key: {secret}}}}}"
        )

    def bucket(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return boto3.client("s3", endpoint_url=self.swift.endpoint, region_name="us-east-1", **keys)

    def names(self) -> list[str]:
        return [one["Key"] for one in self.bucket().list_objects_v2(Bucket="media").get("Contents", [])]

    def lose_disk(self) -> None:
        shutil.rmtree(self.folder / "media", ignore_errors=True)

    async def test_with_a_server_that_checks_signatures(self) -> None:
        data = os.urandom(3 << 20)
        one, two = await self.upload(data), await self.upload(data)
        self.assertEqual(self.names(), [f"content/{hashlib.sha256(data).hexdigest()}"])
        self.lose_disk()
        self.assertEqual((await self.download(one, expect=200)).body, data)
        self.lose_disk()
        reply = await self.download(two, headers={"range": "bytes=100-199"})
        self.assertEqual((reply.status, reply.body), (206, data[100:200]))
        image = await self.upload(picture(300, 300), "image/png")
        self.lose_disk()
        query = {"width": 32, "height": 32}
        reply = await self.request("GET", f"{THUMBNAIL}/{image}", None, self.alice, query=query, expect=200)
        self.assertEqual(reply.headers["content-type"], "image/jpeg")
        await self.wrong_key()
        await self.outage(one, two, data)

    async def wrong_key(self) -> None:
        await self.stop_server()
        self.configure("wrong")
        await self.start_server()
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=b"never there")
        self.assertEqual((reply.status, reply.json["errcode"]), (507, "M_UNKNOWN"))
        await self.stop_server()
        self.configure(SECRET_KEY)
        await self.start_server()
        self.assertEqual(len(self.names()), 2)

    async def outage(self, one: str, two: str, data: bytes) -> None:
        self.assertEqual((await self.download(one, expect=200)).body, data)
        self.swift.stop()
        self.assertEqual((await self.download(two, expect=200)).body, data, "it is on disk, too")
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=b"while it is away")
        self.assertEqual((reply.status, reply.json["errcode"]), (507, "M_UNKNOWN"))
        self.lose_disk()
        reply = await self.download(one)
        self.assertEqual((reply.status, reply.json["errcode"]), (502, "M_UNKNOWN"))
        self.swift.start()
        self.assertEqual((await self.download(one, expect=200)).body, data)
        self.assertEqual((await self.download(await self.upload(b"back"), expect=200)).body, b"back")


class LazyTests(TestCase):
    def test_boto3_is_imported_by_those_who_use_it_only(self) -> None:
        code = "import sys, homeserver.app, homeserver.services.s3_files; sys.exit('boto3' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=spec.REPOSITORY).returncode, 0)
