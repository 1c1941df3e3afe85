# SPDX-License-Identifier: Apache-2.0
"""What passes: typing, receipts and presence reach the services that asked for them."""

from urllib.parse import quote

from tests.appservices.case import ANN, BOT, V3, ServiceCase
from tests.harness.server import Session


class Ephemeral(ServiceCase):
    registration = "receive_ephemeral: true"

    async def joined(self) -> tuple[Session, str]:
        """Alice and a room with the service's bot."""
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        return alice, room

    async def type(self, user: Session, room: str, typing: bool) -> None:
        body = {"typing": typing, "timeout": 30_000}
        path = f"{V3}/rooms/{quote(room)}/typing/{quote(user.user_id)}"
        await self.request("PUT", path, body, user, expect=200)

    async def read(self, user: Session, room: str, event: str, kind: str, **body: str) -> None:
        path = f"{V3}/rooms/{quote(room)}/receipt/{kind}/{quote(event)}"
        await self.request("POST", path, body, user, expect=200)


class EphemeralTests(Ephemeral):
    async def test_typing(self) -> None:
        alice, room = await self.joined()
        other = await self.create_room(alice)
        await self.type(alice, other, True)
        await self.type(alice, room, True)
        await self.until(lambda: self.service.ephemeral("m.typing"))
        await self.type(alice, room, False)
        await self.until(lambda: len(self.service.ephemeral("m.typing")) == 2)
        await self.nothing_more()
        self.assertEqual(
            self.service.ephemeral("m.typing"),
            [
                {"type": "m.typing", "room_id": room, "content": {"user_ids": [alice.user_id]}},
                {"type": "m.typing", "room_id": room, "content": {"user_ids": []}},
            ],
        )
        self.assertEqual(self.service.all("ephemeral"), self.service.all("de.sorunome.msc2409.ephemeral"))

    async def test_receipts_private_ones_of_its_own_users_only(self) -> None:
        alice, room = await self.joined()
        event = await self.send(alice, room)
        await self.read(alice, room, event, "m.read.private")
        await self.run_service("POST", f"{V3}/rooms/{room}/receipt/m.read.private/{event}", {}, expect=200)
        await self.read(alice, room, event, "m.read", thread_id="main")
        await self.until(lambda: len(self.service.ephemeral("m.receipt")) >= 1)
        await self.nothing_more()
        seen: dict[str, set[str]] = {}
        for receipt in self.service.ephemeral("m.receipt"):
            self.assertEqual(receipt["room_id"], room)
            for kind, users in receipt["content"][event].items():
                seen.setdefault(kind, set()).update(users)
        self.assertEqual(seen, {"m.read": {alice.user_id}, "m.read.private": {BOT}})

    async def test_receipts_of_when_it_was_down(self) -> None:
        alice, room = await self.joined()
        event = await self.send(alice, room)
        await self.until(self.service.texts)
        await self.stop_server()
        await self.start_server()
        await self.service.stop()
        await self.read(alice, room, event, "m.read")
        self.clock.advance(100.0)
        await self.settle(0.01)
        await self.restart_server()
        self.service.start()
        await self.until(lambda: self.service.ephemeral("m.receipt"), step=5.0)

    async def test_presence_of_whom_it_sees(self) -> None:
        alice, _ = await self.joined()
        bob = await self.register("bob")
        for who in (bob, alice):
            path = f"{V3}/presence/{quote(who.user_id)}/status"
            await self.request("PUT", path, {"presence": "online", "status_msg": "here"}, who, expect=200)
        await self.until(lambda: self.service.ephemeral("m.presence"))
        await self.nothing_more()
        found = self.service.ephemeral("m.presence")
        self.assertEqual({one["sender"] for one in found}, {alice.user_id})
        self.assertEqual(found[-1]["content"]["status_msg"], "here")


class WithoutTests(Ephemeral):
    registration = ""

    async def test_who_did_not_ask_is_not_told(self) -> None:
        alice, room = await self.joined()
        await self.type(alice, room, True)
        await self.read(alice, room, await self.send(alice, room), "m.read")
        await self.until(self.service.texts)
        await self.nothing_more()
        self.assertEqual(self.service.all("ephemeral"), [])


