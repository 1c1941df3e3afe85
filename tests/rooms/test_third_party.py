# SPDX-License-Identifier: Apache-2.0
"""Invites by somebody else's word, and what is left of people who asked to be erased."""

from typing import Any

from homeserver.protocol.signing import Signer, SigningKey, sign_json
from tests.harness.server import PASSWORD
from tests.rooms.test_reading import ReadingCase

V3 = "/_matrix/client/v3"


class ThirdPartyInvites(ReadingCase):
    async def offer(self) -> tuple[str, SigningKey]:
        """A room with an invite for whoever the key's owner vouches for."""
        room = await self.create_room(self.alice)
        key = SigningKey.from_seed("0", b"identity-server-key-of-32-bytes!")
        content = {
            "display_name": "b...@example.org",
            "public_key": key.public_base64,
            "key_validity_url": "https://id.test/valid",
        }
        await self.put_state(self.alice, room, "m.room.third_party_invite", content, "token")
        return room, key

    def signed(self, key: SigningKey, mxid: str, token: str = "token") -> Any:
        return sign_json({"mxid": mxid, "sender": self.alice.user_id, "token": token}, Signer("id.test", key))

    async def test_a_vouched_for_user_joins(self) -> None:
        room, key = await self.offer()
        await self.act(self.bob, room, "join", expect=403)
        await self.act(self.bob, room, "join", {"third_party_signed": self.signed(key, self.bob.user_id)})
        self.assertEqual((await self.member(self.alice, room, self.bob))["membership"], "join")
        events = await self.everything(self.alice, room)
        invite = next(event for event in events if event["content"].get("membership") == "invite")
        self.assertEqual((invite["sender"], invite["state_key"]), (self.alice.user_id, self.bob.user_id))
        self.assertEqual(invite["content"]["third_party_invite"]["display_name"], "b...@example.org")

    async def test_proofs_that_do_not_hold(self) -> None:
        room, key = await self.offer()
        other = SigningKey.from_seed("0", b"another-key-of-exactly-32-bytes!")
        await self.act(self.bob, room, "join", {"third_party_signed": {}}, expect=400)
        for proof in (self.signed(other, self.bob.user_id), self.signed(key, self.alice.user_id)):
            await self.act(self.bob, room, "join", {"third_party_signed": proof}, expect=403)
        unknown = self.signed(key, self.bob.user_id, "other")
        await self.act(self.bob, room, "join", {"third_party_signed": unknown}, expect=404)
        self.assertIsNone(await self.member(self.alice, room, self.bob))


class Erased(ReadingCase):
    async def test_who_was_not_there_sees_nothing_of_the_erased(self) -> None:
        room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, room)
        await self.send(self.bob, room, "my words")
        auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": PASSWORD}
        await self.request("POST", f"{V3}/account/deactivate", {"auth": auth, "erase": True}, self.bob, expect=200)
        await self.settle(0.1)
        carol = await self.register("carol")
        await self.join(carol, room)
        events = [event for event in await self.everything(carol, room) if event["type"] == "m.room.message"]
        self.assertEqual([event["content"] for event in events], [{}])
        self.assertEqual(await self.texts(self.alice, room), ["my words"])
