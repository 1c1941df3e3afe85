# SPDX-License-Identifier: Apache-2.0
"""Calls are relayed where a TURN server is configured."""

import hashlib
import hmac
from base64 import b64encode

from homeserver.config.load import ConfigError, parse
from tests.harness.server import EPOCH_MS, HomeserverCase

PATH = "/_matrix/client/v3/voip/turnServer"
URI = "turn:turn.parley.test?transport=udp"


class Shared(HomeserverCase):
    settings = f"turn: {{uris: ['{URI}'], secret: between us, lifetime: 1h}}"

    async def test_credentials_are_made_for_each_user_and_end(self) -> None:
        alice = await self.register("alice")
        answer = (await self.request("GET", PATH, token=alice, expect=200)).json
        username = f"{(EPOCH_MS + 1000) // 1000 + 3600}:@alice:parley.test"
        password = b64encode(hmac.digest(b"between us", username.encode(), hashlib.sha1)).decode()
        self.assertEqual(answer, {"username": username, "password": password, "uris": [URI], "ttl": 3600})

    async def test_strangers_get_none(self) -> None:
        self.assertEqual((await self.request("GET", PATH)).json["errcode"], "M_MISSING_TOKEN")


class Without(HomeserverCase):
    async def test_there_is_no_turn_server(self) -> None:
        reply = await self.request("GET", PATH, token=await self.register("alice"))
        self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))

    def test_what_cannot_be_is_refused(self) -> None:
        for turn in ("{uris: [], secret: s}", "{uris: ['http://x'], secret: s}", f"{{uris: ['{URI}']}}"):
            with self.assertRaises(ConfigError):
                parse(f"server_name: parley.test\nturn: {turn}", "test.yaml", self.folder, {})
