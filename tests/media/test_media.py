# SPDX-License-Identifier: Apache-2.0
"""Files up and down."""

import io
from typing import Any

from PIL import Image

from storage import accounts, media
from tests.harness.server import HomeserverCase, Reply, Session

UPLOAD = "/_matrix/media/v3/upload"
CREATE = "/_matrix/media/v1/create"
DOWNLOAD = "/_matrix/client/v1/media/download"
THUMBNAIL = "/_matrix/client/v1/media/thumbnail"


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), "red" if mode != "RGBA" else (255, 0, 0, 9)).save(out, kind, **options)
    return out.getvalue()


def animation(width: int, height: int, frames: int) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGB", (width, height), (i * 7 % 256, 0, 0)) for i in range(frames)]
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=50, loop=0)
    return out.getvalue()


class MediaCase(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice = await self.register("alice")

    async def admin(self) -> Session:
        """A server administrator."""
        session = await self.register("root")
        account = await self.app.base.db.read(accounts.find, session.user_id)
        await self.app.base.db.write(accounts.set_admin, account.usr, True)
        return session

    async def upload(
        self,
        data: bytes = b"hello",
        kind: str | None = "text/plain",
        name: str | None = None,
        by: Session | None = None,
    ) -> str:
        headers = {} if kind is None else {"content-type": kind}
        query = {} if name is None else {"filename": name}
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=data, headers=headers, query=query, expect=200)
        uri = reply.json["content_uri"]
        self.assertTrue(uri.startswith("mxc://parley.test/"))
        return str(uri.removeprefix("mxc://"))

    async def download(self, media_id: str, **kwargs: Any) -> Reply:
        return await self.request("GET", f"{DOWNLOAD}/{media_id}", None, self.alice, **kwargs)


class UploadTests(MediaCase):
    async def test_what_goes_up_comes_down(self) -> None:
        data = bytes(range(256)) * 1000
        media_id = await self.upload(data, "image/png", "cat.png")
        reply = await self.download(media_id, expect=200)
        self.assertEqual(reply.body, data)
        self.assertEqual(reply.headers["content-type"], "image/png")
        self.assertEqual(reply.headers["content-disposition"], 'inline; filename="cat.png"')
        self.assertEqual(reply.headers["cross-origin-resource-policy"], "cross-origin")
        self.assertIn("sandbox", reply.headers["content-security-policy"])
        bob = await self.register("bob")
        self.assertEqual((await self.request("GET", f"{DOWNLOAD}/{media_id}", None, bob)).body, data)

    async def test_an_empty_file_is_a_file(self) -> None:
        reply = await self.download(await self.upload(b"", None), expect=200)
        self.assertEqual((reply.body, reply.headers["content-type"]), (b"", "application/octet-stream"))
        self.assertEqual(reply.headers["content-disposition"], "attachment")

    async def test_the_same_content_lies_on_disk_once(self) -> None:
        one, two = await self.upload(b"same", name="a"), await self.upload(b"same", name="b")
        self.assertNotEqual(one, two)
        self.assertEqual(len([p for p in (self.folder / "media" / "content").rglob("*") if p.is_file()]), 1)
        self.assertIn('"b"', (await self.download(two)).headers["content-disposition"])

    async def test_a_file_that_cannot_be_stored_is_not_there(self) -> None:
        (self.folder / "media").write_bytes(b"where a folder should be")
        reply = await self.request("POST", UPLOAD, None, self.alice, raw=b"x")
        self.assertEqual((reply.status, reply.json["errcode"]), (507, "M_UNKNOWN"))

    async def test_media_outlives_a_restart(self) -> None:
        media_id = await self.upload(b"kept")
        await self.restart_server()
        self.assertEqual((await self.download(media_id, expect=200)).body, b"kept")

    async def test_types_that_could_hold_scripts_are_attachments(self) -> None:
        for kind, shown in (
            ("text/html", "attachment"),
            ("image/svg+xml", "attachment"),
            ("application/pdf", "attachment"),
            ("text/plain; charset=utf-8", "inline"),
            ("IMAGE/PNG", "inline"),
            ("nonsense", "attachment"),
        ):
            reply = await self.download(await self.upload(b"x", kind), expect=200)
            self.assertEqual(reply.headers["content-disposition"], shown, kind)

    async def test_names_are_cleaned_and_encoded(self) -> None:
        for name, shown in (
            ("../../etc/passwd", 'inline; filename="passwd"'),
            ("C:\\x\\y.txt", 'inline; filename="y.txt"'),
            ("a\r\nb\x00.txt", 'inline; filename="ab.txt"'),
            ('say "hi"', 'inline; filename="say \\"hi\\""'),
            ("grün.txt", "inline; filename*=utf-8''gr%C3%BCn.txt"),
            ("..", "inline"),
        ):
            reply = await self.download(await self.upload(name=name), expect=200)
            self.assertEqual(reply.headers["content-disposition"], shown, name)
        media_id = await self.upload(name="a.txt")
        reply = await self.download(f"{media_id}/other.txt", expect=200)
        self.assertEqual(reply.headers["content-disposition"], 'inline; filename="other.txt"')

    async def test_who_may_not(self) -> None:
        self.assertEqual((await self.request("POST", UPLOAD, raw=b"x")).status, 401)
        media_id = await self.upload()
        self.assertEqual((await self.request("GET", f"{DOWNLOAD}/{media_id}")).status, 401)
        for unknown in (
            "parley.test/unknown",
            "elsewhere.test/unknown",
            "parley.test/..",
            "parley.test/%2e%2e%2fx",
            "no%20server/x",
        ):
            reply = await self.download(unknown)
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"), unknown)

    async def test_the_limit_is_told(self) -> None:
        for path in ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config", "/_matrix/media/r0/config"):
            reply = await self.request("GET", path, token=self.alice, expect=200)
            self.assertEqual(reply.json, {"m.upload.size": 50 << 20})

    async def test_quarantined_media_is_not_found(self) -> None:
        media_id = await self.upload()
        db = self.app.base.db
        found = await db.read(media.find, media.LOCAL, media_id.partition("/")[2])
        await db.write(media.set_quarantined, found.nid, True)
        self.assertEqual((await self.download(media_id)).status, 404)


