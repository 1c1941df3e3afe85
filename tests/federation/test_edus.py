# SPDX-License-Identifier: Apache-2.0
"""What servers tell each other besides events: typing, receipts, devices, messages to devices, presence."""

from typing import Any
from urllib.parse import quote

from federation import x_matrix
from homeserver.protocol import canonical_json
from homeserver.protocol.signing import Signer
from tests.federation import certificates
from tests.federation.case import FederationCase, Peer
from tests.harness.server import Session


async def signed(origin: Peer, to: Peer, method: str, path: str, body: object = None, expect: int | None = 200) -> Any:
    """A request of one server to another, by hand."""
    has = body is not None
    authorization = x_matrix.header(Signer(origin.name, origin.key), method, path, to.name, body, has_content=has)
    raw = canonical_json.encode(body) if has else b""
    uri, _, query = path.partition("?")
    from urllib.parse import parse_qsl

    given: dict[str, Any] = {}
    for name, value in parse_qsl(query):
        given.setdefault(name, []).append(value)
    reply = await to.request(
        method, uri, None, None, query=given, raw=raw, headers={"authorization": authorization}, expect=expect
    )
    return reply.json


class Edus(FederationCase):
    async def prepare(self) -> None:
        self.one, self.two = self.peers[:2]
        self.alice, self.bob = await self.one.register("alice"), await self.two.register("bob")
        self.room = await self.one.create_room(self.alice, preset="public_chat")
        await self.two.join(self.bob, self.room, self.one.name)

    async def ephemeral(self, peer: Peer, user: Session, kind: str) -> str:
        joined = (await peer.sync(user))["rooms"]["join"][self.room]
        return str([one["content"] for one in joined.get("ephemeral", {}).get("events", []) if one["type"] == kind])

    async def test_typing_and_receipts_arrive(self) -> None:
        await self.prepare()
        await self.one.put(f"rooms/{quote(self.room)}/typing/{self.alice.user_id}", {"typing": True}, self.alice)

        async def typing() -> bool:
            return self.alice.user_id in await self.ephemeral(self.two, self.bob, "m.typing")

        await self.until(typing, "typing")
        said = await self.two.send(self.bob, self.room, "read this")

        async def heard() -> bool:
            return "read this" in await self.one.bodies(self.alice, self.room)

        await self.until(heard, "the message")
        path = f"rooms/{quote(self.room)}/receipt/m.read/{quote(said)}"
        await self.one.post(path, {"thread_id": "main"}, self.alice)

        async def read() -> bool:
            shown = await self.ephemeral(self.two, self.bob, "m.receipt")
            return said in shown and self.alice.user_id in shown and "main" in shown

        await self.until(read, "the receipt")

    async def test_what_is_not_theirs_to_say_is_dropped(self) -> None:
        await self.prepare()
        said = await self.one.send(self.alice, self.room, "hello")
        carol = await self.one.register("carol")
        typing = {"room_id": self.room, "user_id": carol.user_id, "typing": True}
        stranger = {"room_id": self.room, "user_id": f"@stranger:{self.two.name}", "typing": True}
        read = {carol.user_id: {"event_ids": [said], "data": {"ts": 1}}}
        wrong: list[Any] = [
            {"edu_type": "m.typing", "content": typing},
            {"edu_type": "m.typing", "content": stranger},
            {"edu_type": "m.typing", "content": {"room_id": 5}},
            {"edu_type": "m.receipt", "content": {self.room: {"m.read": read}}},
            {"edu_type": "m.receipt", "content": {self.room: {"m.read": {self.bob.user_id: {"event_ids": 7}}}}},
            {"edu_type": "m.presence", "content": {"push": [{"user_id": self.alice.user_id, "presence": "online"}]}},
            {"edu_type": "m.presence", "content": {"push": 3}},
            {"edu_type": "m.device_list_update", "content": {"user_id": self.alice.user_id}},
            {"edu_type": "m.direct_to_device", "content": {"sender": self.alice.user_id, "messages": {}}},
            {"edu_type": "m.unheard_of", "content": {}},
            {"edu_type": 4},
            "nothing",
        ]
        await signed(self.two, self.one, "PUT", "/_matrix/federation/v1/send/t1", {"pdus": [], "edus": wrong})
        self.assertEqual(await self.ephemeral(self.one, self.alice, "m.typing"), "[]")
        self.assertEqual(await self.ephemeral(self.one, self.alice, "m.receipt"), "[]")

    async def test_messages_reach_devices_once_also_after_an_outage(self) -> None:
        await self.prepare()
        await self.two.stop()
        messages = {self.bob.user_id: {self.bob.device_id: {"n": 1}}}
        await self.one.put("sendToDevice/m.test/a", {"messages": messages}, self.alice)
        messages = {self.bob.user_id: {"*": {"n": 2}}}
        await self.one.put("sendToDevice/m.test/b", {"messages": messages}, self.alice)
        await self.settle(0.3)
        await self.one.stop()
        await self.one.start()
        await self.two.start()

        async def arrived() -> Any:
            found = (await self.two.sync(self.bob)).get("to_device", {}).get("events", [])
            return found if len(found) == 2 else None

        found = await self.until(arrived, "both messages", advance=0.5)
        self.assertEqual([one["content"]["n"] for one in found], [1, 2])
        edu = {
            "edu_type": "m.direct_to_device",
            "content": {
                "sender": self.alice.user_id,
                "type": "m.again",
                "message_id": "same",
                "messages": {self.bob.user_id: {self.bob.device_id: {}}},
            },
        }
        for name in ("x1", "x2"):
            await signed(self.one, self.two, "PUT", f"/_matrix/federation/v1/send/{name}", {"pdus": [], "edus": [edu]})
        found = (await self.two.sync(self.bob))["to_device"]["events"]
        self.assertEqual([one["type"] for one in found].count("m.again"), 1)

    async def test_keys_are_found_claimed_and_followed(self) -> None:
        await self.prepare()
        since = (await self.one.sync(self.alice))["next_batch"]
        device = self.bob.device_id
        keys = {
            "algorithms": ["m.megolm.v1.aes-sha2"],
            "device_id": device,
            "user_id": self.bob.user_id,
            "keys": {f"curve25519:{device}": "A" * 43, f"ed25519:{device}": "B" * 43},
            "signatures": {self.bob.user_id: {f"ed25519:{device}": "C" * 86}},
        }
        one_time = {"curve25519:AAAAAA": "D" * 43}
        await self.two.post("keys/upload", {"device_keys": keys, "one_time_keys": one_time}, self.bob)

        async def told() -> bool:
            found = await self.one.sync(self.alice, since)
            return self.bob.user_id in found.get("device_lists", {}).get("changed", [])

        await self.until(told, "the change of devices")
        asked = {"device_keys": {self.bob.user_id: []}}
        found = await self.one.post("keys/query", asked, self.alice)
        self.assertIn(device, found["device_keys"][self.bob.user_id])
        claim = {"one_time_keys": {self.bob.user_id: {device: "curve25519"}}}
        self.assertEqual(
            (await self.one.post("keys/claim", claim, self.alice))["one_time_keys"],
            {self.bob.user_id: {device: one_time}},
        )
        self.assertNotIn(
            device, (await self.one.post("keys/claim", claim, self.alice))["one_time_keys"].get(self.bob.user_id, {})
        )
        path = f"/_matrix/federation/v1/user/devices/{quote(self.bob.user_id, safe='')}"
        devices = await signed(self.one, self.two, "GET", path)
        self.assertEqual([one["device_id"] for one in devices["devices"]], [device])
        await self.two.stop()
        found = await self.one.post("keys/query", {**asked, "timeout": 1000}, self.alice)
        self.assertIn(self.two.name, found["failures"])

    async def test_bad_questions_about_users_get_errors(self) -> None:
        await self.prepare()
        base = "/_matrix/federation/v1/"
        for path, status in (
            (f"user/devices/{quote(self.bob.user_id, safe='')}", 400),
            (f"user/devices/{quote('@nobody:' + self.one.name, safe='')}", 404),
            ("query/profile", 400),
            (f"query/profile?user_id={quote(self.bob.user_id, safe='')}", 400),
            (f"query/profile?user_id={quote('@nobody:' + self.one.name, safe='')}", 404),
            ("query/directory", 400),
            (f"query/directory?room_alias={quote('#no:' + self.one.name, safe='')}", 404),
            ("query/weather", 404),
        ):
            await signed(self.two, self.one, "GET", base + path, expect=status)
        for path, body in (
            ("user/keys/query", {}),
            ("user/keys/query", {"device_keys": {self.alice.user_id: "all"}}),
            ("user/keys/claim", {"one_time_keys": {self.alice.user_id: ["x"]}}),
            ("user/keys/claim", []),
        ):
            await signed(self.two, self.one, "POST", base + path, body, expect=400)

    async def test_profiles_lists_and_openid(self) -> None:
        await self.prepare()
        await self.one.put(f"profile/{self.alice.user_id}/displayname", {"displayname": "Ally"}, self.alice)
        self.assertEqual((await self.two.get(f"profile/{self.alice.user_id}"))["displayname"], "Ally")
        public = await self.one.create_room(self.alice, preset="public_chat", visibility="public", name="Fish market")
        body = {"filter": {"generic_search_term": "fish"}}
        reply = await self.two.request(
            "POST", "/_matrix/client/v3/publicRooms", body, self.bob, query={"server": self.one.name}
        )
        self.assertEqual([one["room_id"] for one in reply.json["chunk"]], [public])
        path = f"user/{self.alice.user_id}/openid/request_token"
        token = (await self.one.post(path, {}, self.alice))["access_token"]
        info = "/_matrix/federation/v1/openid/userinfo"
        found = await self.one.request("GET", info, query={"access_token": token})
        self.assertEqual(found.json, {"sub": self.alice.user_id})
        await self.one.request("GET", info, query={"access_token": "wrong"}, expect=401)

    async def test_spaces_are_walked_across_servers(self) -> None:
        await self.prepare()
        child = await self.one.create_room(self.alice, preset="public_chat", name="Child")
        space = await self.one.create_room(self.alice, preset="public_chat", creation_content={"type": "m.space"})
        await self.one.set_state(self.alice, space, "m.space.child", {"via": [self.one.name]}, child)
        await self.two.join(self.bob, space, self.one.name)
        found = await self.two.request("GET", f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy", None, self.bob)
        self.assertEqual({one["room_id"] for one in found.json["rooms"]}, {space, child})


class Presences(FederationCase):
    count = 0

    async def test_only_servers_that_the_admin_lists_see_who_is_online(self) -> None:
        ca = certificates.usual().ca
        plain = f"federation: {{enabled: true, ca_file: {ca}}}"
        two = await self.add_peer(1, plain)
        one = await self.add_peer(0, f"federation: {{enabled: true, ca_file: {ca}, allowlist: ['{two.name}']}}")
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await two.join(bob, room, one.name)
        await one.put(f"presence/{alice.user_id}/status", {"presence": "online", "status_msg": "here"}, alice)

        async def seen() -> bool:
            found = await two.get(f"presence/{alice.user_id}/status", bob)
            return found.get("status_msg") == "here"

        await self.until(seen, "the presence")
        await two.put(f"presence/{bob.user_id}/status", {"presence": "online", "status_msg": "secret"}, bob)
        await self.settle(0.2)
        self.assertNotIn("status_msg", await one.get(f"presence/{bob.user_id}/status", alice))
