# SPDX-License-Identifier: Apache-2.0
"""Delayed events (MSC4140) in their three wire generations."""

from typing import Any
from urllib.parse import quote

from tests.harness.server import Session
from tests.rooms.test_membership import V3, RoomCase

UNSTABLE = "/_matrix/client/unstable/org.matrix.msc4140"


class DelayCase(RoomCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.room = await self.create_room(self.alice)

    async def later(self, ms: object, txn: str = "t", expect: int = 200, body: str = "later") -> Any:
        path = f"{V3}/rooms/{quote(self.room)}/send/m.room.message/{txn}"
        query = {"org.matrix.msc4140.delay": ms}
        content = {"msgtype": "m.text", "body": body}
        return (await self.request("PUT", path, content, self.alice, query=query, expect=expect, validate=False)).json

    async def do(self, delay_id: str, action: str, expect: int = 200, user: Session | None = None) -> Any:
        path = f"{UNSTABLE}/delayed_events/{delay_id}/{action}"
        return (await self.request("POST", path, {}, user, expect=expect)).json

    async def bodies(self) -> list[str]:
        path = f"{V3}/rooms/{quote(self.room)}/messages"
        chunk = (await self.request("GET", path, None, self.alice, query={"dir": "f", "limit": 100})).json["chunk"]
        return [event["content"]["body"] for event in chunk if event["type"] == "m.room.message"]

    async def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle(0.05)

    async def one(self, delay_id: str, expect: int = 200, user: Session | None = None) -> Any:
        path = f"{UNSTABLE}/delayed_events/{delay_id}"
        return (await self.request("GET", path, None, user or self.alice, expect=expect)).json


class Delays(DelayCase):
    async def test_an_event_is_sent_when_its_time_comes(self) -> None:
        delay_id = (await self.later(5000))["delay_id"]
        await self.wait(4.9)
        self.assertEqual(await self.bodies(), [])
        await self.wait(0.2)
        self.assertEqual(await self.bodies(), ["later"])
        shown = await self.one(delay_id)
        self.assertEqual(shown["finalised"]["outcome"], "send")
        await self.do(delay_id, "send")
        await self.do(delay_id, "cancel", 409)
        self.assertEqual(await self.bodies(), ["later"])

    async def test_the_same_request_schedules_once(self) -> None:
        first, again = await self.later(5000, "same"), await self.later(5000, "same")
        self.assertEqual(first, again)
        await self.wait(10)
        self.assertEqual(await self.bodies(), ["later"])

    async def test_restarting_begins_the_delay_anew(self) -> None:
        delay_id = (await self.later(5000))["delay_id"]
        await self.wait(4)
        await self.do(delay_id, "restart")
        await self.wait(4)
        self.assertEqual(await self.bodies(), [])
        await self.wait(1.5)
        self.assertEqual(await self.bodies(), ["later"])
        await self.do(delay_id, "restart", 409)

    async def test_cancelling_and_sending_now(self) -> None:
        one, two = (
            (await self.later(5000, "1", body="1"))["delay_id"],
            (await self.later(5000, "2", body="2"))["delay_id"],
        )
        await self.do(one, "cancel")
        await self.do(one, "cancel")
        await self.do(one, "send", 409)
        path = f"{UNSTABLE}/delayed_events/{two}"
        await self.request("POST", path, {"action": "send"}, self.alice, expect=200)
        await self.request("POST", path, {"action": "dance"}, self.alice, expect=400)
        missing = await self.request("POST", path, {}, self.alice, expect=400)
        self.assertEqual(missing.json["errcode"], "M_MISSING_PARAM")
        await self.wait(10)
        self.assertEqual(await self.bodies(), ["2"])

    async def test_state_of_a_call_is_cleared_when_the_heartbeat_stops(self) -> None:
        key = f"_{self.alice.user_id}_DEVICE_m.call"
        kind = "org.matrix.msc3401.call.member"
        await self.put_state(self.alice, self.room, kind, {"on": True}, key)
        path = f"{V3}/rooms/{quote(self.room)}/state/{kind}/{quote(key)}"
        query = {"org.matrix.msc4140.delay": 1000}
        reply = await self.request("PUT", path, {}, self.alice, query=query, expect=200, validate=False)
        for _ in range(3):
            await self.wait(0.8)
            await self.do(reply.json["delay_id"], "restart")
        self.assertEqual((await self.request("GET", path, None, self.alice)).json, {"on": True})
        await self.wait(1.1)
        self.assertEqual((await self.request("GET", path, None, self.alice)).json, {})

    async def test_somebody_elses_state_takes_the_place_of_what_waits(self) -> None:
        levels = {"users": {self.bob.user_id: 100}}
        self.room = await self.create_room(
            self.alice,
            room_version="11",
            preset="public_chat",
            power_level_content_override={"users": {self.alice.user_id: 100, **levels["users"]}},
        )
        await self.join(self.bob, self.room)
        path = f"{V3}/rooms/{quote(self.room)}/state/org.thing/key"
        query = {"org.matrix.msc4140.delay": 2000}
        made = await self.request(
            "PUT", path, {"by": "alice, late"}, self.alice, query=query, expect=200, validate=False
        )
        await self.put_state(self.alice, self.room, "org.thing", {"by": "alice"}, "key")
        await self.settle(0.05)
        self.assertNotIn("finalised", await self.one(made.json["delay_id"]))
        await self.put_state(self.bob, self.room, "org.thing", {"by": "bob"}, "key")
        await self.settle(0.05)
        self.assertEqual((await self.one(made.json["delay_id"]))["finalised"]["outcome"], "cancel")
        await self.wait(3)
        self.assertEqual((await self.request("GET", path, None, self.alice)).json, {"by": "bob"})

    async def test_they_survive_a_restart(self) -> None:
        soon, late = await self.later(5000, "1", body="soon"), await self.later(60_000, "2", body="late")
        self.assertNotEqual(soon, late)
        await self.stop_server()
        self.clock.advance(10)
        await self.start_server()
        await self.wait(0)
        self.assertEqual(await self.bodies(), ["soon"])
        await self.wait(60)
        self.assertEqual(await self.bodies(), ["soon", "late"])

    async def test_the_merged_form(self) -> None:
        path = f"{UNSTABLE}/rooms/{quote(self.room)}/delayed_event/m.room.message/t"
        body = {"delay_ms": 1000, "content": {"msgtype": "m.text", "body": "merged"}}
        made = (await self.request("PUT", path, body, self.alice, expect=200)).json
        shown = await self.one(made["delay_id"])
        self.assertEqual((shown["delay_ms"], shown["content"]["body"], shown["room_id"]), (1000, "merged", self.room))
        listed = (await self.request("GET", f"{UNSTABLE}/delayed_events", None, self.alice, expect=200)).json
        self.assertEqual([one["delay_id"] for one in listed["delayed_events"]], [made["delay_id"]])
        state = {"delay_ms": 1000, "state_key": "", "content": {"name": "N"}}
        path = f"{UNSTABLE}/rooms/{quote(self.room)}/delayed_event/m.room.name/t"
        await self.request("PUT", path, state, self.alice, expect=200)
        await self.wait(2)
        self.assertEqual(await self.bodies(), ["merged"])
        name = await self.request("GET", f"{V3}/rooms/{quote(self.room)}/state/m.room.name", None, self.alice)
        self.assertEqual(name.json, {"name": "N"})

    async def test_what_the_room_refuses_fails(self) -> None:
        delay_id = (await self.later(1000))["delay_id"]
        await self.act(self.alice, self.room, "leave")
        await self.wait(2)
        self.assertEqual((await self.one(delay_id))["finalised"]["outcome"], "error")

    async def test_bad_requests(self) -> None:
        for ms in (0, -5, "soon"):
            self.assertEqual((await self.later(ms, expect=400))["errcode"], "M_INVALID_PARAM")
        long = await self.later(10**12, expect=400)
        self.assertEqual(long["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED")
        await self.do("nothing", "cancel", 404)
        await self.one("nothing", 404)
        delay_id = (await self.later(1000))["delay_id"]
        await self.one(delay_id, 404, self.bob)
        await self.do(delay_id, "dance", 404)
        path = f"{V3}/rooms/{quote(self.room)}/send/m.room.message/x"
        query = {"org.matrix.msc4140.delay": 1000}
        await self.request("PUT", path, {}, self.bob, query=query, expect=403, validate=False)


class FewDelays(DelayCase):
    settings = "delayed_events: {max_delay: 1m, max_scheduled: 2}"

    async def test_a_user_has_so_many_waiting(self) -> None:
        await self.later(1000, "1")
        await self.later(1000, "2")
        refused = await self.later(1000, "3", expect=400)
        self.assertEqual(refused["org.matrix.msc4140.errcode"], "M_MAX_DELAYED_EVENTS_EXCEEDED")
        await self.wait(2)
        await self.later(1000, "3")

    async def test_the_limits_are_announced(self) -> None:
        capabilities = (await self.request("GET", f"{V3}/capabilities", None, self.alice, expect=200)).json[
            "capabilities"
        ]
        self.assertEqual(capabilities["m.delayed_events"], {"max_delay_ms": 60_000, "max_scheduled": 2})
        refused = await self.later(60_001, expect=400)
        self.assertEqual(refused["org.matrix.msc4140.max_delay"], 60_000)
