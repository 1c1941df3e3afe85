# SPDX-License-Identifier: Apache-2.0
"""Seeing, naming and deleting devices."""

from typing import Any

from storage import accounts, devices
from tests.harness.server import EPOCH_MS, PASSWORD, HomeserverCase, Reply, Session

DEVICES = "/_matrix/client/v3/devices"
WHOAMI = "/_matrix/client/v3/account/whoami"


class DeviceTests(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.phone = await self.register("alice", device_id="PHONE")
        self.tablet = await self.login("alice", device_id="TABLET")
        self.bob = await self.register("bob", device_id="BOBS")

    async def get(self, path: str = DEVICES, token: Session | None = None) -> Reply:
        return await self.request("GET", path, token=token or self.phone)

    async def ids(self) -> list[str]:
        return sorted(device["device_id"] for device in (await self.get()).json["devices"])

    def proof(self, session: str | None = None) -> dict[str, object]:
        auth = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
        return {**auth, "session": session} if session else dict(auth)

    async def test_devices_are_shown_to_their_owner(self) -> None:
        self.assertEqual(await self.ids(), ["PHONE", "TABLET"])
        self.assertEqual((await self.get(f"{DEVICES}/TABLET")).json["device_id"], "TABLET")
        for unknown in ("BOBS", "OTHER"):
            reply = await self.get(f"{DEVICES}/{unknown}")
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
        self.assertEqual((await self.request("GET", DEVICES)).status, 401)

    async def test_the_password_of_somebody_else_deletes_nothing(self) -> None:
        auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "bob"}, "password": PASSWORD}
        reply = await self.request("DELETE", f"{DEVICES}/TABLET", {"auth": auth}, self.phone)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual(await self.ids(), ["PHONE", "TABLET"])

    async def test_a_device_is_renamed(self) -> None:
        await self.request("PUT", f"{DEVICES}/TABLET", {"display_name": "Sofa"}, self.phone, expect=200)
        await self.request("PUT", f"{DEVICES}/TABLET", {}, self.phone, expect=200)
        self.assertEqual((await self.get(f"{DEVICES}/TABLET")).json["display_name"], "Sofa")
        for device, body, errcode in (
            ("OTHER", {"display_name": "x"}, "M_NOT_FOUND"),
            ("BOBS", {"display_name": "x"}, "M_NOT_FOUND"),
            ("TABLET", {"display_name": 5}, "M_BAD_JSON"),
            ("TABLET", {"display_name": "x" * 101}, "M_TOO_LARGE"),
        ):
            reply = await self.request("PUT", f"{DEVICES}/{device}", body, self.phone)
            self.assertEqual(reply.json["errcode"], errcode)
        self.assertEqual((await self.get(f"{DEVICES}/TABLET")).json["display_name"], "Sofa")

    async def test_when_a_device_was_seen_is_known_at_once_and_kept(self) -> None:
        self.clock.advance(100)
        await self.request("GET", WHOAMI, token=self.tablet, ip="192.0.2.9")
        seen = (EPOCH_MS + 101_000, "192.0.2.9")
        for _ in range(2):
            shown = (await self.get(f"{DEVICES}/TABLET")).json
            self.assertEqual((shown["last_seen_ts"], shown["last_seen_ip"]), seen)
            await self.restart_server()

    async def test_seeing_a_device_does_not_write_each_time(self) -> None:
        await self.get()
        before = self.app.base.db.batches
        for _ in range(20):
            await self.get()
        self.assertEqual(self.app.base.db.batches, before)
        self.clock.advance(61)
        await self.settle(0.05)
        self.assertEqual(self.app.base.db.batches, before + 1)

    async def test_deleting_a_device_needs_proof(self) -> None:
        first = await self.request("DELETE", f"{DEVICES}/TABLET", None, self.phone)
        self.assertEqual((first.status, first.json["flows"]), (401, [{"stages": ["m.login.password"]}]))
        self.assertEqual(await self.ids(), ["PHONE", "TABLET"])
        body = {"auth": self.proof(first.json["session"])}
        reply = await self.request("DELETE", f"{DEVICES}/PHONE", body, self.phone)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        await self.request("DELETE", f"{DEVICES}/TABLET", body, self.phone, expect=200)
        self.assertEqual(await self.ids(), ["PHONE"])
        self.assertEqual((await self.request("GET", WHOAMI, token=self.tablet)).status, 401)

    async def test_deleting_many(self) -> None:
        async def delete(devices: Any, **more: object) -> Reply:
            return await self.request(
                "POST", "/_matrix/client/v3/delete_devices", {"devices": devices, **more}, self.phone
            )

        session = (await delete(["TABLET"])).json["session"]
        reply = await delete(["TABLET", "PHONE"], auth=self.proof(session))
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        reply = await delete(["TABLET", "BOBS", "UNKNOWN"], auth=self.proof())
        self.assertEqual((reply.status, reply.json), (200, {}))
        self.assertEqual(await self.ids(), ["PHONE"])
        self.assertEqual((await self.request("GET", WHOAMI, token=self.bob)).status, 200)
        for wrong in ("TABLET", [5], None):
            self.assertEqual((await delete(wrong)).json["errcode"], "M_BAD_JSON")

    async def test_a_device_number_is_never_used_twice(self) -> None:
        usr = (await self.app.base.db.read(accounts.find, self.phone.user_id)).usr
        numbers = set()
        for _ in range(3):
            session = await self.login("alice", device_id="AGAIN")
            device = await self.app.base.db.read(devices.find, usr, "AGAIN")
            numbers.add(device.device)
            await self.request("POST", "/_matrix/client/v3/logout", token=session, expect=200)
        self.assertEqual(len(numbers), 3)
