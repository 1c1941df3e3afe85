# SPDX-License-Identifier: Apache-2.0
"""Publishing keys and looking them up."""

from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import ALGORITHM


class UploadTest(EncryptionCase):
    async def test_the_answer_counts_unclaimed_keys(self) -> None:
        alice = await self.register("alice")
        device = self.device(alice)
        reply = await self.upload(alice, device_keys=device.keys(), one_time_keys=device.one_time(1, 2, 3))
        self.assertEqual(reply.json, {"one_time_key_counts": {ALGORITHM: 3}})

    async def test_an_empty_upload_asks_for_the_counts(self) -> None:
        alice = await self.register("alice")
        self.assertEqual((await self.upload(alice)).json, {"one_time_key_counts": {}})
        await self.publish(alice, 1)
        self.assertEqual((await self.upload(alice)).json, {"one_time_key_counts": {ALGORITHM: 1}})

    async def test_the_same_key_again_changes_nothing(self) -> None:
        alice = await self.register("alice")
        device = await self.publish(alice, 1, 2)
        before = self.app.base.db.published
        reply = await self.upload(alice, device_keys=device.keys(), one_time_keys=device.one_time(2, 1))
        self.assertEqual(reply.json["one_time_key_counts"], {ALGORITHM: 2})
        changed = await self.request("GET", f"{V3}/keys/changes?from=s{before}_0&to=s{before + 10}_0", None, alice)
        self.assertEqual(changed.json, {"changed": [], "left": []})

    async def test_another_key_under_the_same_id_is_refused_and_nothing_of_the_upload_is_kept(self) -> None:
        alice = await self.register("alice")
        device = await self.publish(alice, 1)
        name = next(iter(device.one_time(1)))
        keys = {**device.one_time(5), name: device.sign({"key": "other"})}
        reply = await self.upload(alice, None, one_time_keys=keys)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"))
        self.assertIn("already exists", reply.json["error"])
        self.assertEqual((await self.upload(alice)).json["one_time_key_counts"], {ALGORITHM: 1})

    async def test_keys_of_another_user_or_device_are_refused(self) -> None:
        alice = await self.register("alice")
        keys = self.device(alice).keys()
        for wrong in (
            {**keys, "user_id": "@bob:parley.test"},
            {**keys, "device_id": "OTHER"},
            {**keys, "algorithms": "m.olm"},
            {**keys, "keys": {"ed25519:X": 1}},
            {**keys, "signatures": {alice.user_id: "x"}},
            {name: part for name, part in keys.items() if name != "signatures"},
            [],
        ):
            reply = await self.upload(alice, None, device_keys=wrong)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), wrong)
        self.assertEqual((await self.query(alice, alice.user_id))["device_keys"], {alice.user_id: {}})

    async def test_malformed_one_time_keys_are_refused(self) -> None:
        alice = await self.register("alice")
        key = {"key": "x", "signatures": {}}
        for wrong, errcode in (
            ([], "M_BAD_JSON"),
            ({"noalgorithm": key}, "M_INVALID_PARAM"),
            ({":id": key}, "M_INVALID_PARAM"),
            ({"a:" + "x" * 300: key}, "M_INVALID_PARAM"),
            ({"a:b": 5}, "M_BAD_JSON"),
            ({"a:b": {"key": 5}}, "M_BAD_JSON"),
        ):
            reply = await self.upload(alice, None, one_time_keys=wrong)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), wrong)

    async def test_too_many_keys_at_once_are_refused(self) -> None:
        alice = await self.register("alice")
        device = self.device(alice)
        reply = await self.upload(alice, None, one_time_keys={f"a:{n}": {"key": "x"} for n in range(1001)})
        self.assertEqual((reply.status, reply.json["errcode"]), (413, "M_TOO_LARGE"))
        reply = await self.upload(alice, one_time_keys=device.one_time(*range(1000)))
        self.assertEqual(reply.json["one_time_key_counts"], {ALGORITHM: 1000})

    async def test_two_fallback_keys_of_one_algorithm_are_refused(self) -> None:
        alice = await self.register("alice")
        keys = self.device(alice).one_time(1, 2, fallback=True)
        reply = await self.upload(alice, None, fallback_keys=keys)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"))

    async def test_other_identity_keys_drop_what_was_signed_with_the_old_ones(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice, 1, 2)
        await self.upload(alice, fallback_keys=device.one_time(9, fallback=True))
        new = self.device(alice, generation=1)
        reply = await self.upload(alice, device_keys=new.keys(), one_time_keys=new.one_time(1))
        self.assertEqual(reply.json["one_time_key_counts"], {ALGORITHM: 1})
        self.assertEqual(await self.claim(bob, alice), new.one_time(1))
        self.assertIsNone(await self.claim(bob, alice))


