# SPDX-License-Identifier: Apache-2.0
"""Signing in and out."""

from tests.harness.server import HomeserverCase

WHOAMI = "/_matrix/client/v3/account/whoami"
LOGIN = "/_matrix/client/v3/login"


class LoginTests(HomeserverCase):
    async def test_somebody_who_registered_is_signed_in(self) -> None:
        alice = await self.register("alice")
        reply = await self.request("GET", WHOAMI, token=alice, expect=200)
        self.assertEqual(reply.json, {"user_id": "@alice:parley.test", "device_id": alice.device_id, "is_guest": False})
