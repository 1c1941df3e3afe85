# SPDX-License-Identifier: Apache-2.0
"""The well-known files say what is configured, and nothing of what is not."""

from homeserver.config.load import ConfigError, parse
from storage import accounts
from tests.harness.server import HomeserverCase

KEY = "6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s"


class Configured(HomeserverCase):
    settings = f"""
support: {{email: help@parley.test, matrix_id: "@admin:parley.test", page: "https://parley.test/help"}}
policy_server_key: {KEY}
"""

    async def test_clients_are_told_where_the_server_is(self) -> None:
        reply = await self.request("GET", "/.well-known/matrix/client", expect=200)
        self.assertEqual(reply.json["m.homeserver"], {"base_url": "https://parley.test"})

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

    def test_a_key_that_is_none_is_refused(self) -> None:
        with self.assertRaises(ConfigError):
            parse("server_name: parley.test\npolicy_server_key: short", "test.yaml", self.folder, {})


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
