# SPDX-License-Identifier: Apache-2.0
"""Nonsense sent to every endpoint of accounts and media: an error of the protocol, never a fault of the server."""

import re
from random import Random
from typing import Any

import orjson

from tests.harness.server import HomeserverCase

AREAS = "account login register refresh logout devices profile media openid admin report".split()
NASTY = [
    "",
    "\x00",
    "x" * 70_000,
    "\U0001f600" * 300,
    "../../etc/passwd",
    "@alice:parley.test",
    "@:",
    "!x:y",
    "$" + "a" * 43,
    -1,
    1 << 62,
    1.5,
    True,
    None,
    [],
    {},
    [[[[]]]],
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "\x00"}, "password": "\x00"},
    {"session": "\x00", "type": "m.login.registration_token", "token": "\x00"},
]
FIELDS = """
auth username password device_id initial_device_display_name refresh_token type identifier user medium address token
new_password logout_devices erase devices display_name displayname avatar_url reason score locked suspended nonce mac
admin client_secret sid email send_attempt country phone_number three_pid_creds id_server id_access_token inhibit_login
""".split()
RAW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"a": "\\ud800"}',
    b'{"username": "\\ud800", "auth": {"type": "m.login.dummy"}}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"reason": "x", "reason": 5}',
]


SAMPLE = 2


class HostileTests(HomeserverCase):
    settings = "registration: {enabled: true, guests: true, shared_secret: sesame}"
    timeout = 240

    def endpoints(self) -> list[tuple[str, str]]:
        found = set()
        for bound in self.dispatcher._router.endpoints:
            for path in bound.declaration.paths:
                if any(area in path for area in AREAS) and "account_data" not in path:
                    found.add((bound.declaration.method, path))
        self.assertGreater(len(found), 60)
        return sorted(found)

    async def send(self, method: str, path: str, token: Any, **kwargs: Any) -> None:
        reply = await self.request(method, path, None, token, validate=False, **kwargs)
        what = f"{method} {path[:200]} {str(kwargs)[:200]} answered {reply.status} {reply.body[:200]!r}"
        self.assertLess(reply.status, 500, what)
        if reply.status >= 400 and reply.json is not None and "flows" not in reply.json:
            self.assertTrue(reply.json["errcode"].startswith("M_"), what)

    async def test_bodies(self) -> None:
        chance = Random(3)
        for number, (method, path) in enumerate(self.endpoints()):
            if method == "GET":
                continue
            user = await self.register(f"user{number}")
            filled = re.sub(r"\{\w+\}", "x", path.replace("{userId}", user.user_id))
            for raw in RAW:
                await self.send(method, filled, user, raw=raw)
            for field in FIELDS:
                for value in chance.sample(NASTY, SAMPLE):
                    body: dict[str, Any] = {field: value, "auth": {"type": "m.login.dummy"}, "type": "m.login.password"}
                    await self.send(method, filled, user, raw=orjson.dumps({**body, field: value}))

    async def test_paths_and_queries(self) -> None:
        user = await self.register("alice")
        for method, path in self.endpoints():
            if method != "GET":
                continue
            for nasty in ("%00", "%ff", "%ed%a0%80", "x" * 3000, "%2e%2e%2f", "@alice%3Aparley.test", "%F0%9F%98%80"):
                filled = re.sub(r"\{\w+\}", nasty, path)
                await self.send(method, filled, user)
                for name in ("username", "token", "session", "redirectUrl", "kind", "width", "url", "timeout_ms"):
                    await self.send(method, f"{filled}?{name}={nasty}&height=1&timeout_ms=0", user)
