# SPDX-License-Identifier: Apache-2.0
"""What administrators do with media, and what becomes of files."""

import os

from storage import accounts, media
from tests.harness.server import Reply, Session
from tests.media.test_media import MediaCase

ADMIN = "/_synapse/admin/v1"


class CareCase(MediaCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.root = await self.admin()

    async def ask(self, method: str, path: str, by: Session | None = None) -> Reply:
        return await self.request(method, f"{ADMIN}/{path}", None, by or self.root)

    def files(self) -> int:
        return len([path for path in (self.folder / "media" / "content").rglob("*") if path.is_file()])

    def grow_old(self) -> None:
        """As if no file had been used for long."""
        for path in (self.folder / "media" / "content").rglob("*"):
            os.utime(path, (1, 1))

    async def sweep(self) -> None:
        """Let the next sweep come."""
        self.clock.advance(15 * 60 + 1)
        await self.settle(0.1)


class QuarantineTests(CareCase):
    async def test_quarantine_is_of_the_content(self) -> None:
        one, two, other = await self.upload(b"bad"), await self.upload(b"bad"), await self.upload(b"good")
        reply = await self.ask("POST", f"media/quarantine/{one}")
        self.assertEqual((reply.status, reply.json), (200, {"num_quarantined": 2}))
        again = await self.upload(b"bad")
        for media_id in (one, two, again):
            self.assertEqual((await self.download(media_id)).status, 404)
        self.assertEqual((await self.download(other)).status, 200)
        self.assertEqual((await self.ask("POST", f"media/unquarantine/{again}")).json, {})
        for media_id in (one, two, again):
            self.assertEqual((await self.download(media_id)).body, b"bad")

    async def test_all_media_of_a_user(self) -> None:
        mine = [await self.upload(b"one"), await self.upload(b"two")]
        reply = await self.ask("POST", f"user/{self.alice.user_id}/media/quarantine")
        self.assertEqual(reply.json, {"num_quarantined": 2})
        for media_id in mine:
            self.assertEqual((await self.download(media_id)).status, 404)

    async def test_who_may(self) -> None:
        media_id = await self.upload(b"mine")
        for method, path in (
            ("POST", f"media/quarantine/{media_id}"),
            ("POST", f"media/unquarantine/{media_id}"),
            ("POST", f"user/{self.alice.user_id}/media/quarantine"),
            ("DELETE", f"media/{media_id}"),
        ):
            reply = await self.ask(method, path, self.alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"), path)
        self.assertEqual((await self.download(media_id)).status, 200)
        for method, path in (
            ("POST", "media/quarantine/parley.test/unknown"),
            ("POST", "media/unquarantine/elsewhere.test/unknown"),
            ("POST", "user/@nobody:parley.test/media/quarantine"),
            ("DELETE", "media/no%20server/x"),
        ):
            self.assertEqual((await self.ask(method, path)).json["errcode"], "M_NOT_FOUND", path)


class DeletionTests(CareCase):
    async def test_the_file_goes_with_the_last_that_stands_for_it(self) -> None:
        one, two = await self.upload(b"same"), await self.upload(b"same")
        for media_id, left in ((one, 1), (two, 0)):
            reply = await self.ask("DELETE", f"media/{media_id}")
            self.assertEqual(reply.json, {"deleted_media": [media_id.partition("/")[2]], "total": 1})
            self.assertEqual((await self.download(media_id)).status, 404)
            self.grow_old()
            await self.sweep()
            self.assertEqual(self.files(), left)
        account = await self.app.base.db.read(accounts.find, self.alice.user_id)
        self.assertEqual(await self.app.base.db.read(media.used, account.usr), 0)

    async def test_what_comes_again_meanwhile_stays(self) -> None:
        one = await self.upload(b"same")
        await self.ask("DELETE", f"media/{one}")
        self.grow_old()
        two = await self.upload(b"same")
        await self.sweep()
        self.grow_old()
        await self.sweep()
        self.assertEqual((await self.download(two)).body, b"same")

    async def test_a_file_that_is_being_stored_stays(self) -> None:
        await self.ask("DELETE", f"media/{await self.upload(b'same')}")
        for path in (self.folder / "media" / "content").rglob("*"):
            os.utime(path, (self.runtime.now_ms() / 1000, self.runtime.now_ms() / 1000))
        await self.sweep()
        self.assertEqual(self.files(), 1)
        self.clock.advance(2 * 60 * 60)
        await self.sweep()
        self.assertEqual(self.files(), 0)