class RangeTests(MediaCase):
    async def test_parts_of_a_file(self) -> None:
        media_id = await self.upload(b"0123456789")
        for header, status, body, shown in (
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
            ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("bytes=5-2", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None),
            ("bytes=-", 200, b"0123456789", None),
        ):
            reply = await self.download(media_id, headers={"range": header})
            self.assertEqual((reply.status, reply.body), (status, body), header)
            self.assertEqual(reply.headers.get("content-range"), shown)
            self.assertEqual(reply.headers["accept-ranges"], "bytes")
        reply = await self.download(media_id, headers={"range": "bytes=10-"})
        self.assertEqual((reply.status, reply.headers["content-range"]), (416, "bytes */10"))


class LaterTests(MediaCase):
    async def create(self) -> str:
        reply = await self.request("POST", CREATE, None, self.alice, expect=200)
        self.assertEqual(reply.json["unused_expires_at"], self.runtime.now_ms() + 86_400_000)
        return str(reply.json["content_uri"].removeprefix("mxc://"))

    async def put(self, media_id: str, data: bytes = b"late", by: Session | None = None) -> Reply:
        return await self.request("PUT", f"{UPLOAD}/{media_id}", None, by or self.alice, raw=data)

    async def test_a_download_waits_for_its_upload(self) -> None:
        media_id = await self.create()
        waiting = self.begin("GET", f"{DOWNLOAD}/{media_id}", None, self.alice)
        await self.settle(0.02)
        self.assertNoResult(waiting)
        self.assertEqual((await self.put(media_id)).status, 200)
        self.assertEqual((await waiting).body, b"late")

    async def test_a_download_waits_as_long_as_it_says(self) -> None:
        media_id = await self.create()
        for query, seconds in (({"timeout_ms": 5000}, 5), ({}, 20), ({"timeout_ms": 0}, 0)):
            waiting = self.begin("GET", f"{DOWNLOAD}/{media_id}", None, self.alice, query=query)
            await self.settle(0.02)
            if seconds:
                self.clock.advance(seconds - 0.1)
                await self.settle(0.01)
                self.assertNoResult(waiting)
                self.clock.advance(0.2)
            reply = await waiting
            self.assertEqual((reply.status, reply.json["errcode"]), (504, "M_NOT_YET_UPLOADED"))

    async def test_an_id_is_filled_once_by_who_made_it(self) -> None:
        media_id, bob = await self.create(), await self.register("bob")
        reply = await self.put(media_id, by=bob)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual((await self.put(media_id)).status, 200)
        reply = await self.put(media_id, b"other")
        self.assertEqual((reply.status, reply.json["errcode"]), (409, "M_CANNOT_OVERWRITE_MEDIA"))
        self.assertEqual((await self.download(media_id)).body, b"late")
        for unknown in ("parley.test/unknown", "elsewhere.test/x"):
            self.assertEqual((await self.put(unknown)).json["errcode"], "M_NOT_FOUND")

    async def test_an_id_ends_after_a_day(self) -> None:
        media_id = await self.create()
        self.clock.advance(86_401)
        self.assertEqual((await self.put(media_id)).status, 404)
        self.assertEqual((await self.download(media_id)).status, 404)

    async def test_nobody_hoards_ids(self) -> None:
        for _ in range(20):
            media_id = await self.create()
        reply = await self.request("POST", CREATE, None, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (429, "M_LIMIT_EXCEEDED"))
        await self.put(media_id)
        await self.create()


