# SPDX-License-Identifier: Apache-2.0
"""Who may call what: guests, strangers, and clients that use the old paths."""

from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import Device
from tests.harness.server import Session

UNSTABLE = "/_matrix/client/unstable"
DEHYDRATED = f"{UNSTABLE}/org.matrix.msc3814.v1/dehydrated_device"


class AccessTest(EncryptionCase):
    settings = "registration: {enabled: true, guests: true}"

    async def guest(self) -> Session:
        made = (await self.request("POST", f"{V3}/register?kind=guest", {}, expect=200)).json
        return Session(made["user_id"], made["access_token"], made["device_id"])

    async def test_guests_use_keys_and_messages_and_nothing_that_lasts(self) -> None:
        guest, alice = await self.guest(), await self.register("alice")
        device = await self.publish(guest, 1)
        self.assertEqual(await self.claim(alice, guest), device.one_time(1))
        self.assertIn(guest.device_id, (await self.query(guest, guest.user_id))["device_keys"][guest.user_id])
        await self.send_to_device(guest, {alice.user_id: {"*": {}}}, "1")
        for method, path in (
            ("GET", f"{V3}/room_keys/version"),
            ("GET", f"{V3}/keys/changes"),
            ("POST", f"{V3}/keys/device_signing/upload"),
            ("POST", f"{V3}/keys/signatures/upload"),
            ("GET", DEHYDRATED),
        ):
            reply = await self.request(method, path, {} if method == "POST" else None, guest)
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_GUEST_ACCESS_FORBIDDEN"), path)

    async def test_every_endpoint_wants_a_token_that_is_known(self) -> None:
        for method, path in (
            ("POST", f"{V3}/keys/upload"),
            ("POST", f"{V3}/keys/query"),
            ("POST", f"{V3}/keys/claim"),
            ("GET", f"{V3}/keys/changes"),
            ("POST", f"{V3}/keys/device_signing/upload"),
            ("POST", f"{V3}/keys/signatures/upload"),
            ("PUT", f"{V3}/sendToDevice/m.test/1"),
            ("POST", f"{V3}/room_keys/version"),
            ("GET", f"{V3}/room_keys/version/1"),
            ("PUT", f"{V3}/room_keys/keys"),
            ("DELETE", f"{V3}/room_keys/keys/!r:x/s"),
            ("GET", DEHYDRATED),
            ("PUT", DEHYDRATED),
            ("DELETE", DEHYDRATED),
            ("GET", f"{DEHYDRATED}/X/events"),
        ):
            body = {} if method in ("POST", "PUT") else None
            for token, errcode in ((None, "M_MISSING_TOKEN"), ("unknown", "M_UNKNOWN_TOKEN")):
                reply = await self.request(method, path, body, token)
                self.assertEqual((reply.status, reply.json["errcode"]), (401, errcode), (method, path))

    async def test_bodies_that_are_no_json_objects_are_refused(self) -> None:
        alice = await self.register("alice")
        for method, path in (
            ("POST", f"{V3}/keys/upload"),
            ("POST", f"{V3}/keys/query"),
            ("POST", f"{V3}/keys/claim"),
            ("POST", f"{V3}/keys/device_signing/upload"),
            ("POST", f"{V3}/keys/signatures/upload"),
            ("PUT", f"{V3}/sendToDevice/m.test/1"),
            ("POST", f"{V3}/room_keys/version"),
            ("PUT", f"{V3}/room_keys/keys?version=1"),
            ("PUT", DEHYDRATED),
        ):
            for raw, errcode in (
                (b"{", "M_NOT_JSON"),
                (b"", "M_NOT_JSON"),
                (b'{"a": NaN}', "M_NOT_JSON"),
                (b'{"a": "\\ud800"}', "M_NOT_JSON"),
                (b'{"a": "\xff"}', "M_NOT_JSON"),
                (b"[]", "M_BAD_JSON"),
            ):
                reply = await self.request(method, path, None, alice, raw=raw)
                self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), (path, raw))

    async def test_the_old_paths_answer_too(self) -> None:
        alice = await self.register("alice")
        device = Device(alice.user_id, alice.device_id)
        body = {"device_keys": device.keys()}
        for path in ("/_matrix/client/r0/keys/upload", f"{V3}/keys/upload/"):
            await self.request("POST", path, body, alice, expect=200)
        reply = await self.request("GET", f"{UNSTABLE}/room_keys/version", None, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))

    async def test_names_with_every_character(self) -> None:
        alice = await self.register("alice")
        await self.send_to_device(alice, {alice.user_id: {"*": {"n": 1}}}, "%00%2F%E2%98%8E", kind="m.%00%2F")
        events = (await self.sync(alice))["to_device"]["events"]
        self.assertEqual([one["type"] for one in events], ["m.\0/"])
        keys = {"a\0b:c\0d": {"key": "\0", "signatures": {}}}
        counts = (await self.upload(alice, one_time_keys=keys)).json["one_time_key_counts"]
        self.assertEqual(counts, {"a\0b": 1})
        self.assertEqual(await self.claim(alice, alice, "a\0b"), keys)
