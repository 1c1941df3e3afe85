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


class RedactionTests(CareCase):
    DAY = 86_400

    async def setUp(self) -> None:
        await super().setUp()
        reply = await self.request("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"}, self.root)
        self.room = reply.json["room_id"]
        for one in (self.alice, await self.register("bob")):
            await self.request("POST", f"/_matrix/client/v3/join/{self.room}", {}, one, expect=200)
            self.bob = one
        self.sent = 0

    async def show(self, media_id: str, by: Session, **more: object) -> str:
        self.sent += 1
        path = f"/_matrix/client/v3/rooms/{self.room}/send/m.room.message/{self.sent}"
        content = {"msgtype": "m.image", "body": "a picture", "url": f"mxc://{media_id}", **more}
        return str((await self.request("PUT", path, content, by, expect=200)).json["event_id"])

    async def redact(self, event_id: str, by: Session) -> None:
        self.sent += 1
        path = f"/_matrix/client/v3/rooms/{self.room}/redact/{event_id}/{self.sent}"
        await self.request("PUT", path, {}, by, expect=200)

    async def days_pass(self, days: int = 8) -> None:
        await self.sweep()
        self.clock.advance(days * self.DAY)
        for _ in range(2):
            self.grow_old()
            await self.sweep()

    async def status(self, media_id: str) -> int:
        return (await self.download(media_id)).status

    async def test_a_redacted_picture_goes_after_a_while(self) -> None:
        shown, other = await self.upload(b"shown"), await self.upload(b"other")
        small = await self.upload(b"small")
        info = {"thumbnail_url": f"mxc://{small}"}
        event = await self.show(shown, self.alice, info=info)
        await self.show(other, self.alice)
        await self.days_pass()
        self.assertEqual(await self.status(shown), 200)
        await self.redact(event, self.root)
        await self.days_pass(6)
        self.assertEqual((await self.status(shown), await self.status(small)), (200, 200))
        await self.days_pass(2)
        self.assertEqual((await self.status(shown), await self.status(small)), (404, 404))
        self.assertEqual((await self.status(other), self.files()), (200, 1))

    async def test_the_last_event_decides_whoever_sent_it(self) -> None:
        media_id = await self.upload(b"shown")
        first, second = await self.show(media_id, self.alice), await self.show(media_id, self.bob)
        await self.redact(first, self.alice)
        await self.days_pass()
        self.assertEqual(await self.status(media_id), 200)
        await self.redact(second, self.bob)
        await self.days_pass()
        self.assertEqual(await self.status(media_id), 404)

    async def test_nobody_can_make_the_files_of_others_go(self) -> None:
        media_id = await self.upload(b"only in encrypted events")
        await self.redact(await self.show(media_id, self.bob), self.bob)
        await self.days_pass()
        self.assertEqual(await self.status(media_id), 200)

    async def test_what_was_never_shown_stays(self) -> None:
        media_id = await self.upload(b"never shown")
        await self.days_pass(400)
        self.assertEqual(await self.status(media_id), 200)

    async def test_an_avatar_and_a_sticker_stay(self) -> None:
        avatar, sticker = await self.upload(b"avatar"), await self.upload(b"sticker")
        user = f"/_matrix/client/v3/user/{self.alice.user_id}/account_data/im.ponies.user_emotes"
        pack = {"images": {"cat": {"url": f"mxc://{sticker}"}}}
        await self.request("PUT", user, pack, self.alice, expect=200)
        path = f"/_matrix/client/v3/profile/{self.alice.user_id}/avatar_url"
        await self.request("PUT", path, {"avatar_url": f"mxc://{avatar}"}, self.alice, expect=200)
        for media_id in (avatar, sticker):
            await self.redact(await self.show(media_id, self.alice), self.alice)
        await self.days_pass()
        self.assertEqual((await self.status(avatar), await self.status(sticker)), (200, 200))


class ForeverTests(RedactionTests):
    settings = "media: {keep_redacted: }"

    async def test_a_redacted_picture_goes_after_a_while(self) -> None:
        media_id = await self.upload(b"shown")
        await self.redact(await self.show(media_id, self.alice), self.alice)
        await self.days_pass(1000)
        self.assertEqual(await self.status(media_id), 200)

    async def test_the_last_event_decides_whoever_sent_it(self) -> None:
        media_id = await self.upload(b"shown")
        for one in (await self.show(media_id, self.alice), await self.show(media_id, self.bob)):
            await self.redact(one, self.root)
        await self.days_pass(1000)
        self.assertEqual(await self.status(media_id), 200)
