# SPDX-License-Identifier: Apache-2.0
"""Files pass by a real clamd, and by some that are not themselves."""

import hashlib
import io
import os
import zipfile
from typing import Any

from twisted.internet import reactor as _reactor

from storage import media_verdicts
from tests.harness.server import Reply
from tests.media.clamd import MARKER, FakeClamd, RealClamd
from tests.media.test_media import CREATE, UPLOAD, MediaCase

reactor: Any = _reactor
HARM = b"it looks harmless, but " + MARKER


def packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("letter.txt", data)
    return out.getvalue()


class ScanCase(MediaCase):
    async def post(self, data: bytes) -> tuple[int, str | None]:
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=data)
        return reply.status, reply.json.get("errcode")

    async def verdict(self, data: bytes) -> media_verdicts.Verdict | None:
        return await self.app.base.db.read(media_verdicts.find, hashlib.sha256(data).digest())

    def files(self) -> int:
        return len([path for path in (self.folder / "media").rglob("*") if path.is_file()])


class RealClamdTests(ScanCase):
    timeout = 90

    async def setUp(self) -> None:
        self.clamd = RealClamd(stream_max="5M")
        self.addCleanup(self.clamd.remove)
        self.settings = f"media: {{clamd: {{host: 127.0.0.1, port: {self.clamd.port}}}}}"
        await super().setUp()

    async def test_harm_is_refused_and_nothing_else(self) -> None:
        for data in (b"hello", b"", b"x" * 200_000, packed(b"hello")):
            self.assertEqual(await self.post(data), (200, None))
            self.assertIsNone((await self.verdict(data)).threat)  # type: ignore[union-attr]
        before = self.files()
        for data in (HARM, packed(HARM), b"x" * 100_000 + HARM):
            for _ in range(2):
                self.assertEqual(await self.post(data), (403, "M_FORBIDDEN"))
            self.assertIn("Parley.Test.Marker", (await self.verdict(data)).threat or "")  # type: ignore[union-attr]
        self.assertEqual(self.files(), before)

    async def test_a_reserved_id_is_no_way_around(self) -> None:
        reply = await self.request("POST", CREATE, None, self.alice, expect=200)
        path = f"{UPLOAD}/{reply.json['content_uri'].removeprefix('mxc://')}"
        reply = await self.request("PUT", path, None, self.alice, raw=HARM)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        await self.request("PUT", path, None, self.alice, raw=b"fine", expect=200)

    async def test_what_was_uploaded_before_is_looked_at_when_asked_for(self) -> None:
        await self.stop_server()
        settings, self.settings = self.settings, ""
        await self.start_server()
        bad, good = await self.upload(HARM), await self.upload(b"hello")
        await self.stop_server()
        self.settings = settings
        await self.start_server()
        for _ in range(2):
            reply = await self.download(bad)
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
            self.assertEqual((await self.download(good, expect=200)).body, b"hello")

    async def test_a_verdict_outlives_clamd(self) -> None:
        media_id = await self.upload(b"scanned")
        self.clamd.stop()
        try:
            self.assertEqual((await self.download(media_id, expect=200)).body, b"scanned")
            self.assertEqual(await self.post(b"scanned"), (200, None))
            self.assertEqual(await self.post(b"new"), (503, "M_UNKNOWN"))
        finally:
            self.clamd.start()
        self.assertEqual(await self.post(b"new"), (200, None))

    async def test_a_file_too_large_for_clamd_is_not_taken(self) -> None:
        self.assertEqual(await self.post(bytes(6 << 20)), (503, "M_UNKNOWN"))
        self.assertIsNone(await self.verdict(bytes(6 << 20)))

    async def test_a_unix_socket_does_as_well(self) -> None:
        await self.stop_server()
        self.settings = f"media: {{clamd: {{socket: {self.clamd.socket}}}}}"
        await self.start_server()
        self.assertEqual(await self.post(HARM), (403, "M_FORBIDDEN"))
        self.assertEqual(await self.post(b"hello"), (200, None))


class FaultTests(ScanCase):
    async def setUp(self) -> None:
        self.clamd = FakeClamd()
        self.port = reactor.listenTCP(0, self.clamd, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.configure("refuse")
        await super().setUp()

    def configure(self, when_down: str) -> None:
        port = self.port.getHost().port
        self.settings = f"media: {{clamd: {{host: 127.0.0.1, port: {port}, timeout: 300ms, when_down: {when_down}}}}}"

    async def test_without_a_clear_answer_nothing_is_taken(self) -> None:
        for number, answer in enumerate((b"", None, b"stream: ", b"\xff\x00nonsense\0", b"OK\0", b"x" * 9000)):
            self.clamd.answer = answer
            self.assertEqual(await self.post(b"file %d" % number), (503, "M_UNKNOWN"), answer)
            self.assertIsNone(await self.verdict(b"file %d" % number))
        self.assertIn(b"parley_clamd_up 0.0", self.app.base.metrics.text())
        self.clamd.answer = b"stream: OK\0"
        self.assertEqual(await self.post(b"file 0"), (200, None))
        self.assertIn(b"parley_clamd_up 1.0", self.app.base.metrics.text())
        self.assertIn(b"parley_media_scans_total 1.0", self.app.base.metrics.text())

    async def test_what_was_not_taken_is_deleted_later(self) -> None:
        self.clamd.answer = b""
        self.assertEqual(await self.post(b"refused"), (503, "M_UNKNOWN"))
        self.assertEqual(self.files(), 1)
        for path in (self.folder / "media" / "content").rglob("*"):
            os.utime(path, (1, 1))
        self.clock.advance(15 * 60 + 1)
        await self.settle(0.1)
        self.assertEqual(self.files(), 0)

    async def test_or_everything_is_and_looked_at_later(self) -> None:
        await self.stop_server()
        self.configure("accept")
        await self.start_server()
        self.clamd.answer = b""
        media_id = await self.upload(b"unseen")
        self.assertEqual((await self.download(media_id, expect=200)).body, b"unseen")
        self.clamd.answer = b"stream: Late.News FOUND\0"
        self.assertEqual((await self.download(media_id)).status, 404)
        self.assertEqual((await self.verdict(b"unseen")).threat, "Late.News")  # type: ignore[union-attr]

    async def test_others_go_on_while_clamd_is_slow(self) -> None:
        known = await self.upload(b"known")
        self.clamd.answer = None
        waiting = [self.begin("POST", UPLOAD, None, self.alice, raw=b"slow %d" % n) for n in range(6)]
        await self.settle(0.05)
        reply: Reply = await self.download(known, expect=200)
        self.assertEqual(reply.body, b"known")
        for one in waiting:
            self.assertEqual((await one).status, 503)
