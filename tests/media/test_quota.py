# SPDX-License-Identifier: Apache-2.0
"""How much each role may upload."""

from storage import accounts, media
from tests.harness.server import Session
from tests.media.test_media import CREATE, UPLOAD, MediaCase

CONFIG = "/_matrix/client/v1/media/config"


class QuotaTests(MediaCase):
    settings = (
        "media: {max_upload_size: 2K, quota: "
        "{users: {max_upload_size: 1K, total: 2500}, admins: {max_upload_size: 9M}}}"
    )

    async def post(self, size: int, by: Session | None = None) -> tuple[int, str | None]:
        reply = await self.request("POST", UPLOAD, None, by or self.alice, raw=b"x" * size)
        return reply.status, reply.json.get("errcode")

    async def test_the_limit_of_a_role_is_told_and_kept(self) -> None:
        reply = await self.request("GET", CONFIG, token=self.alice, expect=200)
        self.assertEqual(reply.json, {"m.upload.size": 1024})
        self.assertEqual(await self.post(1025), (413, "M_TOO_LARGE"))
        self.assertEqual(await self.post(1024), (200, None))

    async def test_an_admin_has_a_limit_too(self) -> None:
        admin = await self.admin()
        reply = await self.request("GET", CONFIG, token=admin, expect=200)
        self.assertEqual(reply.json, {"m.upload.size": 2048})
        for _ in range(3):
            self.assertEqual(await self.post(2048, admin), (200, None))

    async def test_the_quota_is_the_sum_of_all_files(self) -> None:
        for _ in range(2):
            self.assertEqual(await self.post(1000), (200, None))
        self.assertEqual(await self.post(501), (403, "M_FORBIDDEN"))
        reply = await self.request("POST", CREATE, None, self.alice, expect=200)
        path = f"{UPLOAD}/{reply.json['content_uri'].removeprefix('mxc://')}"
        reply = await self.request("PUT", path, None, self.alice, raw=b"x" * 501)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        await self.request("PUT", path, None, self.alice, raw=b"y" * 500, expect=200)
        self.assertEqual(await self.post(1), (403, "M_FORBIDDEN"))
        self.assertEqual(await self.post(1, await self.register("bob")), (200, None))

    async def test_what_is_refused_leaves_nothing(self) -> None:
        for size in (1000, 1000, 1000, 1025):
            await self.post(size)
        files = [path for path in (self.folder / "media").rglob("*") if path.is_file()]
        self.assertEqual(len(files), 1)

    async def test_at_once_no_more_goes_in(self) -> None:
        asked = [self.begin("POST", UPLOAD, None, self.alice, raw=bytes([n]) * 900) for n in range(6)]
        self.assertEqual(sorted([(await one).status for one in asked]), [200, 200, 403, 403, 403, 403])
        account = await self.app.base.db.read(accounts.find, self.alice.user_id)
        self.assertEqual(await self.app.base.db.read(media.used, account.usr), 1800)
