# SPDX-License-Identifier: Apache-2.0
"""The well-known files say what is configured, and nothing of what is not."""

from homeserver.config.load import ConfigError, parse
from storage import accounts
from tests.harness.server import HomeserverCase

KEY = "6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s"
TRANSPORTS = "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports"


class Configured(HomeserverCase):
    settings = f"""
support: {{email: help@parley.test, matrix_id: "@admin:parley.test", page: "https://parley.test/help"}}
policy_server_key: {KEY}
calls: {{livekit: ["https://livekit.parley.test"]}}
"""

    async def test_clients_are_told_where_the_server_is(self) -> None:
        reply = await self.request("GET", "/.well-known/matrix/client", expect=200)
        self.assertEqual(reply.json["m.homeserver"], {"base_url": "https://parley.test"})

    async def test_calls_find_their_transports(self) -> None:
        found = [{"type": "livekit", "livekit_service_url": "https://livekit.parley.test"}]
        known = await self.request("GET", "/.well-known/matrix/client", expect=200)
        self.assertEqual(known.json["org.matrix.msc4143.rtc_foci"], found)
        reply = await self.request("GET", TRANSPORTS, token=await self.register("alice"), expect=200)
        self.assertEqual(reply.json, {"rtc_transports": found})
        versions = await self.request("GET", "/_matrix/client/versions", expect=200)
        self.assertTrue(versions.json["unstable_features"]["org.matrix.msc4143"])
        self.assertEqual((await self.request("GET", TRANSPORTS)).status, 401)

    async def test_whom_to_turn_to(self) -> None:
        reply = await self.request("GET", "/.well-known/matrix/support", expect=200)
        contact = {"role": "m.role.admin", "email_address": "help@parley.test", "matrix_id": "@admin:parley.test"}
        self.assertEqual(reply.json, {"contacts": [contact], "support_page": "https://parley.test/help"})

    async def test_the_key_of_a_policy_server(self) -> None:
        reply = await self.request("GET", "/.well-known/matrix/policy_server", expect=200)
        self.assertEqual(reply.json, {"public_keys": {"ed25519": KEY}})


class NotConfigured(HomeserverCase):
    async def test_what_is_not_configured_is_not_found(self) -> None:
        for name in ("support", "policy_server"):
            reply = await self.request("GET", f"/.well-known/matrix/{name}", expect=404)
            self.assertEqual(reply.json["errcode"], "M_NOT_FOUND")

    async def test_there_are_no_transports(self) -> None:
        reply = await self.request("GET", TRANSPORTS, token=await self.register("alice"), expect=200)
        self.assertEqual(reply.json, {"rtc_transports": []})
        versions = await self.request("GET", "/_matrix/client/versions", expect=200)
        self.assertNotIn("org.matrix.msc4143", versions.json["unstable_features"])

    def test_what_is_no_key_and_no_address_is_refused(self) -> None:
        for line in ("policy_server_key: short", "calls: {livekit: [livekit.parley.test]}"):
            with self.assertRaises(ConfigError):
                parse(f"server_name: parley.test\n{line}", "test.yaml", self.folder, {})


class CapabilityTests(HomeserverCase):
    async def test_administrators_are_told_what_they_may_do_to_accounts(self) -> None:
        path = "/_matrix/client/v3/capabilities"
        alice, root = await self.register("alice"), await self.register("root")
        plain = (await self.request("GET", path, None, alice, expect=200)).json["capabilities"]
        self.assertEqual(plain["m.room_versions"]["default"], "12")
        self.assertNotIn("m.account_moderation", plain)
        account = await self.app.base.db.read(accounts.find, root.user_id)
        assert account is not None
        await self.app.base.db.write(accounts.set_admin, account.usr, True)
        await self.restart_server()
        more = (await self.request("GET", path, None, root, expect=200)).json["capabilities"]
        self.assertEqual(more, {**plain, "m.account_moderation": {"suspend": True, "lock": True}})
        await self.request("GET", path, expect=401)
