# SPDX-License-Identifier: Apache-2.0
"""What links are about, and that asking does not reach what should not be reached."""

import time
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from homeserver.services.page_summary import summarize
from tests.harness.server import HomeserverCase, Reply
from tests.media.test_media import picture

PREVIEW = "/_matrix/client/v1/media/preview_url"
PAGE = b"""<!doctype html><html><head><meta charset="utf-8"><title>The title</title>
<meta property="og:title" content="A &quot;good&quot; title"><meta content='What it is about' name=description>
<script>var x = '<meta property="og:type" content="wrong">';</script>
<meta property="og:image" content="/cat.png"><meta property="og:image:width" content="5"></head><body>x</body></html>"""


class Web(Resource):
    """A web site of the test's own."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.moved: dict[str, str] = {}

    def render_GET(self, request: Any) -> Any:  # noqa: N802
        path = request.path.decode()
        self.asked.append(path)
        if path in self.moved:
            request.redirect(self.moved[path].encode())
            return b""
        if path == "/silent":
            return NOT_DONE_YET
        if path not in self.pages:
            request.setResponseCode(404)
            return b"no"
        kind, body = self.pages[path]
        request.setHeader("content-type", kind)
        return body


class PreviewCase(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice = await self.register("alice")
        self.web = Web()
        self.port = reactor.listenTCP(0, Site(self.web), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port.getHost().port}{path}"

    async def preview(self, url: str) -> Reply:
        return await self.request("GET", PREVIEW, None, self.alice, query={"url": url})


class PreviewTests(PreviewCase):
    settings = "network: {allow_private_addresses: [127.0.0.0/8]}"

    async def test_a_page_is_summed_up_and_its_image_kept(self) -> None:
        self.web.pages["/page"] = ("text/html", PAGE)
        image = picture(30, 20)
        self.web.pages["/cat.png"] = ("image/png", image)
        reply = await self.preview(self.url("/page#part"))
        self.assertEqual(reply.status, 200)
        uri = reply.json.pop("og:image")
        self.assertEqual(
            reply.json,
            {
                "og:title": 'A "good" title',
                "og:description": "What it is about",
                "og:image:type": "image/png",
                "og:image:width": 30,
                "og:image:height": 20,
                "matrix:image:size": len(image),
            },
        )
        path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}"
        self.assertEqual((await self.request("GET", path, None, self.alice)).body, image)

    async def test_a_link_is_fetched_once_an_hour(self) -> None:
        self.web.pages["/page"] = ("text/html", b"<title>One</title>")
        asked = [self.begin("GET", PREVIEW, None, self.alice, query={"url": self.url("/page")}) for _ in range(4)]
        for one in asked:
            self.assertEqual((await one).json, {"og:title": "One"})
        self.assertEqual(self.web.asked, ["/page"])
        self.clock.advance(3601)
        await self.preview(self.url("/page"))
        self.assertEqual(len(self.web.asked), 2)

    async def test_the_old_path(self) -> None:
        self.web.pages["/page"] = ("text/html", b"<title>One</title>")
        old = "/_matrix/media/v3/preview_url"
        reply = await self.request("GET", old, None, self.alice, query={"url": self.url("/page")}, expect=200)
        self.assertEqual(reply.json, {"og:title": "One"})
        self.assertEqual((await self.request("GET", old, None, self.alice)).json["errcode"], "M_MISSING_PARAM")

    async def test_an_image_is_its_own_preview(self) -> None:
        self.web.pages["/a/cat.png"] = ("image/png", picture(3, 3))
        reply = await self.preview(self.url("/a/cat.png"))
        self.assertEqual((reply.json["og:title"], reply.json["og:image:width"]), ("cat.png", 3))

    async def test_redirects_are_followed_a_little(self) -> None:
        self.web.pages["/page"] = ("text/html", b"<title>There</title>")
        self.web.moved["/old"] = "/page"
        self.web.moved["/loop"] = "/loop"
        self.assertEqual((await self.preview(self.url("/old"))).json, {"og:title": "There"})
        self.assertEqual((await self.preview(self.url("/loop"))).status, 404)
        self.web.moved["/file"] = "file:///etc/passwd"
        self.assertEqual((await self.preview(self.url("/file"))).status, 404)

    async def test_pages_without_a_preview(self) -> None:
        self.web.pages["/bin"] = ("application/octet-stream", b"\x00")
        self.assertEqual((await self.preview(self.url("/bin"))).json, {})
        self.web.pages["/empty"] = ("text/html", b"")
        self.assertEqual((await self.preview(self.url("/empty"))).json, {})
        self.assertEqual((await self.preview(self.url("/missing"))).json["errcode"], "M_NOT_FOUND")
        self.web.pages["/lost"] = ("text/html", b'<title>T</title><meta property="og:image" content="/gone.png">')
        self.assertEqual((await self.preview(self.url("/lost"))).json, {"og:title": "T"})
        self.web.pages["/lie.png"] = ("text/html", b"<title>no image</title>")
        self.web.pages["/lies"] = ("text/html", b'<title>T</title><meta property="og:image" content="/lie.png">')
        self.assertEqual((await self.preview(self.url("/lies"))).json, {"og:title": "T"})

    async def test_a_long_page_is_read_to_its_limit(self) -> None:
        self.web.pages["/long"] = ("text/html", b"<title>Long</title>" + b"x" * (2 << 20))
        self.assertEqual((await self.preview(self.url("/long"))).json, {"og:title": "Long"})

    async def test_what_is_no_link(self) -> None:
        for url in ("", "x", "ftp://example.org/", "file:///etc/passwd", "http://", "http://u:p@example.org/", "//x"):
            reply = await self.preview(url)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"), url)
        reply = await self.request("GET", PREVIEW, None, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))
        self.assertEqual((await self.request("GET", PREVIEW, query={"url": "http://x.org"})).status, 401)


class InsideTests(PreviewCase):
    async def test_private_addresses_are_not_reached(self) -> None:
        for host in (
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ):
            reply = await self.preview(self.url("/page", host))
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"), host)
        self.assertEqual(self.web.asked, [])


class OffTests(PreviewCase):
    settings = "media: {url_previews: false}"

    async def test_previews_can_be_switched_off(self) -> None:
        reply = await self.preview(self.url("/page"))
        self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_UNRECOGNIZED"))


class SummaryTests(TestCase):
    def test_encodings(self) -> None:
        for body, header in (
            ("<title>日本</title>".encode("shift-jis"), "text/html; charset=shift_jis"),
            (b"<meta charset=euc-jp><title>" + "日本".encode("euc-jp"), "text/html"),
            ("\ufeff<title>日本</title>".encode(), "text/html; charset=latin-1"),
            ("<title>日本</title>".encode(), "text/html; charset=nonsense"),
            ("<title>日本</title>".encode(), "text/html"),
        ):
            self.assertEqual(summarize(body, header), {"og:title": "日本"})

    def test_comments_and_scripts_say_nothing(self) -> None:
        page = (
            b"<!-- <title>a</title> --><SCRIPT>'<title>b</title>'</script><svg><title>c</title></svg><title>d</title>"
        )
        self.assertEqual(summarize(page, ""), {"og:title": "d"})
        self.assertEqual(
            summarize(b"<title>x</title><!-- <meta property='og:type' content='y'>", ""), {"og:title": "x"}
        )

    def test_hostile_pages_take_no_time(self) -> None:
        size = 512 * 1024
        started = time.process_time()
        pieces = """< <!-- <meta_ <meta_" <meta_'" <meta_a= <title> <script </script><script> <div> & &# <h1_
            <link_rel=" <meta_property=og:x_content=" <![CDATA[ <a_b=' <style></style>"""
        for piece in pieces.replace("_", "\0").split():
            page = piece.replace("\0", " ").encode()
            summarize(page * (size // len(page)), "text/html")
        self.assertLess(time.process_time() - started, 10.0)
