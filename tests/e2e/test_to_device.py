# SPDX-License-Identifier: Apache-2.0
"""Messages between devices: at least once, in order, to the devices meant and to no other."""

import orjson
from twisted.internet.defer import gatherResults

from homeserver.compose.alone import NoEduOutbox
from homeserver.services.to_device import ToDevice
from storage import to_device
from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import Json
from tests.harness.server import Session


class ToDeviceTest(EncryptionCase):
    async def waiting(self, session: Session, since: int = 0) -> list[Json]:
        """What the next sync of the device would hold."""
        _, device = await self.numbers(session)
        messages, _ = await self.service().for_sync(device, since, self.app.base.db.published)
        return [orjson.loads(message) for message in messages]

    def service(self) -> ToDevice:
        base = self.app.base
        return ToDevice(base.db, base.runtime, "parley.test", NoEduOutbox())

    async def test_a_message_waits_for_its_device_only(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        other = await self.login("bob")
        await self.send_to_device(alice, {bob.user_id: {bob.device_id: {"n": 1}}}, "1")
        expected = [{"type": "m.test", "sender": alice.user_id, "content": {"n": 1}}]
        self.assertEqual(await self.waiting(bob), expected)
        self.assertEqual(await self.waiting(other), [])
        self.assertEqual(await self.waiting(alice), [])

    async def test_a_star_means_all_devices_and_a_named_one_has_its_own_message(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        second, third = await self.login("bob"), await self.login("bob")
        messages = {bob.user_id: {"*": {"for": "all"}, second.device_id: {"for": "second"}}}
        await self.send_to_device(alice, messages, "1")
        for session, content in ((bob, "all"), (second, "second"), (third, "all")):
            self.assertEqual([one["content"] for one in await self.waiting(session)], [{"for": content}])

    async def test_a_transaction_id_counts_once_for_each_device_and_type(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        other = await self.login("alice")
        to_bob = {bob.user_id: {"*": {}}}
        for session, txn, kind in ((alice, "1", "m.a"), (alice, "1", "m.a"), (alice, "1", "m.b"), (other, "1", "m.a")):
            await self.send_to_device(session, to_bob, txn, kind)
        await self.restart_server()
        await self.send_to_device(alice, to_bob, "1", "m.a")
        self.assertEqual([one["type"] for one in await self.waiting(bob)], ["m.a", "m.b", "m.a"])

    async def test_unknown_users_devices_and_servers_are_passed_over(self) -> None:
        alice = await self.register("alice")
        messages = {"@nobody:parley.test": {"*": {}}, alice.user_id: {"UNKNOWN": {}}, "@bob:elsewhere.test": {"X": {}}}
        await self.send_to_device(alice, messages, "1")
        self.assertEqual(await self.waiting(alice), [])

    async def test_malformed_messages_are_refused_and_nothing_is_sent(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        good = {bob.device_id: {"n": 1}}
        for number, messages in enumerate(
            ([], {bob.user_id: []}, {bob.user_id: good, alice.user_id: {"*": "text"}}, {"bob": good}, None)
        ):
            reply = await self.send_to_device(alice, messages, str(number), expect=None)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), messages)
        reply = await self.request("PUT", f"{V3}/sendToDevice/m.test/x", {}, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))
        self.assertEqual(await self.waiting(bob), [])

    async def test_messages_sent_at_once_arrive_in_order_of_their_requests(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        await self.send_to_device(alice, {bob.user_id: {"*": {"n": 0}}}, "0")
        sent = [
            self.begin("PUT", f"{V3}/sendToDevice/m.test/{n}", {"messages": {bob.user_id: {"*": {"n": n}}}}, alice)
            for n in range(1, 50)
        ]
        await gatherResults(sent)
        self.assertEqual([one["content"]["n"] for one in await self.waiting(bob)], list(range(50)))

    async def test_acknowledged_messages_are_deleted_and_others_stay(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        _, device = await self.numbers(bob)
        service = self.service()
        await self.send_to_device(alice, {bob.user_id: {"*": {"n": 1}}}, "1")
        _, position = await service.for_sync(device, 0, self.app.base.db.published)
        await self.send_to_device(alice, {bob.user_id: {"*": {"n": 2}}}, "2")
        await self.restart_server()
        await self.service().acknowledge(device, position)
        self.assertEqual([one["content"]["n"] for one in await self.waiting(bob)], [2])
        self.assertEqual([one["content"]["n"] for one in await self.waiting(bob, position)], [2])

    async def test_a_token_from_the_databases_future_acknowledges_nothing(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        _, device = await self.numbers(bob)
        await self.send_to_device(alice, {bob.user_id: {"*": {"n": 1}}}, "1")
        await self.service().acknowledge(device, self.app.base.db.published + 1)
        self.assertEqual([one["content"]["n"] for one in await self.waiting(bob)], [1])

    async def test_many_messages_come_in_batches_without_loss(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        _, device = await self.numbers(bob)
        for n in range(250):
            await self.send_to_device(alice, {bob.user_id: {"*": {"n": n}}}, str(n))
        seen, since, upto = [], 0, self.app.base.db.published
        while True:
            messages, position = await self.service().for_sync(device, since, upto)
            self.assertLessEqual(len(messages), to_device.BATCH)
            seen += [orjson.loads(one)["content"]["n"] for one in messages]
            if position == upto:
                break
            await self.service().acknowledge(device, position)
            since = position
        self.assertEqual(seen, list(range(250)))

    async def test_messages_go_with_their_device(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        _, device = await self.numbers(bob)
        await self.send_to_device(alice, {bob.user_id: {"*": {}}}, "1")
        await self.request("POST", f"{V3}/logout", None, bob, expect=200)
        messages, _ = await self.service().for_sync(device, 0, self.app.base.db.published)
        self.assertEqual(messages, [])