class QueryTest(EncryptionCase):
    async def test_keys_come_back_as_uploaded_with_the_devices_name(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device = await self.publish(alice)
        path = f"{V3}/devices/{alice.device_id}"
        await self.request("PUT", path, {"display_name": "Telefon ☎"}, alice, expect=200)
        answer = await self.query(bob, alice.user_id, "@nobody:parley.test")
        expected = {**device.keys(), "unsigned": {"device_display_name": "Telefon ☎"}}
        self.assertEqual(answer["device_keys"], {alice.user_id: {alice.device_id: expected}})
        self.assertEqual(answer["failures"], {})

    async def test_only_the_devices_asked_for(self) -> None:
        alice = await self.register("alice")
        other = await self.login("alice")
        await self.publish(alice)
        await self.publish(other)
        body = {"device_keys": {alice.user_id: [other.device_id, "UNKNOWN"]}}
        answer = (await self.request("POST", f"{V3}/keys/query", body, alice, expect=200)).json
        self.assertEqual(list(answer["device_keys"][alice.user_id]), [other.device_id])
        both = await self.query(alice, alice.user_id)
        self.assertEqual(set(both["device_keys"][alice.user_id]), {alice.device_id, other.device_id})

    async def test_users_of_a_server_out_of_reach_are_failures(self) -> None:
        alice = await self.register("alice")
        answer = await self.query(alice, "@bob:elsewhere.test", alice.user_id)
        self.assertEqual(list(answer["failures"]), ["elsewhere.test"])
        self.assertEqual(list(answer["device_keys"]), [alice.user_id])

    async def test_a_device_that_is_gone_has_no_keys(self) -> None:
        alice = await self.register("alice")
        other = await self.login("alice")
        await self.publish(other, 1)
        await self.request("POST", f"{V3}/logout", None, other, expect=200)
        self.assertEqual((await self.query(alice, alice.user_id))["device_keys"], {alice.user_id: {}})
        self.assertIsNone(await self.claim(alice, other))

    async def test_very_many_users_and_devices(self) -> None:
        alice = await self.register("alice")
        await self.publish(alice, 1)
        users = {f"@user{n}:parley.test": [] for n in range(40_000)}
        body = {"device_keys": {**users, alice.user_id: [alice.device_id, *map(str, range(40_000))]}}
        answer = (await self.request("POST", f"{V3}/keys/query", body, alice, expect=200)).json
        self.assertEqual(list(answer["device_keys"]), [alice.user_id])
        devices = {str(n): ALGORITHM for n in range(40_000)}
        body = {"one_time_keys": {alice.user_id: {**devices, alice.device_id: ALGORITHM}}}
        answer = (await self.request("POST", f"{V3}/keys/claim", body, alice, expect=200)).json
        self.assertEqual(list(answer["one_time_keys"][alice.user_id]), [alice.device_id])
        messages = {alice.user_id: {str(n): {} for n in range(40_000)}, **{user: {"*": {}} for user in users}}
        await self.send_to_device(alice, messages, "1")

    async def test_malformed_queries_are_refused(self) -> None:
        alice = await self.register("alice")
        for body, errcode in (
            ({}, "M_MISSING_PARAM"),
            ({"device_keys": []}, "M_BAD_JSON"),
            ({"device_keys": {alice.user_id: "X"}}, "M_BAD_JSON"),
            ({"device_keys": {alice.user_id: [1]}}, "M_BAD_JSON"),
            ({"device_keys": {}, "timeout": "soon"}, "M_BAD_JSON"),
        ):
            reply = await self.request("POST", f"{V3}/keys/query", body, alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), body)

    async def test_without_a_token_nothing_is_told(self) -> None:
        for path in ("query", "claim", "upload", "device_signing/upload", "signatures/upload"):
            reply = await self.request("POST", f"{V3}/keys/{path}", {})
            self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_MISSING_TOKEN"))
