# SPDX-License-Identifier: Apache-2.0
"""An application service whose users are in rooms of other servers."""

import tempfile
from pathlib import Path
from urllib.parse import quote

from tests.appservices.service import AS_TOKEN, HS_TOKEN, Service
from tests.federation.case import FederationCase
from tests.harness.server import Session


class Federated(FederationCase):
    count = 1

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.service = Service()
        self.service.start()
        file = Path(tempfile.mkdtemp(prefix="parley-test-")) / "irc.yaml"
        file.write_text(
            f"""
id: irc
url: {self.service.url}
as_token: {AS_TOKEN}
hs_token: {HS_TOKEN}
sender_localpart: ircbot
namespaces: {{users: [{{regex: "@irc_.*", exclusive: true}}], aliases: [], rooms: []}}
"""
        )
        await self.add_peer(1, f"appservices: [{file}]\n")
        self.addCleanup(self.service.stop)

    async def test_invites_and_messages_of_other_servers(self) -> None:
        one, two = self.peers
        alice = await one.register("alice")
        bot = Session(f"@ircbot:{two.name}", AS_TOKEN, "")
        room = await one.create_room(alice, preset="private_chat", name="Secret")
        await one.post(f"rooms/{quote(room)}/invite", {"user_id": bot.user_id}, alice)

        async def told() -> object:
            return self.service.events("m.room.member")

        await self.until(told, "the invite", advance=0.01)
        invite = self.service.events("m.room.member")[-1]
        self.assertEqual((invite["state_key"], invite["content"]["membership"]), (bot.user_id, "invite"))
        self.assertIn("m.room.name", {one["type"] for one in invite["unsigned"]["invite_room_state"]})
        await two.join(bot, room)
        await one.send(alice, room, "from afar")

        async def heard() -> object:
            return self.service.texts()

        await self.until(heard, "the message", advance=0.01)
        self.assertEqual(self.service.texts(), ["from afar"])
        self.assertEqual(self.service.faults, [])
