# SPDX-License-Identifier: Apache-2.0
"""Pushers over the client API, and what a push gateway on a real socket is told."""

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase

from homeserver.services.egress import AddressRule
from tests.harness.server import Session
from tests.userdata.case import UserDataCase, in_room
from tests.userdata.gateway import Gateway

TLS_URL = "https://push.example.org/_matrix/push/v1/notify"


def pusher(url: str = TLS_URL, **changes: Any) -> dict[str, Any]:
    body = {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": "key",
        "app_display_name": "Example",
        "device_display_name": "Phone",
        "lang": "en",
        "data": {"url": url},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}


class PusherTests(UserDataCase):
    async def listed(self, session: Session) -> list[Any]:
        return list((await self.call(session, "GET", "/pushers"))["pushers"])

    async def test_pushers_come_and_go(self) -> None:
        alice = await self.register("alice")
        self.assertEqual(await self.listed(alice), [])
        await self.call(alice, "POST", "/pushers/set", pusher(profile_tag="p"))
        await self.call(
            alice, "POST", "/pushers/set", pusher(lang="de", data={"url": TLS_URL, "format": "event_id_only"})
        )
        await self.call(alice, "POST", "/pushers/set", pusher(pushkey="other"))
        shown = await self.listed(alice)
        self.assertEqual([(one["pushkey"], one["lang"]) for one in shown], [("key", "de"), ("other", "en")])
        self.assertEqual(shown[0]["data"], {"url": TLS_URL, "format": "event_id_only"})
        gone = {"kind": None, "app_id": "org.example.app", "pushkey": "key"}
        for _ in range(2):
            await self.call(alice, "POST", "/pushers/set", gone)
        self.assertEqual([one["pushkey"] for one in await self.listed(alice)], ["other"])

    async def test_a_key_moves_to_the_last_user_unless_appended(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        await self.call(alice, "POST", "/pushers/set", pusher())
        await self.call(bob, "POST", "/pushers/set", pusher(append=True))
        self.assertEqual((len(await self.listed(alice)), len(await self.listed(bob))), (1, 1))
        await self.call(bob, "POST", "/pushers/set", pusher())
        self.assertEqual((len(await self.listed(alice)), len(await self.listed(bob))), (0, 1))

    async def test_bad_pushers_are_refused(self) -> None:
        alice = await self.register("alice")
        for name in ("app_id", "pushkey", "kind", "app_display_name", "device_display_name", "lang", "data"):
            await self.refused(alice, "POST", "/pushers/set", pusher(**{name: ...}), 400, "M_MISSING_PARAM")
        for name, value in (
            ("app_id", 3),
            ("pushkey", ""),
            ("lang", 3),
            ("data", []),
            ("append", 1),
            ("profile_tag", 1),
        ):
            await self.refused(alice, "POST", "/pushers/set", pusher(**{name: value}), 400, "M_BAD_JSON")
        for name, value in (("app_id", "a" * 65), ("pushkey", "ü" * 257), ("kind", "moon"), ("kind", 3)):
            await self.refused(alice, "POST", "/pushers/set", pusher(**{name: value}), 400, "M_INVALID_PARAM")
        await self.refused(alice, "POST", "/pushers/set", pusher(data={}), 400, "M_MISSING_PARAM")
        for url in (
            "http://push.example.org/_matrix/push/v1/notify",
            "https://push.example.org/other",
            "https:///_matrix/push/v1/notify",
            "https://x:99999/_matrix/push/v1/notify",
            "ftp://x/_matrix/push/v1/notify",
            "https://[/_matrix/push/v1/notify",
            3,
        ):
            await self.refused(alice, "POST", "/pushers/set", pusher(data={"url": url}), 400, "M_INVALID_PARAM")
        self.assertEqual(await self.listed(alice), [])

    async def test_logging_out_removes_the_devices_pushers(self) -> None:
        alice = await self.register("alice")
        other = await self.login("alice")
        await self.call(alice, "POST", "/pushers/set", pusher())
        await self.call(other, "POST", "/pushers/set", pusher(pushkey="other"))
        await self.call(other, "POST", "/logout", {})
        self.assertEqual([one["pushkey"] for one in await self.listed(alice)], ["key"])


class GatewayCase(UserDataCase):
    """A room of two, and a gateway for the pusher of one of them."""

    settings = "network: {allow_private_addresses: [127.0.0.0/8]}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.gateway = Gateway()
        self.gateway.start()
        self.addCleanup(self.gateway.stop)
        self.addCleanup(self._stop_if_running)
        self.alice, self.bob = await self.register("alice"), await self.register("bob")
        name = f"/profile/{self.alice.user_id}/displayname"
        await self.call(self.alice, "PUT", name, {"displayname": "Alice"})
        self.room = await self.create_room(self.alice, preset="private_chat", invite=[self.bob.user_id], name="Tea")
        await self.join(self.bob, self.room)

    async def until(self, met: Callable[[], bool], advance: float = 0.0) -> None:
        for _ in range(6000):
            if met():
                self.assertEqual(self.gateway.faults, [])
                return
            self.clock.advance(advance)
            await self.settle(0.005)
        raise AssertionError(f"it never came: {self.gateway}")

    async def taken(self, count: int) -> list[dict[str, Any]]:
        await self.until(lambda: len(self.gateway.taken) >= count)
        await self.settle(0.05)
        self.assertEqual(len(self.gateway.taken), count, self.gateway.taken)
        return self.gateway.taken

    async def add_pusher(self, session: Session | None = None, **changes: Any) -> None:
        await self.call(session or self.bob, "POST", "/pushers/set", pusher(self.gateway.url, **changes))


class DeliveryTests(GatewayCase):
    async def test_a_message_is_told_whole(self) -> None:
        await self.add_pusher(data={"url": self.gateway.url, "x": 1})
        event_id = await self.send(self.alice, self.room, "hello")
        (told,) = await self.taken(1)
        device = told.pop("devices")[0]
        self.assertEqual(
            told,
            {
                "event_id": event_id,
                "room_id": self.room,
                "type": "m.room.message",
                "sender": self.alice.user_id,
                "sender_display_name": "Alice",
                "room_name": "Tea",
                "content": {"msgtype": "m.text", "body": "hello"},
                "prio": "high",
                "counts": {"unread": 1},
            },
        )
        self.assertEqual(device.pop("pushkey_ts"), self.runtime.now_ms() // 1000)
        expected = {"app_id": "org.example.app", "pushkey": "key", "data": {"x": 1}, "tweaks": {"sound": "default"}}
        self.assertEqual(device, expected)

    async def test_only_ids_where_that_is_asked(self) -> None:
        await self.add_pusher(data={"url": self.gateway.url, "format": "event_id_only"})
        event_id = await self.send(self.alice, self.room)
        (told,) = await self.taken(1)
        self.assertEqual(sorted(told), ["counts", "devices", "event_id", "prio", "room_id"])
        self.assertEqual(told["event_id"], event_id)

    async def test_what_does_not_notify_is_not_told(self) -> None:
        await self.add_pusher()
        await self.send(self.bob, self.room)
        await self.send_event(self.alice, self.room, "m.room.message", {"msgtype": "m.notice", "body": "x"})
        await self.send_event(self.alice, self.room, "m.reaction", {"m.relates_to": {}})
        await self.call(self.bob, "PUT", f"/pushrules/global/room/{self.room}", {"actions": []})
        await self.send(self.alice, self.room)
        mention = {"msgtype": "m.text", "body": "x", "m.mentions": {"user_ids": [self.bob.user_id]}}
        event_id = await self.send_event(self.alice, self.room, "m.room.message", mention)
        (told,) = await self.taken(1)
        self.assertEqual(told["event_id"], event_id)
        self.assertEqual(told["devices"][0]["tweaks"], {"sound": "default", "highlight": True})

    async def test_an_invite_is_told(self) -> None:
        carol = await self.register("carol")
        await self.add_pusher(carol)
        room = await self.create_room(self.alice, invite=[carol.user_id])
        (told,) = await self.taken(1)
        self.assertEqual((told["room_id"], told["type"], told["user_is_target"]), (room, "m.room.member", True))

    async def test_a_gateway_that_fails_is_asked_again_later_and_later(self) -> None:
        await self.add_pusher()
        self.gateway.status = 502
        event_ids = [await self.send(self.alice, self.room), await self.send(self.alice, self.room)]
        await self.until(lambda: self.gateway.asked == 1)
        await self.settle(0.05)
        self.clock.advance(0.5)
        await self.settle(0.05)
        self.assertEqual(self.gateway.asked, 1)
        self.clock.advance(0.6)
        await self.until(lambda: self.gateway.asked == 2)
        await self.settle(0.05)
        self.clock.advance(1.1)
        await self.settle(0.05)
        self.assertEqual(self.gateway.asked, 2)
        self.gateway.status = 200
        self.clock.advance(1.0)
        self.assertEqual([told["event_id"] for told in await self.taken(2)], event_ids)

    async def test_what_was_not_told_is_told_after_a_restart(self) -> None:
        await self.add_pusher()
        self.gateway.status = 500
        event_id = await self.send(self.alice, self.room)
        await self.until(lambda: self.gateway.asked == 1)
        await self.settle(0.05)
        self.gateway.status = 200
        await self.restart_server()
        (told,) = await self.taken(1)
        self.assertEqual(told["event_id"], event_id)
        await self.restart_server()
        await self.taken(1)

    async def test_a_rejected_key_ends_the_pusher(self) -> None:
        await self.add_pusher()
        self.gateway.rejected = ["key"]
        await self.send(self.alice, self.room)
        await self.taken(1)
        await self.settle(0.05)
        self.assertEqual((await self.call(self.bob, "GET", "/pushers"))["pushers"], [])
        await self.send(self.alice, self.room)
        await self.settle(0.1)
        await self.taken(1)

    async def test_reading_lowers_the_badge(self) -> None:
        await self.add_pusher()
        event_id = await self.send(self.alice, self.room)
        await self.taken(1)
        await self.call(self.bob, "POST", in_room(self.room, f"/receipt/m.read/{event_id}"), {})
        await self.settle(0.05)
        self.clock.advance(1.5)
        told = (await self.taken(2))[1]
        self.assertEqual((told["counts"], "event_id" in told), ({}, False))

    async def test_what_is_read_before_it_could_be_told_is_not_told(self) -> None:
        await self.add_pusher()
        self.gateway.status = 500
        event_id = await self.send(self.alice, self.room)
        await self.until(lambda: self.gateway.asked == 1)
        await self.settle(0.05)
        await self.call(self.bob, "POST", in_room(self.room, f"/receipt/m.read/{event_id}"), {})
        self.gateway.status = 200
        last = await self.send(self.alice, self.room)
        self.clock.advance(1.5)
        await self.until(lambda: bool(self.gateway.taken))
        self.assertEqual(self.gateway.taken[0]["event_id"], last)


class ForbiddenAddressTests(GatewayCase):
    """Where private addresses are not allowed the gateway on 127.0.0.1 is never asked."""

    settings = "network: {allow_private_addresses: [10.0.0.0/8]}"

    async def test_a_private_address_is_not_asked(self) -> None:
        await self.add_pusher()
        await self.send(self.alice, self.room)
        await self.settle(0.3)
        self.assertEqual(self.gateway.asked, 0)


class AddressRuleTests(TestCase):
    def test_private_addresses_need_permission(self) -> None:
        rule = AddressRule(["192.168.7.0/24", "fd00::/8"])
        for address in ("8.8.8.8", "2001:4860:4860::8888", "192.168.7.9", "fd12::1", "::ffff:8.8.8.8"):
            self.assertTrue(rule.permits(address), address)
        for address in (
            *("127.0.0.1", "10.1.2.3", "192.168.8.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
            *("::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1", "255.255.255.255"),
            *("2002:7f00:0001::", "64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        ):
            self.assertFalse(rule.permits(address), address)
