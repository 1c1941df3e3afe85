# SPDX-License-Identifier: Apache-2.0
"""Whatever is asked of the pages of rooms, the answer is one of the specification's errors, never a server's fault."""

import random
import re
from typing import Any
from urllib.parse import quote

from homeserver.http.endpoint import bind
from tests.rooms.test_membership import RoomCase

OURS = re.compile(
    r"^homeserver\.client_api\.(membership|directory|aliases|room_\w+|relations|threads|search|user_directory"
    r"|hierarchy|mutual_rooms|delayed_events)$"
)
QUERIES = (
    "from",
    "to",
    "dir",
    "limit",
    "filter",
    "at",
    "membership",
    "ts",
    "user_id",
    "since",
    "server",
    "via",
    "max_depth",
    "suggested_only",
    "include",
    "recurse",
    "next_batch",
    "format",
    "org.matrix.msc4140.delay",
)
NASTY = (
    "",
    "x",
    "\0",
    "\ud7ff￿",
    "💥" * 80,
    "a" * 3000,
    "!",
    "!x:parley.test",
    "@",
    "@x:parley.test",
    "#x:parley.test",
    "$x",
    "-1",
    "0",
    "9" * 18,
    "9" * 30,
    "s4611686018427387903_0",
    "t4611686018427387903",
    "t-9",
    "s1_2_3_4",
    "null",
    "{",
    '{"types": [1]}',
    '{"limit": 1e99}',
    "true",
    "b",
    "f",
    "../..",
    "%00",
    "m.room.member",
    "WzEsMiwzXQ",
    "cDk5OQ",
)
BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"{}",
    b'{"user_id": 1}',
    b'{"user_id": "@x:y", "reason": {}}',
    b'{"reason": "\\u0000"}',
    b'{"room_id": "!x:y"}',
    b'{"membership": "join"}',
    b'{"visibility": []}',
    b'{"search_categories": {"room_events": {"search_term": "\\u0000 \\ud83d"}}}',
    b'{"search_term": "\\u0000\'\\"*"}',
    b'{"new_version": "12", "additional_creators": "x"}',
    b'{"new_version": []}',
    b'{"third_party_signed": {"token": "t", "mxid": 1, "signatures": {}}}',
    b'{"filter": {"generic_search_term": ""}, "limit": -4}',
    b'{"alias": "#\\u0000:parley.test", "alt_aliases": [[]]}',
    b'{"a": 1e400}',
    b'{"a": NaN}',
    b'{"delay_ms": 9223372036854775807, "content": {}}',
    b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b"\xff\xfe",
    b'{"body": "' + b"x" * 70000 + b'"}',
)


class BadInput(RoomCase):
    timeout = 120

    async def test_no_question_breaks_the_server(self) -> None:
        chance = random.Random(11)
        room = await self.create_room(self.alice, preset="public_chat")
        event = await self.send(self.alice, room, "x")
        await self.join(self.bob, room)
        known = {"roomId": room, "eventId": event, "roomIdOrAlias": room}
        pages = [page for page in self.app.pages["client"] if OURS.match(type(page).__module__)]
        bound = [one for page in pages for one in bind(page)]
        self.assertGreater(len(bound), 40)
        for one in bound:
            for path in one.declaration.paths:
                for _ in range(40):
                    await self.ask(one.declaration.method, path, known, chance)
        await self.send(self.alice, await self.create_room(self.alice), "still alive")

    async def ask(self, method: str, path: str, known: dict[str, str], chance: random.Random) -> None:
        def fill(found: Any) -> str:
            name = found.group(1)
            good = name in known and chance.random() < 0.6
            return quote(known[name] if good else chance.choice(NASTY) or "x", safe="")

        asked = re.sub(r"{(\w+)}", fill, path)
        query = {chance.choice(QUERIES): chance.choice(NASTY) for _ in range(chance.randrange(4))}
        raw = chance.choice(BODIES) if method in ("PUT", "POST") else b""
        user = chance.choice((self.alice, self.bob))
        reply = await self.request(method, asked, None, user, query=query, raw=raw, validate=False)
        self.assertLess(reply.status, 500, (method, asked, query, raw[:200], reply.json))
        if reply.status >= 400:
            self.assertIsInstance(reply.json["errcode"], str, (method, asked))
