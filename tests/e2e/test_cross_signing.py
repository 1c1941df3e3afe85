# SPDX-License-Identifier: Apache-2.0
"""Cross-signing keys: who must prove who they are, which keys are accepted, and what others see."""

from typing import Any

from twisted.internet.defer import gatherResults

from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import Owner
from tests.harness.server import PASSWORD, Session


class CrossSigningTest(EncryptionCase):
    async def test_the_first_upload_needs_no_password(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        keys = Owner(alice.user_id).upload()
        self.assertEqual((await self.sign_cross(alice, keys)).status, 200)
        own = await self.query(alice, alice.user_id)
        self.assertEqual(own["master_keys"], {alice.user_id: keys["master_key"]})
        self.assertEqual(own["self_signing_keys"], {alice.user_id: keys["self_signing_key"]})
        self.assertEqual(own["user_signing_keys"], {alice.user_id: keys["user_signing_key"]})
        others = await self.query(bob, alice.user_id)
        self.assertEqual(others["master_keys"], {alice.user_id: keys["master_key"]})
        self.assertEqual(others["self_signing_keys"], {alice.user_id: keys["self_signing_key"]})
        self.assertEqual(others["user_signing_keys"], {})

    async def test_the_same_keys_again_need_no_password_and_change_nothing(self) -> None:
        alice = await self.register("alice")
        keys = (await self.cross_sign(alice)).upload()
        before = self.app.base.db.published
        self.assertEqual((await self.sign_cross(alice, keys)).status, 200)
        self.assertEqual((await self.sign_cross(alice, {"master_key": keys["master_key"]})).status, 200)
        self.assertEqual((await self.sign_cross(alice, {})).status, 200)
        self.assertEqual(self.app.base.db.published, before)

    async def test_other_keys_need_the_password(self) -> None:
        alice = await self.register("alice")
        await self.cross_sign(alice)
        new = Owner(alice.user_id, 1).upload()
        refused = await self.sign_cross(alice, new)
        self.assertEqual(refused.status, 401)
        self.assertIn({"stages": ["m.login.password"]}, refused.json["flows"])
        self.assertEqual((await self.sign_cross(alice, new, "wrong")).status, 401)
        self.assertEqual(
            (await self.query(alice, alice.user_id))["master_keys"][alice.user_id]["keys"],
            Owner(alice.user_id).bare("master")["keys"],
        )
        self.assertEqual((await self.sign_cross(alice, new, PASSWORD)).status, 200)
        self.assertEqual((await self.query(alice, alice.user_id))["master_keys"], {alice.user_id: new["master_key"]})

    async def test_another_master_key_drops_keys_that_it_has_not_signed(self) -> None:
        alice = await self.register("alice")
        await self.cross_sign(alice)
        new = Owner(alice.user_id, 1)
        self.assertEqual((await self.sign_cross(alice, {"master_key": new.bare("master")}, PASSWORD)).status, 200)
        answer = await self.query(alice, alice.user_id)
        self.assertEqual(answer["self_signing_keys"], {})
        self.assertEqual(answer["user_signing_keys"], {})

    async def test_keys_without_a_master_key_are_refused(self) -> None:
        alice = await self.register("alice")
        keys = Owner(alice.user_id).upload()
        del keys["master_key"]
        await self.expect_refusal(alice, keys, 400, "M_MISSING_PARAM")

    async def test_wrongly_signed_keys_are_refused(self) -> None:
        alice = await self.register("alice")
        good, other = Owner(alice.user_id), Owner(alice.user_id, 1)
        unsigned = good.bare("self_signing")
        foreign = other.sign_with("master", good.bare("self_signing"))
        forged = good.sign_with("master", good.bare("self_signing"))
        forged["signatures"][alice.user_id][f"ed25519:{good.public('master')}"] = "A" * 86
        for key in (unsigned, foreign, forged):
            body = {"master_key": good.bare("master"), "self_signing_key": key}
            await self.expect_refusal(alice, body, 400, "M_INVALID_SIGNATURE")

    async def test_malformed_keys_are_refused(self) -> None:
        alice = await self.register("alice")
        master = Owner(alice.user_id).bare("master")
        public = Owner(alice.user_id).public("master")
        for wrong, errcode in (
            ("key", "M_BAD_JSON"),
            ({**master, "user_id": "@bob:parley.test"}, "M_INVALID_PARAM"),
            ({**master, "usage": ["self_signing"]}, "M_INVALID_PARAM"),
            ({**master, "usage": "master"}, "M_INVALID_PARAM"),
            ({**master, "keys": {}}, "M_INVALID_PARAM"),
            ({**master, "keys": {f"ed25519:{public}": "other"}}, "M_INVALID_PARAM"),
            ({**master, "keys": {"ed25519:short": "short"}}, "M_INVALID_PARAM"),
            ({**master, "keys": {f"ed25519:{public}": public, "ed25519:x": "x"}}, "M_INVALID_PARAM"),
            ({**master, "signatures": []}, "M_BAD_JSON"),
        ):
            await self.expect_refusal(alice, {"master_key": wrong}, 400, errcode)

    async def test_a_key_that_is_a_device_id_is_refused(self) -> None:
        owner = Owner("@alice:parley.test")
        alice = await self.register("alice", device_id=owner.public("master"))
        await self.expect_refusal(alice, owner.upload(), 403, "M_FORBIDDEN")

    async def test_a_device_id_that_is_a_key_is_refused(self) -> None:
        alice = await self.register("alice")
        owner = await self.cross_sign(alice)
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "alice"},
            "password": PASSWORD,
            "device_id": owner.public("self_signing"),
        }
        reply = await self.request("POST", f"{V3}/login", body)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        devices = (await self.request("GET", f"{V3}/devices", None, alice, expect=200)).json["devices"]
        self.assertEqual(len(devices), 1)

    async def test_two_first_uploads_at_once_do_not_overwrite_each_other_without_a_password(self) -> None:
        alice = await self.register("alice")
        uploads = [Owner(alice.user_id, generation).upload() for generation in (0, 1)]
        path = f"{V3}/keys/device_signing/upload"
        replies = await gatherResults([self.begin("POST", path, body, alice) for body in uploads])
        self.assertEqual(sorted(reply.status for reply in replies), [200, 401])
        again = await gatherResults([self.begin("POST", path, uploads[0], alice) for _ in range(2)])
        winner = [reply.status for reply in replies].index(200)
        self.assertEqual({reply.status for reply in again}, {200 if winner == 0 else 401})

    async def expect_refusal(self, session: Session, body: Any, status: int, errcode: str) -> None:
        reply = await self.sign_cross(session, body)
        self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), body)
        answer = await self.query(session, session.user_id)
        self.assertEqual((answer["master_keys"], answer["self_signing_keys"]), ({}, {}))