class OpenTests(MediaCase):
    async def test_new_media_is_not_served_without_authentication(self) -> None:
        media_id = await self.upload()
        for path in (f"download/{media_id}", f"download/{media_id}/x", f"thumbnail/{media_id}?width=1&height=1"):
            for version in ("v3", "r0", "v1"):
                reply = await self.request("GET", f"/_matrix/media/{version}/{path}")
                self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))

    async def test_the_old_paths_serve_who_sends_a_token(self) -> None:
        media_id = await self.upload(picture(8, 8), "image/png")
        for path in (f"download/{media_id}", f"download/{media_id}/x", f"thumbnail/{media_id}?width=8&height=8"):
            reply = await self.request("GET", f"/_matrix/media/v3/{path}", None, self.alice, expect=200)
            self.assertIn("private", reply.headers["cache-control"])
            await self.request("GET", f"/_matrix/media/v3/{path}", None, "no-token-of-ours", expect=401)


class UnfrozenTests(MediaCase):
    settings = "media: {open_downloads: true, max_upload_size: 1K}"

    async def test_media_from_before_the_freeze_is_served_after_it(self) -> None:
        media_id = await self.upload(picture(8, 8), "image/png")
        await self.stop_server()
        self.settings = ""
        await self.start_server()
        reply = await self.request("GET", f"/_matrix/media/r0/download/{media_id}", expect=200)
        self.assertEqual(reply.headers["content-type"], "image/png")
        named = await self.request("GET", f"/_matrix/media/v3/download/{media_id}/bicycle.png", expect=200)
        self.assertIn("bicycle.png", named.headers["content-disposition"])
        await self.request("GET", f"/_matrix/media/v3/thumbnail/{media_id}?width=8&height=8", expect=200)
        later = await self.upload(b"later")
        self.assertEqual((await self.request("GET", f"/_matrix/media/v3/download/{later}")).status, 404)

    async def test_the_limit_is_the_setting(self) -> None:
        self.assertEqual(self.dispatcher.body_limit("POST", UPLOAD), 1024)
        self.assertEqual(self.dispatcher.body_limit("PUT", f"{UPLOAD}/parley.test/x"), 1024)


