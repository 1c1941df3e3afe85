# SPDX-License-Identifier: Apache-2.0
"""The server as a whole answers, from the router to the database."""

from tests.harness.server import HomeserverCase


class Answers(HomeserverCase):
    async def test_versions_are_listed_for_anybody(self) -> None:
        reply = await self.request("GET", "/_matrix/client/versions", expect=200)
        self.assertIn("v1.12", reply.json["versions"])

    async def test_a_registered_user_knows_who_they_are(self) -> None:
        alice = await self.register("alice")
        reply = await self.request("GET", "/_matrix/client/v3/account/whoami", token=alice, expect=200)
        self.assertEqual(reply.json["user_id"], "@alice:parley.test")

    async def test_the_data_is_there_after_a_restart(self) -> None:
        alice = await self.register("alice")
        await self.restart_server()
        await self.request("GET", "/_matrix/client/v3/account/whoami", token=alice, expect=200)
