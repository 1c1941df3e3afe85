# SPDX-License-Identifier: Apache-2.0
"""What a log line looks like, and what is never in one."""

import io
import logging
import sys

import orjson
from twisted.trial.unittest import TestCase

from homeserver.logs import Json, Text, request_id
from tests.harness.server import PASSWORD, HomeserverCase


class Lines(TestCase):
    def record(self, message: str, *arguments: object, **extra: object) -> logging.LogRecord:
        try:
            raise ValueError("why")
        except ValueError:
            made = logging.LogRecord("homeserver.x", logging.ERROR, "x.py", 1, message, arguments, sys.exc_info())
        made.created = 1_790_000_000.25
        made.__dict__.update(extra)
        return made

    def test_a_text_line_has_time_level_place_and_request(self) -> None:
        request_id.set("1f")
        self.addCleanup(request_id.set, "")
        line = Text().format(self.record("lost %s", "it"))
        self.assertTrue(line.startswith("2026-09-21T14:13:20.250Z ERROR homeserver.x [1f] lost it\nTraceback"), line)
        self.assertTrue(line.endswith("ValueError: why"))

    def test_a_json_line_is_one_object(self) -> None:
        request_id.set("1f")
        self.addCleanup(request_id.set, "")
        text = Json().format(self.record("lost %s", "it", room="!a"))
        self.assertNotIn("\n", text)
        line = orjson.loads(text)
        self.assertEqual(
            (line["message"], line["request"], line["room"], line["level"]), ("lost it", "1f", "!a", "ERROR")
        )
        self.assertIn("ValueError: why", line["error"])


class Secrets(HomeserverCase):
    settings = "registration: {enabled: true, shared_secret: hush-hush-hush}"

    async def test_no_token_or_password_is_in_any_line(self) -> None:
        heard = io.StringIO()
        listener = logging.StreamHandler(heard)
        listener.setFormatter(Text())
        root = logging.getLogger()
        level = root.level
        root.addHandler(listener)
        root.setLevel(logging.DEBUG)
        self.addCleanup(root.setLevel, level)
        self.addCleanup(root.removeHandler, listener)
        alice = await self.register("alice")
        again = await self.login("alice")
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "alice"},
            "password": PASSWORD + "x",
        }
        await self.request("POST", "/_matrix/client/v3/login", body, expect=403)
        await self.request("POST", "/_matrix/client/v3/login", {**body, "identifier": 3}, expect=400)
        await self.request("GET", f"/_matrix/client/v3/sync?access_token={alice.token}", expect=200)
        await self.request("GET", f"/_matrix/client/v3/{alice.token}", token=alice, expect=404)
        room = await self.create_room(alice)
        await self.send(alice, room, "dear diary")
        await self.request("POST", "/_matrix/client/v3/logout", {}, again, expect=200)
        await self.restart_server()
        logging.getLogger("homeserver").debug("the end")
        said = heard.getvalue()
        self.assertIn("the end", said)
        for secret in (alice.token, again.token, PASSWORD, "hush-hush-hush", "dear diary"):
            self.assertNotIn(secret, said)
