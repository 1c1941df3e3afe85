# SPDX-License-Identifier: Apache-2.0
"""Two devices meet to sign one of them in by a QR code, in the older and the newer way."""

from homeserver.client_api.rendezvous import NEW, OLD
from homeserver.services.rendezvous import LIFETIME, MAILBOXES, MAX_BYTES, Rendezvous
from tests.harness.server import HomeserverCase, Reply

TEXT = {"content-type": "text/plain"}


class OlderForm(HomeserverCase):
    async def make(self, data: bytes = b"hello") -> tuple[str, str]:
        reply = await self.request("POST", OLD, raw=data, headers=TEXT, expect=201)
        url = reply.json["url"]
        self.assertTrue(url.startswith(f"https://parley.test{OLD}/"))
        return url.removeprefix("https://parley.test"), reply.headers["etag"]

    async def put(self, path: str, etag: str | None, data: bytes = b"next") -> Reply:
        return await self.request("PUT", path, raw=data, headers=TEXT | ({"if-match": etag} if etag else {}))

    async def test_two_devices_talk(self) -> None:
        path, etag = await self.make()
        read = await self.request("GET", path, expect=200)
        self.assertEqual(
            (read.body, read.headers["content-type"], read.headers["etag"]), (b"hello", "text/plain", etag)
        )
        self.assertEqual(read.headers["access-control-expose-headers"], "ETag")
        written = await self.put(path, etag)
        self.assertEqual(written.status, 202)
        self.assertNotEqual(written.headers["etag"], etag)
        self.assertEqual((await self.request("GET", path)).body, b"next")
        await self.request("DELETE", path, expect=204)
        self.assertEqual((await self.request("GET", path)).json["errcode"], "M_NOT_FOUND")

    async def test_who_has_seen_it_is_told_so(self) -> None:
        path, etag = await self.make()
        self.assertEqual((await self.request("GET", path, headers={"if-none-match": etag})).status, 304)

    async def test_what_was_written_in_between_is_not_lost(self) -> None:
        path, etag = await self.make()
        await self.put(path, etag)
        late = await self.put(path, etag, b"late")
        self.assertEqual((late.status, late.json["errcode"]), (412, "M_CONCURRENT_WRITE"))
        self.assertEqual((await self.put(path, None)).json["errcode"], "M_MISSING_PARAM")
        self.assertEqual((await self.request("GET", path)).body, b"next")

    async def test_no_page_of_somebody_elses_is_served(self) -> None:
        made = await self.request("POST", OLD, raw=b"<script>", headers={"content-type": "text/html"}, expect=201)
        read = await self.request("GET", made.json["url"].removeprefix("https://parley.test"))
        self.assertEqual(read.headers["content-type"], "text/plain")

    async def test_it_is_small_and_ends(self) -> None:
        reply = await self.request("POST", OLD, raw=b"x" * (MAX_BYTES + 1), headers=TEXT)
        self.assertEqual((reply.status, reply.json["errcode"]), (413, "M_TOO_LARGE"))
        path, etag = await self.make(b"x" * MAX_BYTES)
        self.clock.advance(LIFETIME)
        for reply in (await self.request("GET", path), await self.put(path, etag)):
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))

    async def test_there_are_never_too_many(self) -> None:
        rendezvous = Rendezvous(self.runtime)
        names = [rendezvous.create(b"x")[0] for _ in range(MAILBOXES + 1)]
        self.assertEqual(rendezvous.read(names[1]).data, b"x")
        self.assertEqual(len(rendezvous._boxes), MAILBOXES)

    async def test_no_client_is_told_of_it_before_it_leads_to_a_sign_in(self) -> None:
        features = (await self.request("GET", "/_matrix/client/versions")).json["unstable_features"]
        self.assertNotIn("org.matrix.msc4108", features)


class NewerForm(HomeserverCase):
    async def test_two_devices_talk(self) -> None:
        self.assertEqual((await self.request("GET", NEW, expect=200)).json, {"create_available": True})
        made = (await self.request("POST", NEW, {"data": "hello"}, expect=200)).json
        self.assertEqual(made["expires_in_ms"], LIFETIME * 1000)
        path = f"{NEW}/{made['id']}"
        read = (await self.request("GET", path, expect=200)).json
        self.assertEqual((read["data"], read["sequence_token"]), ("hello", made["sequence_token"]))
        next_body = {"sequence_token": made["sequence_token"], "data": "next"}
        written = (await self.request("PUT", path, next_body, expect=200)).json
        self.assertEqual((await self.request("GET", path)).json["sequence_token"], written["sequence_token"])
        late = await self.request("PUT", path, {**next_body, "data": "late"})
        self.assertEqual((late.status, late.json["errcode"]), (409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"))
        self.assertEqual((await self.request("GET", path)).json["data"], "next")
        self.assertEqual((await self.request("DELETE", path, expect=200)).json, {})
        self.assertEqual((await self.request("GET", path)).status, 404)

    async def test_bad_requests(self) -> None:
        for body, status, errcode in (
            ({}, 400, "M_BAD_JSON"),
            ({"data": 1}, 400, "M_BAD_JSON"),
            ({"data": "x" * (MAX_BYTES + 1)}, 413, "M_TOO_LARGE"),
        ):
            reply = await self.request("POST", NEW, body)
            self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode))
        made = (await self.request("POST", NEW, {"data": ""}, expect=200)).json
        reply = await self.request("PUT", f"{NEW}/{made['id']}", {"data": "x"})
        self.assertEqual(reply.json["errcode"], "M_BAD_JSON")
        browser = await self.request("GET", f"{NEW}/{made['id']}", headers={"sec-fetch-mode": "navigate"})
        self.assertEqual((browser.status, browser.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual((await self.request("DELETE", f"{NEW}/none")).status, 404)
