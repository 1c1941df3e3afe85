# SPDX-License-Identifier: Apache-2.0
"""Pictures lose what their camera knows and nothing else."""

import io
import random
import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from twisted.trial.unittest import TestCase

from homeserver.services.image_metadata import CHUNK, without
from tests.media.test_media import MediaCase

SECRET = b"48.8583 2.2945 at home"
XMP = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(7).randbytes(3 * width * height))


def exif(orientation: int | None) -> Image.Exif:
    found = Image.Exif()
    if orientation is not None:
        found[0x0112] = orientation
    found[0x010F] = SECRET.decode()
    found.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.9), 29: SECRET.decode()})
    return found


def saved(image: Image.Image, kind: str, orientation: int | None, **options: Any) -> bytes:
    out = io.BytesIO()
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Raw profile type exif", SECRET.decode(), zip=False)
        text.add_text("Title", "kept")
        image.save(out, kind, exif=exif(orientation), pnginfo=text, **options)
    else:
        image.save(out, kind, exif=exif(orientation), xmp=XMP, **options)
    return out.getvalue()


def stripped(data: bytes) -> bytes:
    source = without(io.BytesIO(data))
    out = b""
    while chunk := source.read(CHUNK):
        out += chunk
    return out


def pixels(data: bytes) -> tuple[tuple[int, int], bytes]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.size, image.convert("RGBA").tobytes()


class StrippingTests(TestCase):
    def test_the_location_goes_and_the_pixels_stay(self) -> None:
        for kind, options in (
            ("JPEG", {}),
            ("JPEG", {"progressive": True, "quality": 95}),
            ("JPEG", {"restart_marker_blocks": 2}),
            ("PNG", {}),
            ("WEBP", {}),
            ("WEBP", {"lossless": True}),
        ):
            for orientation in (None, 1, 6):
                data = saved(noise(300, 200), kind, orientation, **options)
                self.assertIn(SECRET, data)
                made = stripped(data)
                self.assertNotIn(SECRET, made)
                self.assertNotIn(b"xmpmeta", made)
                self.assertEqual(pixels(made), pixels(data), (kind, options))
                with Image.open(io.BytesIO(made)) as image:
                    found = dict(image.getexif())
                    self.assertEqual(found, {0x0112: 6} if orientation == 6 else {}, (kind, options))
                    self.assertEqual(ImageOps.exif_transpose(image).size, (200, 300) if found else (300, 200))
                self.assertEqual(stripped(made), made)

    def test_iptc_goes_and_colors_stay(self) -> None:
        data = saved(noise(8, 8), "JPEG", None, icc_profile=b"colors of this screen")
        data = data[:2] + b"\xff\xed\0\x20Photoshop 3.0\0" + SECRET[:16] + data[2:]
        made = stripped(data)
        self.assertNotIn(b"Photoshop", made)
        self.assertIn(b"colors of this screen", made)

    def test_texts_that_tell_nothing_stay(self) -> None:
        self.assertIn(b"kept", stripped(saved(noise(8, 8), "PNG", None)))

    def test_moving_pictures_move(self) -> None:
        frames = [noise(40, 40), noise(40, 40).rotate(90), noise(40, 40).rotate(180)]
        for kind in ("PNG", "WEBP"):
            out = io.BytesIO()
            frames[0].save(out, kind, save_all=True, append_images=frames[1:], exif=exif(None), duration=50)
            made = stripped(out.getvalue())
            self.assertNotIn(SECRET, made)
            with Image.open(io.BytesIO(made)) as image:
                self.assertEqual(image.n_frames, 3)  # type: ignore[attr-defined]

    def test_what_follows_the_picture_goes(self) -> None:
        for kind in ("JPEG", "PNG", "WEBP"):
            data = saved(noise(64, 64), kind, None)
            self.assertEqual(stripped(data + b"PK\x03\x04 a film: " + SECRET), stripped(data))

    def test_what_is_no_picture_stays_as_it_is(self) -> None:
        gif = io.BytesIO()
        noise(9, 9).save(gif, "GIF")
        for data in (
            b"",
            b"hello",
            gif.getvalue(),
            b"\xff\xd8\xff",
            b"RIFF\0\0\0\0WEBP"[:11],
            b"\x89PNG\r\n\x1a\n" * 3,
        ):
            self.assertEqual(stripped(data), data)

    def test_a_truncated_picture_still_loses_its_location(self) -> None:
        for kind in ("JPEG", "PNG"):
            data = saved(noise(300, 200), kind, 6)
            made = stripped(data[: len(data) * 2 // 3])
            self.assertNotIn(SECRET, made)
            self.assertGreater(len(made), len(data) // 2)

    def test_a_file_of_endless_chunks_is_given_up(self) -> None:
        chunk = b"\0\0\0\0junk" + zlib.crc32(b"junk").to_bytes(4, "big")
        data = b"\x89PNG\r\n\x1a\n" + chunk * 150_000
        self.assertEqual(stripped(data), data)

    @given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.integers(2, 400), st.binary(max_size=12), st.booleans())
    def test_damage_harms_nothing(self, kind: str, place: int, junk: bytes, cut: bool) -> None:
        data = saved(noise(16, 16), kind, 6)
        stripped(data[:place] + junk + (b"" if cut else data[place + len(junk) :]))


class UploadTests(MediaCase):
    async def test_pictures_lose_their_location_on_upload(self) -> None:
        for kind, content_type in (("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "text/plain")):
            data = saved(noise(50, 50), kind, 6)
            body = (await self.download(await self.upload(data, content_type), expect=200)).body
            self.assertNotIn(SECRET, body)
            self.assertEqual(pixels(body), pixels(data))

    async def test_what_may_be_encrypted_is_not_touched(self) -> None:
        data = saved(noise(50, 50), "JPEG", 6)
        for kind in ("application/octet-stream", "Application/Octet-Stream; x=y", None):
            self.assertEqual((await self.download(await self.upload(data, kind), expect=200)).body, data)

    async def test_a_reserved_id_is_no_way_around(self) -> None:
        reply = await self.request("POST", "/_matrix/media/v1/create", None, self.alice, expect=200)
        media_id = reply.json["content_uri"].removeprefix("mxc://")
        data = saved(noise(50, 50), "JPEG", None)
        path = f"/_matrix/media/v3/upload/{media_id}"
        await self.request("PUT", path, None, self.alice, raw=data, headers={"content-type": "image/jpeg"}, expect=200)
        self.assertNotIn(SECRET, (await self.download(media_id, expect=200)).body)
