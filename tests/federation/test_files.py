# SPDX-License-Identifier: Apache-2.0
"""Files of one server on another."""

import io
from urllib.parse import quote

from twisted.trial.unittest import TestCase

from federation.multipart import Malformed, locate
from tests.federation.case import FederationCase
from tests.federation.test_edus import signed


class Files(FederationCase):
    async def test_a_file_is_fetched_once_and_kept(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        content = bytes(range(256)) * 700
        reply = await one.request(
            "POST",
            "/_matrix/media/v3/upload",
            None,
            alice,
            query={"filename": "Größe.bin"},
            raw=content,
            headers={"content-type": "application/x-thing"},
        )
        server, media_id = reply.json["content_uri"].removeprefix("mxc://").split("/")
        path = f"/_matrix/client/v1/media/download/{quote(server)}/{media_id}"
        found = await two.request("GET", path, None, bob)
        self.assertEqual(found.body, content)
        self.assertEqual(found.headers["content-disposition"], "attachment; filename*=utf-8''Gr%C3%B6%C3%9Fe.bin")
        await one.stop()
        self.assertEqual((await two.request("GET", path, None, bob)).body, content)

    async def test_files_that_are_not_there(self) -> None:
        one, two = self.peers
        bob = await two.register("bob")
        base = "/_matrix/client/v1/media/download"
        await two.request("GET", f"{base}/{quote(one.name)}/nothing", None, bob, expect=404)
        await two.request("GET", f"{base}/nowhere.invalid/nothing", None, bob, expect=502)
        await two.request("GET", f"{base}/{quote(one.name)}/nothing", None, bob, expect=404)
        await signed(two, one, "GET", "/_matrix/federation/v1/media/download/nothing", expect=404)
        await one.request("GET", "/_matrix/federation/v1/media/download/nothing", expect=401)

    async def test_thumbnails_are_made_for_others(self) -> None:
        one, two = self.peers
        alice = await one.register("alice")
        from PIL import Image

        picture = io.BytesIO()
        Image.new("RGB", (400, 300), "red").save(picture, "PNG")
        reply = await one.request(
            "POST",
            "/_matrix/media/v3/upload",
            None,
            alice,
            raw=picture.getvalue(),
            headers={"content-type": "image/png"},
        )
        media_id = reply.json["content_uri"].rpartition("/")[2]
        path = f"/_matrix/federation/v1/media/thumbnail/{media_id}"
        await signed(two, one, "GET", f"{path}?width=32&height=32&method=crop")
        await signed(two, one, "GET", path, expect=400)
        await signed(two, one, "GET", f"{path}?width=32&height=32&method=tear", expect=400)


class Parts(TestCase):
    kind = 'multipart/mixed; boundary="b"'

    def test_the_file_is_found_whatever_it_holds(self) -> None:
        for content in (b"", b"x", b"--b", b"\r\n", b"\r\n--c\r\n" * 1_000, bytes(100_000)):
            body = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: a/b\r\n\r\n" + content
            file = io.BytesIO(body + b"\r\n--b--\r\n")
            found = locate(file, self.kind)
            self.assertEqual(file.getvalue()[found.start : found.end], content)
            self.assertEqual(found.content_type, "a/b")

    def test_a_place_elsewhere_is_named(self) -> None:
        body = b"--b\r\n\r\n{}\r\n--b\r\nLocation: https://cdn.test/x\r\n\r\n\r\n--b--"
        self.assertEqual(locate(io.BytesIO(body), self.kind).location, "https://cdn.test/x")

    def test_what_is_no_multipart_is_refused(self) -> None:
        good = b"--b\r\n\r\n{}\r\n--b\r\nContent-Type: a/b\r\n\r\nx\r\n--b--"
        for kind, body in (
            ("text/plain", good),
            ("multipart/mixed", good),
            (self.kind, b""),
            (self.kind, b"--b\r\n\r\n{}"),
            (self.kind, good[:30]),
            (self.kind, good[:-7]),
            (self.kind, b"x" * 100_000),
        ):
            with self.assertRaises(Malformed):
                locate(io.BytesIO(body), kind)
