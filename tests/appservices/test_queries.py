# SPDX-License-Identifier: Apache-2.0
"""What application services are asked, and what their names being theirs means for others."""

from urllib.parse import quote

from homeserver.config.appservice import parse
from homeserver.protocol.errors import MatrixError
from homeserver.services.appservices.calls import Calls
from homeserver.services.appservices.ping import Ping
from homeserver.services.appservices.registry import AppServices
from homeserver.services.egress import TooLate
from tests.appservices.case import ANN, BOT, V3, ServiceCase
from tests.appservices.service import AS_TOKEN, Asked, Say

ALIAS = "#irc_x:parley.test"
ROOM_OF_ALIAS = f"{V3}/directory/room/{quote(ALIAS)}"
PING = "/_matrix/client/v1/appservice/irc/ping"


class QueryTests(ServiceCase):
    async def test_an_alias_is_asked_for_before_it_does_not_exist(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, preset="public_chat")
        reply = await self.request("GET", ROOM_OF_ALIAS, token=alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
        self.assertEqual(self.service.asked[-1].path, f"/_matrix/app/v1/rooms/{quote(ALIAS, safe='')}")
        self.service.knows[f"rooms/{ALIAS}"] = {}
        self.assertEqual((await self.request("GET", ROOM_OF_ALIAS, token=alice)).status, 404)
        await self.run_service("PUT", ROOM_OF_ALIAS, {"room_id": room}, expect=200)
        self.assertEqual((await self.request("GET", ROOM_OF_ALIAS, token=alice)).json["room_id"], room)
        asked = len(self.service.asked)
        await self.request("GET", f"{V3}/directory/room/%23other:parley.test", token=alice, expect=404)
        self.assertEqual(len([one for one in self.service.asked[asked:] if "/rooms/" in one.path]), 0)

    async def test_one_that_is_made_while_it_is_asked_for_is_found(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.create_room(alice, preset="public_chat")
        self.service.mute = True
        joining = self.begin("POST", f"{V3}/join/{quote(ALIAS)}", {}, bob)
        await self.until(lambda: any("/rooms/" in one.path for one in self.service.asked))
        await self.run_service("PUT", ROOM_OF_ALIAS, {"room_id": room}, expect=200)
        self.service.mute = False
        self.service.knows[f"rooms/{ALIAS}"] = {}
        await self.service.stop()
        self.service.start()
        reply = await self.eventually(joining, advance=0.1)
        self.assertEqual((reply.status, reply.json), (200, {"room_id": room}))

    async def test_a_service_that_is_silent_takes_too_long(self) -> None:
        alice = await self.register("alice")
        await self.service.stop()
        reply = await self.eventually(self.begin("GET", ROOM_OF_ALIAS, token=alice), advance=0.1)
        self.assertEqual((reply.status, reply.json["errcode"]), (408, "M_UNKNOWN"))

    async def test_a_user_is_asked_for_before_it_does_not_exist(self) -> None:
        path = f"{V3}/profile/{quote(ANN)}"
        self.assertEqual((await self.request("GET", path)).status, 404)
        await self.request("GET", f"{V3}/profile/@other:parley.test", expect=404)
        self.assertEqual([one.path for one in self.service.asked], [f"/_matrix/app/v1/users/{quote(ANN, safe='')}"])
        self.service.mute = True
        asking = self.begin("GET", path)
        await self.until(lambda: len(self.service.asked) == 2)
        await self.make_ann()
        self.service.mute = False
        self.service.knows[f"users/{ANN}"] = {}
        await self.service.stop()
        self.service.start()
        reply = await self.eventually(asking, advance=0.1)
        self.assertEqual(reply.status, 200)

    async def test_inviting_somebody_makes_them(self) -> None:
        alice = await self.register("alice")
        await self.create_room(alice, invite=[ANN])
        await self.until(lambda: self.service.events("m.room.member"))
        order = [one.path for one in self.service.asked]
        asked = order.index(f"/_matrix/app/v1/users/{quote(ANN, safe='')}")
        self.assertLess(asked, next(n for n, path in enumerate(order) if "/transactions/" in path))


class AliasTests(ServiceCase):
    async def test_exclusive_aliases_are_the_services(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, preset="public_chat")
        reply = await self.request("PUT", ROOM_OF_ALIAS, {"room_id": room}, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_EXCLUSIVE"))
        body = {"room_alias_name": "irc_x"}
        reply = await self.request("POST", f"{V3}/createRoom", body, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_EXCLUSIVE"))
        reply = await self.run_service("PUT", f"{V3}/directory/room/%23other:parley.test", {"room_id": room})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_EXCLUSIVE"))
        await self.run_service("PUT", ROOM_OF_ALIAS, {"room_id": room}, expect=200)
        reply = await self.request("DELETE", ROOM_OF_ALIAS, token=alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_EXCLUSIVE"))
        await self.make_ann()
        await self.run_service("DELETE", ROOM_OF_ALIAS, user=ANN, expect=200)

    async def test_a_room_of_its_own_network_in_the_directory(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, preset="public_chat")
        path = f"{V3}/directory/list/appservice/libera/{quote(room)}"
        reply = await self.request("PUT", path, {"visibility": "public"}, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        reply = await self.run_service("PUT", path, {"visibility": "sometimes"})
        self.assertEqual(reply.status, 400)
        await self.run_service("PUT", path, {"visibility": "public"}, expect=200)

        async def listed(**body: object) -> list[str]:
            answer = await self.request("POST", f"{V3}/publicRooms", body, alice, expect=200)
            return [one["room_id"] for one in answer.json["chunk"]]

        self.assertEqual(await listed(), [])
        self.assertEqual(await listed(third_party_instance_id="irc|libera"), [room])
        self.assertEqual(await listed(include_all_networks=True), [room])
        await self.run_service("PUT", path, {"visibility": "private"}, expect=200)
        self.assertEqual(await listed(include_all_networks=True), [])


class MassagingTests(ServiceCase):
    async def test_it_says_when_an_event_was_sent(self) -> None:
        room = (await self.run_service("POST", f"{V3}/createRoom", {}, expect=200)).json["room_id"]
        await self.make_ann()
        base = f"{V3}/rooms/{quote(room)}"
        ts = {"query": {"ts": 1_000_000_000_000}}
        sent = await self.run_service(
            "PUT", f"{base}/send/m.room.message/1", {"body": "old", "msgtype": "m.text"}, **ts
        )
        await self.run_service("PUT", f"{base}/state/m.room.topic", {"topic": "old"}, **ts, expect=200)
        await self.run_service("PUT", f"{base}/state/m.room.member/{ANN}", {"membership": "invite"}, **ts, expect=200)
        messages = (await self.run_service("GET", f"{base}/messages", query={"dir": "b"})).json["chunk"]
        self.assertEqual([one["origin_server_ts"] for one in messages[:3]], [1_000_000_000_000] * 3)
        self.assertEqual(messages[2]["event_id"], sent.json["event_id"])
        for bad in ("-1", "x", str(2**53), "1.5", "²"):
            reply = await self.run_service("PUT", f"{base}/send/m.room.message/{bad}", {}, query={"ts": bad})
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"), bad)

    async def test_people_do_not(self) -> None:
        alice = await self.register("alice")
        base = f"{V3}/rooms/{quote(await self.create_room(alice))}"
        body = {"body": "now", "msgtype": "m.text"}
        await self.request("PUT", f"{base}/send/m.room.message/1", body, alice, query={"ts": 5}, expect=200)
        latest = (await self.request("GET", f"{base}/messages", token=alice, query={"dir": "b"})).json["chunk"][0]
        self.assertEqual(latest["origin_server_ts"], self.runtime.now_ms())


class LimitTests(ServiceCase):
    settings = """
appservices: [irc.yaml]
rate_limits: {enabled: true, message: {per_second: 0.01, burst: 1}}
"""

    async def send_three(self, user: str | None) -> list[int]:
        room = (await self.run_service("POST", f"{V3}/createRoom", {}, user=user, expect=200)).json["room_id"]
        path = f"{V3}/rooms/{quote(room)}/send/m.room.message"
        body = {"body": "x", "msgtype": "m.text"}
        return [(await self.run_service("PUT", f"{path}/{n}", body, user=user)).status for n in range(3)]

    async def test_neither_it_nor_its_users_are_limited_when_it_says_so(self) -> None:
        await self.make_ann()
        self.assertEqual(await self.send_three(ANN), [200, 200, 200])
        self.assertEqual(await self.send_three(None), [200, 200, 200])


class LimitedTests(LimitTests):
    rate_limited = "true"

    async def test_neither_it_nor_its_users_are_limited_when_it_says_so(self) -> None:
        """Here its users are; it itself never is."""
        await self.make_ann()
        self.assertEqual(await self.send_three(ANN), [200, 429, 429])
        self.assertEqual(await self.send_three(None), [200, 200, 200])


class PingTests(ServiceCase):
    async def ping(self, path: str = PING, token: str = AS_TOKEN) -> tuple[int, str | None]:
        reply = await self.request("POST", path, {"transaction_id": "t"}, token)
        return reply.status, reply.json.get("errcode")

    async def test_what_is_well(self) -> None:
        reply = await self.run_service("POST", PING, {"transaction_id": "t"}, expect=200)
        self.assertEqual(reply.json, {"duration_ms": 0})
        self.assertEqual(self.service.asked, [Asked("POST", "/_matrix/app/v1/ping", {}, {"transaction_id": "t"})])
        await self.run_service("POST", PING, {}, expect=200)
        self.assertEqual(self.service.asked[-1].body, {})

    async def test_what_is_wrong_is_said(self) -> None:
        alice = await self.register("alice")
        self.assertEqual(await self.ping(token=alice.token), (403, "M_FORBIDDEN"))
        self.assertEqual(await self.ping(PING.replace("irc", "other")), (403, "M_FORBIDDEN"))
        reply = await self.run_service("POST", PING, {"transaction_id": 5})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))

        def refuse(asked: Asked) -> Say:
            return 403, {"errcode": "M_FORBIDDEN"}

        self.service.answer = refuse
        reply = await self.run_service("POST", PING, {})
        self.assertEqual((reply.status, reply.json["errcode"], reply.json["status"]), (502, "M_BAD_STATUS", 403))
        self.assertEqual(reply.json["body"], '{"errcode":"M_FORBIDDEN"}')
        await self.service.stop()
        self.assertEqual(await self.ping(), (502, "M_CONNECTION_FAILED"))

    async def test_one_that_is_too_slow(self) -> None:
        class Slow:
            async def ask(self, *args: object, **kwargs: object) -> tuple[int, bytes]:
                raise TooLate("10 seconds")

        registered = self.app.base
        calls = Calls(registered.runtime, Slow())
        service = parse((self.folder / "irc.yaml").read_text(), "irc.yaml")
        ping = Ping(AppServices([service], "parley.test", registered.db, self.runtime), calls, self.runtime, print)
        with self.assertRaises(MatrixError) as caught:
            await ping.ping("irc", "irc", None)
        self.assertEqual((caught.exception.status, caught.exception.errcode), (504, "M_CONNECTION_TIMEOUT"))

    async def test_it_ends_the_waiting(self) -> None:
        alice = await self.register("alice")
        await self.service.stop()
        await self.create_room(alice, invite=[BOT])
        await self.until(lambda: "parley_appservices_failing 1" in self.app.base.metrics.text().decode())
        for _ in range(5):
            self.clock.advance(300.0)
            await self.settle(0.01)
        self.service.start()
        await self.nothing_more()
        self.assertEqual(self.service.taken, {})
        await self.run_service("POST", PING, {}, expect=200)
        await self.until(lambda: self.service.taken)


class SilentTests(ServiceCase):
    has_url = False

    async def test_one_without_an_address_is_left_alone(self) -> None:
        reply = await self.run_service("POST", PING, {})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_URL_NOT_SET"))
        alice = await self.register("alice")
        await self.create_room(alice, invite=[BOT])
        await self.request("GET", ROOM_OF_ALIAS, token=alice, expect=404)
        await self.request("GET", f"{V3}/thirdparty/protocol/irc", token=alice, expect=404)
        await self.nothing_more()
        self.assertEqual(self.service.asked, [])
