# SPDX-License-Identifier: Apache-2.0
"""What an admin sees of other servers."""

from io import BytesIO
from typing import Any
from urllib.parse import quote

import orjson

from federation.check import Examiner
from homeserver.cli.federation import line
from homeserver.compose.federation import finding
from homeserver.http.incoming import Incoming
from tests.federation.case import FederationCase, Peer


async def local(peer: Peer, command: str, body: object) -> Any:
    content = orjson.dumps(body)
    path = f"/_parley/local/federation-{command}"
    incoming = Incoming("POST", path, b"", lambda name: None, "local", BytesIO(content), len(content))
    reply = await peer.app.local_dispatcher().respond(incoming)
    assert isinstance(reply.body, bytes)
    return orjson.loads(reply.body)


class Commands(FederationCase):
    async def test_destinations_are_shown_and_tried_again(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat")
        await two.join(bob, room, one.name)
        await two.stop()
        await one.send(alice, room, "waits")

        async def backing_off() -> Any:
            found = (await local(one, "status", {}))["destinations"]
            return next((each for each in found if each["state"] == "backing off"), None)

        shown = await self.until(backing_off, "the failure")
        self.assertEqual((shown["server"], shown["waiting"]), (two.name, 1))
        self.assertIn("failing since", line(shown))
        self.assertIn("refused", shown["last_error"].lower())
        await two.start()
        self.assertEqual(await local(one, "retry", {"server": two.name}), {"known": True})

        async def heard() -> bool:
            return await two.bodies(bob, room) == ["waits"]

        await self.until(heard, "the message, without any time passing")
        self.assertEqual(await local(one, "retry", {"server": "nobody.test"}), {"known": False})
        self.assertEqual((await local(one, "retry", {}))["errcode"], "M_BAD_JSON")

    async def test_a_check_tells_each_step(self) -> None:
        one, two = self.peers
        transport, resolver = finding(one.app.base.config, one.runtime)
        examiner = Examiner(one.runtime, resolver, transport)
        said: list[str] = []
        self.assertTrue(await examiner.examine(two.name, said.append))
        self.assertEqual([text[:7].strip() for text in said], ["", "ok", "ok"])
        await two.stop()
        self.assertFalse(await examiner.examine(two.name, said.append))
        self.assertTrue(said[-1].startswith("FAILED"))
        self.assertFalse(await examiner.examine("not a name", said.append))
        # A certificate for another name is told as such.
        self.assertFalse(await examiner.examine(f"127.0.0.2:{one.port}", said.append))
        await transport.stop()

    async def test_members_of_a_room_one_is_not_in_are_not_shown_by_being_asked(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="private_chat")
        found = await two.request("GET", f"/_matrix/client/v3/rooms/{quote(room)}/members", None, bob, expect=403)
        self.assertEqual(found.json["errcode"], "M_FORBIDDEN")
