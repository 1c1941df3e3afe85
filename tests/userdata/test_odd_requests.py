# SPDX-License-Identifier: Apache-2.0
"""Whatever JSON and names a client sends to the pages of user data, the answer is the specification's."""

from random import Random
from typing import Any
from urllib.parse import quote

from tests.userdata.case import V3, UserDataCase

REQUESTS = 1500
NAMES = (
    *("m.tag", "m.fully_read", "m.ignored_user_list", "m.push_rules", "m.invite_permission_config", "a"),
    *(
        "org.matrix.msc4155.invite_permission_config",
        "ü",
        "\x00",
        "a" * 300,
        " ",
        "%",
        "..",
        "m.read",
        "m.read.private",
    ),
)
KEYS = (
    *("actions", "conditions", "pattern", "enabled", "kind", "key", "is", "value", "typing", "timeout", "presence"),
    *("status_msg", "order", "tags", "thread_id", "m.read", "m.read.private", "m.fully_read", "app_id", "pushkey"),
    *("data", "url", "lang", "append", "app_display_name", "device_display_name", "profile_tag", "ignored_users"),
    *("blocked_users", "default_action", "set_tweak", "event_id", "org.matrix.msc3881.enabled"),
)
VALUES = (
    *("", "x", "main", "notify", "dont_notify", "http", "block", "online", "$x", "event_match", "2", "\x00", "a" * 600),
    *(0, 1, -1, 2**53, 2**63, 1e300, 0.5, True, False, None, "room_member_count", "content.body", "*" * 50, "🎂"),
)


class OddRequests(UserDataCase):
    timeout = 120

    def anything(self, depth: int = 0) -> Any:
        """A JSON value made of words that mean something somewhere."""
        chance = self.random.random()
        if depth < 3 and chance < 0.35:
            return {self.random.choice(KEYS): self.anything(depth + 1) for _ in range(self.random.randrange(5))}
        if depth < 3 and chance < 0.5:
            return [self.anything(depth + 1) for _ in range(self.random.randrange(4))]
        return self.random.choice(VALUES)

    def body(self, *wanted: str) -> Any:
        """Mostly an object with the keys that the endpoint wants."""
        if self.random.random() < 0.05:
            return self.anything()
        return {name: self.anything(1) for name in wanted if self.random.random() < 0.9}

    def name(self) -> str:
        return quote(self.random.choice(NAMES), safe="")

    def odd_request(self, user_id: str, room_id: str, event_id: str) -> tuple[str, str, Any]:
        """One of all the requests of these pages: method, path, body."""
        user, rooms, name = f"/user/{user_id}", f"/rooms/{quote(room_id)}", self.name()
        kind = self.random.choice(("override", "content", "room", "sender", "underride", "moon"))
        event = self.random.choice([event_id, "$x", name])
        rule = f"/pushrules/global/{kind}/{self.random.choice([name, '.m.rule.message', '.m.rule.master'])}"
        return self.random.choice(
            [
                ("PUT", f"{user}/account_data/{name}", self.body(*self.random.sample(KEYS, 3))),
                ("GET", f"{user}/account_data/{name}", None),
                ("PUT", f"{user}{rooms}/account_data/{name}", self.body("tags", "event_id")),
                ("GET", f"{user}{rooms}/account_data/{name}", None),
                ("PUT", f"{user}{rooms}/tags/{name}", self.body("order")),
                ("DELETE", f"{user}{rooms}/tags/{name}", None),
                ("GET", f"{user}{rooms}/tags", None),
                ("POST", f"{rooms}/receipt/{name}/{event}", self.body("thread_id")),
                ("POST", f"{rooms}/receipt/m.read/{event}", self.body("thread_id")),
                ("POST", f"{rooms}/read_markers", self.body("m.read", "m.fully_read")),
                ("PUT", f"{rooms}/typing/{user_id}", self.body("typing", "timeout")),
                ("PUT", f"/presence/{user_id}/status", self.body("presence", "status_msg")),
                ("GET", f"/presence/{name}/status", None),
                ("PUT", rule, self.body("actions", "conditions", "pattern")),
                ("PUT", rule + "/enabled", self.body("enabled")),
                ("PUT", rule + "/actions", self.body("actions")),
                ("GET", rule, None),
                ("DELETE", rule, None),
                ("GET", "/pushrules/", None),
                ("POST", "/pushers/set", self.body(*KEYS[-17:], "kind")),
                ("GET", "/pushers", None),
                ("GET", f"/notifications?limit=3&from={name}&only=highlight", None),
            ]
        )

    async def test_nothing_breaks(self) -> None:
        self.random = Random(3)
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.create_room(alice, invite=[bob.user_id], preset="private_chat")
        await self.join(bob, room)
        event_id = await self.send(bob, room)
        seen: dict[int, int] = {}
        for number in range(REQUESTS):
            method, path, body = self.odd_request(alice.user_id, room, event_id)
            reply = await self.request(method, V3 + path, body, alice)
            self.assertLess(reply.status, 500, (method, path, body, reply.json))
            seen[reply.status] = seen.get(reply.status, 0) + 1
            if number % 50 == 49:
                content = self.body("body", "m.mentions", "m.relates_to", "msgtype")
                if isinstance(content, dict):
                    await self.request("PUT", f"{V3}/rooms/{quote(room)}/send/m.room.message/{number}", content, bob)
                await self.sync(alice)
        self.assertGreater(seen.get(200, 0), REQUESTS // 5)
        self.assertGreater(seen.get(400, 0), REQUESTS // 20)
