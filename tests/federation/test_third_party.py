# SPDX-License-Identifier: Apache-2.0
"""Invites to addresses, for people of other servers."""

from typing import Any
from urllib.parse import quote

from homeserver.protocol.signing import Signer, SigningKey, sign_json
from tests.federation.case import FederationCase
from tests.federation.test_edus import signed

IDENTITY = Signer("id.test", SigningKey.from_seed("0", b"i" * 32))


class ThirdParty(FederationCase):
    async def prepare(self) -> None:
        self.one, self.two = self.peers
        self.alice, self.bob = await self.one.register("alice"), await self.two.register("bob")
        self.room = await self.one.create_room(self.alice, preset="private_chat")
        key = {"public_key": IDENTITY.key.public_base64, "key_validity_url": "https://id.test/valid"}
        content = {**key, "display_name": "b...@x", "public_keys": [key]}
        await self.one.set_state(self.alice, self.room, "m.room.third_party_invite", content, "token")
        self.signed = sign_json({"mxid": self.bob.user_id, "token": "token"}, IDENTITY)

    def body(self, **changes: Any) -> dict[str, Any]:
        content = {"membership": "invite", "third_party_invite": {"display_name": "b", "signed": self.signed}}
        given = {"sender": self.alice.user_id, "state_key": self.bob.user_id, "content": content}
        return {"type": "m.room.member", "room_id": self.room, **given, **changes}

    async def test_a_binding_brings_the_invite(self) -> None:
        await self.prepare()
        invite = {"room_id": self.room, "sender": self.alice.user_id, "signed": self.signed, "mxid": self.bob.user_id}
        body = {"medium": "email", "address": "b@x.test", "mxid": self.bob.user_id, "invites": [invite, {}, 5]}
        await self.two.request("PUT", "/_matrix/federation/v1/3pid/onbind", body)
        self.assertIn(self.room, (await self.two.sync(self.bob))["rooms"]["invite"])
        self.assertEqual((await self.one.members(self.alice, self.room))[self.bob.user_id], "invite")
        await self.two.join(self.bob, self.room)

    async def test_only_what_was_signed_is_exchanged(self) -> None:
        await self.prepare()
        path = f"/_matrix/federation/v1/exchange_third_party_invite/{quote(self.room, safe='')}"
        forged = sign_json({"mxid": self.bob.user_id, "token": "token"}, Signer("id.test", self.two.key))
        carol = f"@carol:{self.two.name}"
        for body, status in (
            ({}, 400),
            (self.body(room_id="!other:x"), 400),
            (self.body(state_key=carol), 400),
            (self.body(content={"third_party_invite": {"signed": {**self.signed, "token": "other"}}}), 403),
            (self.body(content={"third_party_invite": {"signed": forged}}), 403),
            (self.body(content={"third_party_invite": {"signed": 3}}), 400),
        ):
            await signed(self.two, self.one, "PUT", path, body, status)
        self.assertNotIn(self.bob.user_id, await self.one.members(self.alice, self.room))
        await signed(self.two, self.one, "PUT", path, self.body())
        self.assertEqual((await self.one.members(self.alice, self.room))[self.bob.user_id], "invite")

    async def test_bad_bindings(self) -> None:
        await self.prepare()
        path = "/_matrix/federation/v1/3pid/onbind"
        for body, status in (
            ({}, 400),
            ({"invites": [], "mxid": 4}, 400),
            ({"invites": [], "mxid": f"@nobody:{self.two.name}"}, 404),
            ({"invites": [], "mxid": self.alice.user_id}, 404),
        ):
            await self.two.request("PUT", path, body, expect=status)