class EncryptionTests(ServiceCase):
    registration = "de.sorunome.msc2409.push_ephemeral: true\norg.matrix.msc3202: true"

    async def test_messages_to_devices_of_its_users_once_in_order(self) -> None:
        alice = await self.register("alice")
        await self.make_ann()
        await self.run_service("PUT", f"{V3}/devices/D", {}, user=ANN, expect=201)

        async def whisper(number: int) -> None:
            body = {"messages": {ANN: {"D": {"n": number}}, alice.user_id: {"*": {"n": number}}}}
            await self.request("PUT", f"{V3}/sendToDevice/org.example.x/{number}", body, alice, expect=200)

        await whisper(0)
        await self.until(lambda: self.service.all("to_device"))
        first = self.service.all("to_device")[0]
        wanted = {"type": "org.example.x", "sender": alice.user_id, "content": {"n": 0}}
        self.assertEqual(first, [{**wanted, "to_user_id": ANN, "to_device_id": "D"}])
        self.assertEqual(self.service.all("de.sorunome.msc2409.to_device"), self.service.all("to_device"))
        await self.service.stop()
        for number in range(1, 700):
            await whisper(number)
        self.clock.advance(10.0)
        await self.settle(0.05)
        await self.restart_server()
        self.service.start()
        told = lambda: [one["content"]["n"] for some in self.service.all("to_device") for one in some]  # noqa: E731
        await self.until(lambda: len(told()) >= 700, step=5.0)
        await self.nothing_more()
        self.assertEqual(told(), list(range(700)))
        query = {"timeout": 0, "user_id": ANN, "device_id": "D"}
        synced = await self.run_service("GET", f"{V3}/sync", query=query, expect=200)
        self.assertEqual(synced.json.get("to_device", {}).get("events", []), [])

    async def test_how_many_keys_are_left(self) -> None:
        await self.make_ann()
        await self.run_service("PUT", f"{V3}/devices/D", {}, user=ANN, expect=201)
        device = device_keys(ANN, "D")
        keys = {f"signed_curve25519:{n}": {"key": f"k{n}", "signatures": {}} for n in ("A", "B")}
        fallback = {"signed_curve25519:F": {"key": "f", "fallback": True, "signatures": {}}}
        body = {"device_keys": device, "one_time_keys": keys, "fallback_keys": fallback}
        as_device = {"org.matrix.msc3202.device_id": "D"}
        await self.run_service("POST", f"{V3}/keys/upload", body, user=ANN, query=as_device, expect=200)
        await self.until(lambda: self.service.all("device_one_time_keys_count"))
        counts = self.service.all("device_one_time_keys_count")
        self.assertEqual(counts[-1], {ANN: {"D": {"signed_curve25519": 2}}})
        self.assertEqual(self.service.all("device_unused_fallback_key_types")[-1], {ANN: {"D": ["signed_curve25519"]}})
        for name in ("one_time_keys_count", "one_time_key_counts"):
            self.assertEqual(self.service.all(f"org.matrix.msc3202.device_{name}"), counts)
        alice = await self.register("alice")
        claim = {"one_time_keys": {ANN: {"D": "signed_curve25519"}}}
        await self.request("POST", f"{V3}/keys/claim", claim, alice, expect=200)
        wanted = {ANN: {"D": {"signed_curve25519": 1}}}
        await self.until(lambda: self.service.all("device_one_time_keys_count")[-1] == wanted)
        self.assertIn("org.matrix.msc3202.device_unused_fallback_key_types", list(self.service.taken.values())[-1])

    async def test_whose_devices_changed(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.create_room(alice, invite=[BOT, bob.user_id])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.until(lambda: self.service.all("device_lists"))
        self.assertIn(alice.user_id, self.service.all("device_lists")[-1]["changed"])
        await self.join(bob, room)
        await self.until(lambda: bob.user_id in self.service.all("device_lists")[-1]["changed"])
        seen = len(self.service.all("device_lists"))
        body = {"device_keys": device_keys(alice.user_id, alice.device_id)}
        await self.request("POST", f"{V3}/keys/upload", body, alice, expect=200)
        await self.until(lambda: len(self.service.all("device_lists")) > seen)
        self.assertEqual(self.service.all("device_lists")[-1], {"changed": [alice.user_id], "left": []})
        await self.request("POST", f"{V3}/rooms/{room}/leave", {}, bob, expect=200)
        await self.until(lambda: self.service.all("device_lists")[-1]["left"])
        self.assertEqual(self.service.all("device_lists")[-1], {"changed": [], "left": [bob.user_id]})
        self.assertEqual(self.service.all("device_lists"), self.service.all("org.matrix.msc3202.device_lists"))


def device_keys(user_id: str, device_id: str) -> dict[str, object]:
    """A device's keys as far as the server looks at them."""
    return {
        "user_id": user_id,
        "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": {f"ed25519:{device_id}": "a" * 43, f"curve25519:{device_id}": "b" * 43},
        "signatures": {user_id: {f"ed25519:{device_id}": "c" * 86}},
    }
