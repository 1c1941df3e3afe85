# SPDX-License-Identifier: Apache-2.0
"""Files that want to do harm."""

import io
import os
import random
import time
from typing import Any

from PIL import Image
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from homeserver.http.listen import Site
from homeserver.services.thumbnails import MAX_FRAMES, _counted_in_gif
from storage import accounts, media
from tests.harness.server import Reply
from tests.media.test_media import THUMBNAIL, UPLOAD, MediaCase, animation, picture

reactor: Any = _reactor


class BadFileTests(MediaCase):
    async def thumbnail(self, media_id: str, accept: str = "*/*", **query: object) -> Reply:
        headers = {"accept": accept}
        query = {"width": 32, "height": 32, **query}
        return await self.request("GET", f"{THUMBNAIL}/{media_id}", None, self.alice, query=query, headers=headers)

    async def test_a_png_of_900_million_pixels_is_refused_at_once(self) -> None:
        data = io.BytesIO()
        Image.new("1", (30_000, 30_000)).save(data, "PNG")
        self.assertLess(len(data.getvalue()), 1 << 20)
        media_id = await self.upload(data.getvalue(), "image/png")
        began = time.process_time()
        reply = await self.thumbnail(media_id)
        self.assertEqual((reply.status, reply.json["errcode"]), (413, "M_TOO_LARGE"))
        self.assertLess(time.process_time() - began, 0.5)
        self.assertEqual((await self.download(media_id, expect=200)).body, data.getvalue())

    async def test_a_gif_of_5000_frames_stands_still(self) -> None:
        media_id = await self.upload(animation(60, 60, 5000), "image/gif")
        for animated in ("true", "false"):
            reply = await self.thumbnail(media_id, animated=animated)
            with Image.open(io.BytesIO(reply.body)) as image:
                self.assertEqual((image.size, getattr(image, "n_frames", 1)), ((32, 32), 1))

    def test_frames_are_counted_without_reading_them_all(self) -> None:
        for frames in (2, 7, MAX_FRAMES):
            self.assertEqual(_counted_in_gif(io.BytesIO(animation(9, 9, frames))), frames)
        self.assertEqual(_counted_in_gif(io.BytesIO(animation(9, 9, MAX_FRAMES + 50))), MAX_FRAMES + 1)
        head = picture(9, 9, "GIF")[:13]
        for endless in (b"!\xfe\x01x\x00" * 1_000_000, b"!\xfe" + b"\x01x" * 1_000_000):
            self.assertEqual(_counted_in_gif(io.BytesIO(head[:10] + b"\0" + head[11:] + endless)), MAX_FRAMES + 1)
        whole = animation(9, 9, 3)
        for end in range(13, len(whole)):
            self.assertLessEqual(_counted_in_gif(io.BytesIO(whole[:end])), 3)

    async def test_truncated_pictures(self) -> None:
        noise = Image.frombytes("RGB", (200, 200), random.Random(3).randbytes(120_000))
        for kind in ("PNG", "JPEG", "GIF", "WEBP"):
            out = io.BytesIO()
            noise.save(out, kind)
            for part in (20, len(out.getvalue()) // 2, len(out.getvalue()) - 20):
                media_id = await self.upload(out.getvalue()[:part], f"image/{kind.lower()}")
                reply = await self.thumbnail(media_id)
                self.assertIn(reply.status, (200, 400), (kind, part))
                await self.download(media_id, expect=200)

    async def test_a_file_that_is_two_things_is_shown_as_what_it_was_called(self) -> None:
        gif = bytearray(picture(64, 64, "GIF"))
        script = b"GIF89a/*" + bytes(gif[8:]) + b"*/=1;alert(document.domain)//<script>alert(1)</script>"
        for kind, shown in (("text/html", "attachment"), ("text/javascript", "attachment"), ("image/gif", "inline")):
            reply = await self.download(await self.upload(script, kind), expect=200)
            self.assertEqual(reply.headers["content-disposition"], shown)
            self.assertEqual(reply.headers["content-type"], kind)
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
            self.assertTrue(reply.headers["content-security-policy"].startswith("sandbox;"))
        page = picture(64, 64) + b"<script>alert(1)</script>"
        reply = await self.thumbnail(await self.upload(page, "text/html"))
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "image/jpeg"))
        self.assertNotIn(b"<script>", reply.body)

    async def test_an_svg_with_a_script_is_never_shown(self) -> None:
        svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        for kind in ("image/svg+xml", "IMAGE/SVG+XML; charset=utf-8", "image/svg"):
            media_id = await self.upload(svg, kind, "x.svg")
            reply = await self.download(media_id, expect=200)
            self.assertEqual(reply.headers["content-disposition"], 'attachment; filename="x.svg"')
            self.assertEqual((await self.thumbnail(media_id)).status, 400)

    async def test_types_that_would_split_a_header_are_forgotten(self) -> None:
        for kind in ("image/png\r\nX-Evil: 1", "text/html\x00", "a", "/", "tëxt/html", "x/" + "y" * 300):
            reply = await self.download(await self.upload(b"x", kind), expect=200)
            self.assertEqual(reply.headers["content-type"], "application/octet-stream", kind)
            self.assertNotIn("x-evil", reply.headers)

    async def test_webp_for_those_who_ask_for_it(self) -> None:
        media_id = await self.upload(picture(100, 100, "PNG", "RGBA"), "image/png")
        for accept, kind in (
            ("image/webp,*/*", "image/webp"),
            ("text/html, image/WEBP;q=0.8", "image/webp"),
            ("image/webp;q=0, */*", "image/png"),
            ("*/*", "image/png"),
            ("image/*", "image/png"),
        ):
            for _ in range(2):
                reply = await self.thumbnail(media_id, accept)
                self.assertEqual((reply.headers["content-type"], reply.headers["vary"]), (kind, "Accept"), accept)
                with Image.open(io.BytesIO(reply.body)) as image:
                    self.assertEqual((image.get_format_mimetype(), image.mode), (kind, "RGBA"))


