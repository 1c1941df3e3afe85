# SPDX-License-Identifier: Apache-2.0
"""Dehydrated devices: put away, written to, found and read by the next login (MSC3814)."""

from typing import Any

from tests.e2e.case import V3, EncryptionCase
from tests.e2e.identities import ALGORITHM, Device
from tests.harness.server import Session

PATH = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "org.matrix.msc3814.v2", "device_pickle": "encrypted", "nonce": "n"}


class DehydratedDeviceTest(EncryptionCase):
    async def put(self, session: Session, device_id: str, *numbers: int) -> Device:
        device = Device(session.user_id, device_id)
        body = {
            "device_id": device_id,
            "device_data": DATA,
            "initial_device_display_name": "Sleeper",
            "device_keys": {**device.keys(), "dehydrated": True},
            "one_time_keys": device.one_time(*numbers),
            "fallback_keys": device.one_time(99, fallback=True),
        }
        reply = await self.request("PUT", PATH, body, session, expect=200)
        self.assertEqual(reply.json, {"device_id": device_id})
        return device

    async def test_it_can_be_found_written_to_and_read(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        await self.put(alice, "SLEEPER", 1)
        found = await self.request("GET", PATH, None, alice, expect=200)
        self.assertEqual(found.json, {"device_id": "SLEEPER", "device_data": DATA})
        keys = (await self.query(bob, alice.user_id))["device_keys"][alice.user_id]["SLEEPER"]
        self.assertEqual((keys["dehydrated"], keys["unsigned"]), (True, {"device_display_name": "Sleeper"}))
        sleeper = Session(alice.user_id, "", "SLEEPER")
        self.assertEqual(list(await self.claim(bob, sleeper) or ()), [f"{ALGORITHM}:00000001"])
        for n in range(3):
            await self.send_to_device(bob, {alice.user_id: {"SLEEPER": {"n": n}}}, str(n))
        first = await self.request("GET", f"{PATH}/SLEEPER/events?limit=2", None, alice, expect=200)
        self.assertEqual([one["content"]["n"] for one in first.json["events"]], [0, 1])
        body = {"next_batch": first.json["next_batch"]}
        second = await self.request("POST", f"{PATH}/SLEEPER/events", body, alice, expect=200)
        self.assertEqual([one["content"]["n"] for one in second.json["events"]], [2])
        body = {"next_batch": second.json["next_batch"]}
        last = await self.request("POST", f"{PATH}/SLEEPER/events", body, alice, expect=200)
        self.assertEqual(last.json["events"], [])
        again = await self.request("POST", f"{PATH}/SLEEPER/events", {}, alice, expect=200)
        self.assertEqual(len(again.json["events"]), 3)

    async def test_another_one_takes_its_place(self) -> None:
        alice = await self.register("alice")
        await self.put(alice, "FIRST", 1)
        await self.send_to_device(alice, {alice.user_id: {"FIRST": {}}}, "1")
        await self.put(alice, "SECOND", 1)
        self.assertEqual(list((await self.query(alice, alice.user_id))["device_keys"][alice.user_id]), ["SECOND"])
        await self.put(alice, "SECOND", 2)
        events = await self.request("GET", f"{PATH}/SECOND/events", None, alice, expect=200)
        self.assertEqual(events.json["events"], [])
        reply = await self.request("GET", f"{PATH}/FIRST/events", None, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_it_goes_when_it_is_deleted(self) -> None:
        alice = await self.register("alice")
        await self.put(alice, "SLEEPER", 1)
        deleted = await self.request("DELETE", PATH, None, alice, expect=200)
        self.assertEqual(deleted.json, {"device_id": "SLEEPER"})
        for method in ("GET", "DELETE"):
            reply = await self.request(method, PATH, None, alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
        devices = (await self.request("GET", f"{V3}/devices", None, alice, expect=200)).json["devices"]
        self.assertEqual([device["device_id"] for device in devices], [alice.device_id])

    async def test_others_have_none(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        await self.put(alice, "SLEEPER")
        self.assertEqual((await self.request("GET", PATH, None, bob)).status, 404)
        self.assertEqual((await self.request("GET", f"{PATH}/SLEEPER/events", None, bob)).status, 403)

    async def test_malformed_devices_are_refused_and_the_old_one_stays(self) -> None:
        alice = await self.register("alice")
        await self.put(alice, "OLD", 1)
        device = Device(alice.user_id, "NEW")
        good: dict[str, Any] = {"device_id": "NEW", "device_data": DATA, "device_keys": device.keys()}
        for wrong, errcode in (
            ({"device_id": None}, "M_MISSING_PARAM"),
            ({"device_data": None}, "M_MISSING_PARAM"),
            ({"device_keys": None}, "M_MISSING_PARAM"),
            ({"device_id": 5}, "M_INVALID_PARAM"),
            ({"device_id": ""}, "M_INVALID_PARAM"),
            ({"device_data": "text"}, "M_BAD_JSON"),
            ({"initial_device_display_name": 5}, "M_BAD_JSON"),
            ({"device_id": "OTHER"}, "M_BAD_JSON"),
            ({"one_time_keys": []}, "M_BAD_JSON"),
            ({"device_id": alice.device_id, "device_keys": self.device(alice).keys()}, "M_INVALID_PARAM"),
        ):
            reply = await self.request("PUT", PATH, {**good, **wrong}, alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), wrong)
        self.assertEqual((await self.request("GET", PATH, None, alice, expect=200)).json["device_id"], "OLD")
        reply = await self.request("GET", f"{PATH}/OLD/events?next_batch=x", None, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"))
