# SPDX-License-Identifier: Apache-2.0
"""Claiming one-time keys: in order of upload, each at most once ever, the fallback key when there are none."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, gatherResults

from homeserver.services.callers import User
from homeserver.services.claim_journal import ClaimJournal
from storage.txn import Record, Txn
from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import ALGORITHM


class ClaimTest(EncryptionCase):
    async def test_keys_are_handed_out_in_order_of_upload(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 7)
        await self.upload(alice, one_time_keys=device.one_time(3))
        await self.upload(alice, one_time_keys=device.one_time(5))
        claimed = [await self.claim(bob, alice) for _ in range(4)]
        self.assertEqual(claimed, [device.one_time(7), device.one_time(3), device.one_time(5), None])

    async def test_a_claimed_key_does_not_come_back_when_its_upload_is_repeated(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 1, 2)
        first = await self.claim(bob, alice)
        reply = await self.upload(alice, one_time_keys=device.one_time(1, 2))
        self.assertEqual(reply.json["one_time_key_counts"], {ALGORITHM: 1})
        self.assertNotEqual(await self.claim(bob, alice), first)
        self.assertIsNone(await self.claim(bob, alice))

    async def test_a_claimed_key_does_not_come_back_after_a_restart(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 1, 2)
        first = await self.claim(bob, alice)
        await self.restart_server()
        self.assertEqual(first, device.one_time(1))
        self.assertEqual(await self.claim(bob, alice), device.one_time(2))
        self.assertIsNone(await self.claim(bob, alice))

    async def test_the_fallback_key_is_handed_out_again_and_again(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 1)
        await self.upload(alice, fallback_keys=device.one_time(100, fallback=True))
        keys = self.app_keys()
        _, number = await self.numbers(alice)
        self.assertEqual((await keys.counts(number)).unused_fallback, (ALGORITHM,))
        fallback = device.one_time(100, fallback=True)
        claimed = [await self.claim(bob, alice) for _ in range(3)]
        self.assertEqual(claimed, [device.one_time(1), fallback, fallback])
        self.assertEqual((await keys.counts(number)).unused_fallback, ())
        # The same key again is no replacement; a new one is.
        await self.upload(alice, fallback_keys=fallback)
        self.assertEqual((await keys.counts(number)).unused_fallback, ())
        await self.upload(alice, fallback_keys=device.one_time(101, fallback=True))
        self.assertEqual((await keys.counts(number)).unused_fallback, (ALGORITHM,))
        self.assertEqual(await self.claim(bob, alice), device.one_time(101, fallback=True))

    async def test_counts_for_sync_follow_uploads_and_claims(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        keys = self.app_keys()
        _, number = await self.numbers(alice)
        self.assertEqual((await keys.counts(number)).one_time, {})
        await self.publish(alice, 1, 2, 3)
        self.assertEqual((await keys.counts(number)).one_time, {ALGORITHM: 3})
        await self.claim(bob, alice)
        self.assertEqual((await keys.counts(number)).one_time, {ALGORITHM: 2})

    async def test_unknown_users_devices_and_algorithms_are_left_out(self) -> None:
        alice = await self.register("alice")
        await self.publish(alice, 1)
        wanted = {
            alice.user_id: {alice.device_id: "other_algorithm", "UNKNOWN": ALGORITHM},
            "@nobody:parley.test": {"X": ALGORITHM},
            "@bob:elsewhere.test": {"X": ALGORITHM},
        }
        reply = await self.request("POST", f"{V3}/keys/claim", {"one_time_keys": wanted}, alice, expect=200)
        self.assertEqual(reply.json["one_time_keys"], {})
        self.assertEqual(list(reply.json["failures"]), ["elsewhere.test"])

    async def test_malformed_claims_are_refused_and_take_nothing(self) -> None:
        alice = await self.register("alice")
        await self.publish(alice, 1)
        for body, errcode in (
            ({}, "M_MISSING_PARAM"),
            ({"one_time_keys": []}, "M_BAD_JSON"),
            ({"one_time_keys": {alice.user_id: [ALGORITHM]}}, "M_BAD_JSON"),
            ({"one_time_keys": {alice.user_id: {alice.device_id: ALGORITHM, "X": 1}}}, "M_BAD_JSON"),
        ):
            reply = await self.request("POST", f"{V3}/keys/claim", body, alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), body)
        self.assertEqual((await self.upload(alice)).json["one_time_key_counts"], {ALGORITHM: 1})

    async def test_keys_claimed_after_a_backup_are_not_handed_out_again_when_it_is_restored(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 1, 2, 3)
        await self.upload(alice, fallback_keys=device.one_time(9, fallback=True))
        await self.restart_server()
        backup = await self.app.base.db.read(_one_time_keys)
        position = self.app.base.db.published
        claimed = [await self.claim(bob, alice), await self.claim(bob, alice)]
        self.assertEqual(claimed, [device.one_time(1), device.one_time(2)])
        await self.app.base.db.write(_restore, backup, position)
        await self.restart_server()
        self.assertEqual(await self.claim(bob, alice), device.one_time(9, fallback=True))
        self.assertEqual((await self.upload(alice)).json["one_time_key_counts"], {})
        await self.upload(alice, one_time_keys=device.one_time(4))
        await self.restart_server()
        self.assertEqual(await self.claim(bob, alice), device.one_time(4))

    async def test_a_restart_drops_no_keys(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        await self.publish(alice, 1, 2, 3)
        await self.claim(bob, alice)
        await self.restart_server()
        self.assertEqual((await self.upload(alice)).json["one_time_key_counts"], {ALGORITHM: 2})

    async def test_claims_at_once_leave_the_greatest_position_behind(self) -> None:
        file = self.folder / "position"
        first, second = ClaimJournal(self.runtime, file), ClaimJournal(self.runtime, file)
        self.assertEqual(first.last(), 0)
        noted = [(first if n % 3 else second).note(n) for n in (5, 3, 9, 7, 8, 2)]
        await gatherResults([Deferred.fromCoroutine(one) for one in noted])
        self.assertEqual((first.last(), second.last()), (9, 9))
        await first.restart_from(4)
        self.assertEqual(second.last(), 4)
        file.write_text("not a number")
        self.assertEqual(first.last(), 0)

    async def test_a_device_from_the_databases_future_loses_its_keys(self) -> None:
        alice = await self.register("alice")
        await self.publish(alice, 1)
        usr, number = await self.numbers(alice)
        await self.app_keys().distrust(User(alice.user_id, usr, alice.device_id, number))
        self.assertEqual((await self.upload(alice)).json["one_time_key_counts"], {})

    async def test_no_key_is_handed_out_twice_to_claims_at_the_same_time(self) -> None:
        alice = await self.register("alice")
        claimers = [await self.register(f"claimer{number}") for number in range(4)]
        device = self.device(alice)
        handed_out: list[str] = []
        for start in range(0, 90, 30):
            numbers = range(start, start + 30)
            body = {"one_time_keys": {alice.user_id: {alice.device_id: ALGORITHM}}}
            claims = [
                self.begin("POST", f"{V3}/keys/claim", body, claimers[number % 4], expect=200) for number in range(20)
            ]
            upload = self.begin("POST", f"{V3}/keys/upload", {"one_time_keys": device.one_time(*numbers)}, alice)
            again = self.begin("POST", f"{V3}/keys/upload", {"one_time_keys": device.one_time(*numbers)}, alice)
            more = [
                self.begin("POST", f"{V3}/keys/claim", body, claimers[number % 4], expect=200) for number in range(20)
            ]
            for reply in await gatherResults([*claims, upload, *more, again]):
                for devices in (reply.json.get("one_time_keys") or {}).values():
                    handed_out += [name for keys in devices.values() for name in keys]
            if start == 30:
                await self.restart_server()
        self.assertEqual(len(handed_out), len(set(handed_out)))
        left = (await self.upload(alice)).json["one_time_key_counts"].get(ALGORITHM, 0)
        self.assertEqual(len(handed_out) + left, 90)
        self.assertGreater(len(handed_out), 60)


def _one_time_keys(txn: Txn) -> list[Record]:
    return txn.all("SELECT device, algorithm, pos, id, key FROM one_time_key")


def _restore(txn: Txn, keys: Sequence[Record], position: int) -> None:
    """Put the keys and the clock back to what they were, as restoring a backup does."""
    txn.run("DELETE FROM one_time_key")
    txn.run("DELETE FROM spent_key")
    txn.many("INSERT INTO one_time_key (device, algorithm, pos, id, key) VALUES (?, ?, ?, ?, ?)", keys)
    txn.run("UPDATE clock SET position = ?", (position,))