class Breaking(Protocol):
    """Sends what it was given and hangs up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self._data)  # type: ignore[union-attr]
        reactor.callLater(0.1, self.transport.abortConnection)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class Once(Factory):
    """One connection."""

    noisy = False

    def __init__(self, connection: Breaking) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Breaking:
        return self._connection


class AbortedTests(MediaCase):
    async def test_an_upload_that_breaks_off_leaves_nothing(self) -> None:
        spool = self.folder / "spool"
        spool.mkdir()
        site = Site(self.dispatcher, self.runtime, spool=str(spool))
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        body = b"\xff" * 700_000
        for path, length in (
            (f"POST {UPLOAD}", b"Content-Length: 1400000"),
            (f"POST {UPLOAD}", b"Transfer-Encoding: chunked"),
        ):
            head = f"{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.alice.token}\r\n".encode()
            sent = body if b"Length" in length else b"%x\r\n%s\r\n" % (len(body), body)
            breaking = Breaking(head + length + b"\r\n\r\n" + sent)
            await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(Once(breaking))
            await breaking.ended
            await self.settle(0.05)
        self.assertEqual([p for p in (self.folder / "media").rglob("*") if p.is_file()], [])
        self.assertEqual(list(spool.iterdir()), [])
        account = await self.app.base.db.read(accounts.find, self.alice.user_id)
        self.assertEqual(await self.app.base.db.read(media.used, account.usr), 0)
        self.assertEqual((await self.download(await self.upload(b"next"))).body, b"next")

    async def test_a_disk_that_fails_half_way_leaves_nothing(self) -> None:
        def failing(handle: int) -> None:
            raise OSError("no space left on device")

        self.patch(os, "fsync", failing)
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=b"x")
        self.assertEqual((reply.status, reply.json["errcode"]), (507, "M_UNKNOWN"))
        self.assertEqual([p for p in (self.folder / "media").rglob("*") if p.is_file()], [])