class SignaturesTest(EncryptionCase):
    async def sign(self, session: Session, body: Any) -> Any:
        reply = await self.request("POST", f"{V3}/keys/signatures/upload", body, session, expect=200)
        return reply.json["failures"]

    async def test_everybody_sees_that_a_device_is_signed_by_its_owner(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device, owner = await self.publish(alice), await self.cross_sign(alice)
        signed = owner.sign_with("self_signing", device.keys())
        self.assertEqual(await self.sign(alice, {alice.user_id: {alice.device_id: signed}}), {})
        for viewer in (alice, bob):
            answer = await self.query(viewer, alice.user_id)
            shown = answer["device_keys"][alice.user_id][alice.device_id]
            self.assertEqual(shown["signatures"], signed["signatures"])

    async def test_a_device_signs_its_owners_master_key(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device, owner = await self.publish(alice), await self.cross_sign(alice)
        signed = device.sign(owner.bare("master"))
        self.assertEqual(await self.sign(alice, {alice.user_id: {owner.public("master"): signed}}), {})
        self.assertEqual((await self.query(bob, alice.user_id))["master_keys"], {alice.user_id: signed})

    async def test_only_the_signer_sees_a_signature_on_somebody_else(self) -> None:
        alice, bob, carol = [await self.register(name) for name in ("alice", "bob", "carol")]
        mine, hers = await self.cross_sign(alice), await self.cross_sign(bob)
        signed = mine.sign_with("user_signing", hers.bare("master"))
        self.assertEqual(await self.sign(alice, {bob.user_id: {hers.public("master"): signed}}), {})
        self.assertEqual((await self.query(alice, bob.user_id))["master_keys"], {bob.user_id: signed})
        for viewer in (bob, carol):
            answer = await self.query(viewer, bob.user_id)
            self.assertEqual(answer["master_keys"], {bob.user_id: hers.bare("master")})

    async def test_good_signatures_are_kept_beside_bad_ones(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        device, owner = await self.publish(alice), await self.cross_sign(alice)
        theirs = await self.cross_sign(bob)
        self_signed = owner.sign_with("self_signing", device.keys())
        wrong_key = owner.sign_with("self_signing", theirs.bare("master"))
        failures = await self.sign(
            alice,
            {
                alice.user_id: {
                    alice.device_id: self_signed,
                    "UNKNOWN": self_signed,
                    owner.public("self_signing"): owner.sign_with("master", owner.bare("self_signing")),
                    owner.public("master"): owner.sign_with("self_signing", owner.bare("master")),
                },
                bob.user_id: {theirs.public("master"): wrong_key, "X": wrong_key},
                "@nobody:parley.test": {"X": wrong_key},
            },
        )
        codes = {(user, key): error["errcode"] for user, keys in failures.items() for key, error in keys.items()}
        self.assertEqual(
            codes,
            {
                (alice.user_id, "UNKNOWN"): "M_NOT_FOUND",
                (alice.user_id, owner.public("self_signing")): "M_NOT_FOUND",
                (alice.user_id, owner.public("master")): "M_INVALID_SIGNATURE",
                (bob.user_id, theirs.public("master")): "M_INVALID_SIGNATURE",
                (bob.user_id, "X"): "M_NOT_FOUND",
                ("@nobody:parley.test", "X"): "M_NOT_FOUND",
            },
        )
        shown = (await self.query(alice, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
        self.assertEqual(shown["signatures"], self_signed["signatures"])

    async def test_what_is_signed_must_be_what_is_published(self) -> None:
        alice = await self.register("alice")
        device, owner = await self.publish(alice), await self.cross_sign(alice)
        changed = {**device.keys(), "algorithms": ["m.other"]}
        forged = owner.sign_with("self_signing", device.keys())
        forged["signatures"][alice.user_id][f"ed25519:{owner.public('self_signing')}"] = "A" * 86
        for signed, errcode in (
            (owner.sign_with("self_signing", changed), "M_INVALID_PARAM"),
            (forged, "M_INVALID_SIGNATURE"),
            (device.keys(), "M_INVALID_SIGNATURE"),
            ([], "M_INVALID_PARAM"),
            ({**device.keys(), "signatures": 5}, "M_INVALID_SIGNATURE"),
        ):
            failures = await self.sign(alice, {alice.user_id: {alice.device_id: signed}})
            self.assertEqual(failures[alice.user_id][alice.device_id]["errcode"], errcode)

    async def test_a_body_of_another_shape_is_refused(self) -> None:
        alice = await self.register("alice")
        for body in ({alice.user_id: []}, {"nobody": {}}, {alice.user_id: 1}):
            reply = await self.request("POST", f"{V3}/keys/signatures/upload", body, alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), body)

    async def test_signatures_go_with_the_device_and_with_the_keys(self) -> None:
        alice = await self.register("alice")
        device, owner = await self.publish(alice), await self.cross_sign(alice)
        signed = owner.sign_with("self_signing", device.keys())
        await self.sign(alice, {alice.user_id: {alice.device_id: signed}})
        await self.cross_sign(alice, generation=1)
        shown = (await self.query(alice, alice.user_id))["device_keys"][alice.user_id][alice.device_id]
        self.assertEqual(shown["signatures"], device.keys()["signatures"])