class ThumbnailTests(MediaCase):
    async def thumbnail(self, media_id: str, **query: object) -> Reply:
        return await self.request("GET", f"{THUMBNAIL}/{media_id}", None, self.alice, query=query)

    def read(self, reply: Reply) -> Image.Image:
        self.assertEqual(reply.status, 200, reply.json)
        return Image.open(io.BytesIO(reply.body))

    async def test_sizes(self) -> None:
        media_id = await self.upload(picture(1000, 500, "JPEG"), "image/jpeg")
        for query, size in (
            ({"width": 100, "height": 100, "method": "scale"}, (128, 64)),
            ({"width": 32, "height": 32, "method": "crop"}, (32, 32)),
            ({"width": 100, "height": 50, "method": "crop"}, (128, 64)),
            ({"width": 800, "height": 600}, (800, 400)),
            ({"width": 5000, "height": 5000}, (800, 400)),
        ):
            for _ in range(2):  # the second one comes from disk
                reply = await self.thumbnail(media_id, **query)
                self.assertEqual(self.read(reply).size, size, query)
                self.assertEqual(reply.headers["content-type"], "image/jpeg")
                self.assertEqual(reply.headers["content-disposition"], 'inline; filename="thumbnail.jpg"')

    async def test_a_small_picture_is_its_own_thumbnail(self) -> None:
        data = picture(20, 20)
        reply = await self.thumbnail(await self.upload(data, "text/html"), width=32, height=32)
        self.assertEqual((reply.body, reply.headers["content-type"]), (data, "image/png"))

    async def test_what_is_seen_through_stays_so(self) -> None:
        reply = await self.thumbnail(await self.upload(picture(200, 200, "PNG", "RGBA")), width=32, height=32)
        self.assertEqual((self.read(reply).mode, reply.headers["content-type"]), ("RGBA", "image/png"))

    async def test_pictures_are_turned_upright_and_lose_their_metadata(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010F] = "Camera"
        data = picture(400, 200, "JPEG", exif=exif)
        made = self.read(await self.thumbnail(await self.upload(data), width=96, height=96))
        self.assertEqual(made.size, (48, 96))
        self.assertEqual(dict(made.getexif()), {})

    async def test_moving_pictures_move_when_asked(self) -> None:
        media_id = await self.upload(animation(100, 100, 5), "image/gif")
        still = self.read(await self.thumbnail(media_id, width=64, height=64))
        self.assertEqual((still.format, getattr(still, "n_frames", 1)), ("JPEG", 1))
        moving = self.read(await self.thumbnail(media_id, width=64, height=64, animated="true"))
        self.assertEqual((moving.format, moving.n_frames), ("WEBP", 5))  # type: ignore[attr-defined]
        still = self.read(await self.thumbnail(media_id, width=640, height=640, animated="false"))
        self.assertEqual(getattr(still, "n_frames", 1), 1)

    async def test_asked_for_at_once_it_is_made_once(self) -> None:
        media_id = await self.upload(picture(900, 900), "image/png")
        asked = [
            self.begin("GET", f"{THUMBNAIL}/{media_id}", None, self.alice, query={"width": 96, "height": 96})
            for _ in range(5)
        ]
        self.assertEqual([self.read(await one).size for one in asked], [(96, 96)] * 5)

    async def test_bad_requests(self) -> None:
        media_id = await self.upload(picture(100, 100), "image/png")
        for query, errcode in (
            ({}, "M_MISSING_PARAM"),
            ({"width": 10}, "M_MISSING_PARAM"),
            ({"width": 0, "height": 10}, "M_INVALID_PARAM"),
            ({"width": -4, "height": 10}, "M_INVALID_PARAM"),
            ({"width": "x", "height": 10}, "M_INVALID_PARAM"),
            ({"width": 10, "height": 10, "method": "squash"}, "M_INVALID_PARAM"),
            ({"width": 10, "height": 10, "animated": "maybe"}, "M_INVALID_PARAM"),
        ):
            reply = await self.thumbnail(media_id, **query)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), query)

    async def test_what_is_no_picture(self) -> None:
        svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
        for data in (b"", b"hello", svg, eps, picture(99, 99)[:60], b"GIF89a" + b"\xff" * 50, picture(9, 9, "BMP")):
            reply = await self.thumbnail(await self.upload(data, "image/png"), width=32, height=32)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_UNKNOWN"), data[:20])

    async def test_a_bomb_is_refused(self) -> None:
        header = bytearray(picture(8, 8))
        header[16:24] = (30_000).to_bytes(4, "big") * 2
        import zlib

        header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
        reply = await self.thumbnail(await self.upload(bytes(header), "image/png"), width=32, height=32)
        self.assertEqual((reply.status, reply.json["errcode"]), (413, "M_TOO_LARGE"))

    async def test_too_many_frames_stand_still(self) -> None:
        media_id = await self.upload(animation(40, 40, 300), "image/gif")
        reply = await self.thumbnail(media_id, width=32, height=32, animated="true")
        self.assertEqual(getattr(self.read(reply), "n_frames", 1), 1)
