# SPDX-License-Identifier: Apache-2.0
"""The client API over a WebSocket, through a real socket."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint

from homeserver.http.listen import Site
from tests.harness.server import HomeserverCase, Session

PATH = "/_parley/websocket/v1"


class Client(WebSocketClientProtocol):
    """Collects what the server sends."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: DeferredQueue[dict[str, Any]] = DeferredQueue()
        self.opened: Deferred[None] = Deferred()
        self.closed: Deferred[int] = Deferred()

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.frames.put(orjson.loads(payload))

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.closed.callback(code)

    def say(self, **frame: Any) -> None:
        self.sendMessage(orjson.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        return await self.frames.get()


class WebSocketTest(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")
        self.room = await self.create_room(self.alice, preset="public_chat")
        await self.join(self.bob, self.room)
        self.site = Site(self.dispatcher, self.runtime)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)
        self.clients: list[Client] = []
        self.addCleanup(self.close)

    async def close(self) -> None:
        for client in self.clients:
            client.dropConnection(abort=True)
            await client.closed
        await self.settle(0.01)

    async def connect(self) -> Client:
        port = self.port.getHost().port
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}{PATH}")
        factory.protocol = Client
        factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
        client = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        self.clients.append(client)
        await client.opened
        return client

    async def enter(self, user: Session) -> Client:
        client = await self.connect()
        client.say(type="authenticate", token=user.token)
        ready = await client.hear()
        self.assertEqual((ready["type"], ready["user_id"]), ("ready", user.user_id))
        return client

    async def test_calls_are_answered_under_their_id(self) -> None:
        client = await self.enter(self.alice)
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/send/m.room.message/t1"
        client.say(type="call", id=7, method="PUT", path=path, body={"msgtype": "m.text", "body": "hi"})
        answer = await client.hear()
        self.assertEqual((answer["type"], answer["id"], answer["status"]), ("answer", 7, 200))
        client.say(type="call", id="x", path="/_matrix/client/v3/nothing")
        answer = await client.hear()
        self.assertEqual((answer["id"], answer["status"], answer["body"]["errcode"]), ("x", 404, "M_UNRECOGNIZED"))

    async def test_sync_is_pushed_and_goes_on_when_acknowledged(self) -> None:
        client = await self.enter(self.bob)
        client.say(type="sync", query={})
        frame = await client.hear()
        self.assertIn(self.room, frame["body"]["rooms"]["join"])
        client.say(type="ack", token=frame["body"]["next_batch"])
        await self.settle(0.02)
        await self.send(self.alice, self.room, "news")
        frame = await client.hear()
        (event,) = frame["body"]["rooms"]["join"][self.room]["timeline"]["events"]
        self.assertEqual(event["content"]["body"], "news")
        # Nothing more comes until this is acknowledged, and nothing is lost by that.
        for text in ("one", "two"):
            await self.send(self.alice, self.room, text)
        await self.settle(0.02)
        self.assertEqual(client.frames.pending, [])
        client.say(type="ack", token=frame["body"]["next_batch"])
        frame = await client.hear()
        events = frame["body"]["rooms"]["join"][self.room]["timeline"]["events"]
        self.assertEqual([event["content"]["body"] for event in events], ["one", "two"])

    async def test_a_dropped_connection_is_taken_up_by_its_token(self) -> None:
        client = await self.enter(self.bob)
        client.say(type="sync", query={})
        token = (await client.hear())["body"]["next_batch"]
        client.dropConnection(abort=True)
        await self.send(self.alice, self.room, "meanwhile")
        client = await self.enter(self.bob)
        client.say(type="sync", query={"since": token})
        frame = await client.hear()
        (event,) = frame["body"]["rooms"]["join"][self.room]["timeline"]["events"]
        self.assertEqual(event["content"]["body"], "meanwhile")

    async def test_sliding_sync_on_a_socket(self) -> None:
        client = await self.enter(self.bob)
        config = {"timeline_limit": 1, "required_state": {}, "range": [0, 9]}
        client.say(type="sync", body={"lists": {"all": config}, "extensions": {"typing": {"enabled": True}}})
        frame = await client.hear()
        self.assertTrue(frame["body"]["rooms"][self.room]["initial"])
        client.say(type="ack", token=frame["body"]["pos"])
        await self.settle(0.02)
        path = f"/_matrix/client/v3/rooms/{quote(self.room)}/typing/{quote(self.alice.user_id)}"
        await self.request("PUT", path, {"typing": True, "timeout": 9000}, self.alice, expect=200)
        frame = await client.hear()
        self.assertIn(self.room, frame["body"]["extensions"]["typing"]["rooms"])

    async def test_who_does_not_authenticate_is_shut_out(self) -> None:
        client = await self.connect()
        client.say(type="call", id=1, path="/_matrix/client/versions")
        self.assertEqual(await client.closed, 4401)
        client.closed = Deferred()
        client.closed.callback(0)
        wrong = await self.connect()
        wrong.say(type="authenticate", token="nonsense")
        self.assertEqual((await wrong.hear())["body"]["errcode"], "M_UNKNOWN_TOKEN")
        self.assertEqual(await wrong.closed, 4401)
        wrong.closed = Deferred()
        wrong.closed.callback(0)

    async def test_wrong_frames_get_errors(self) -> None:
        client = await self.enter(self.alice)
        client.say(type="dance")
        self.assertEqual((await client.hear())["body"]["errcode"], "M_UNRECOGNIZED")
        client.say(type="call", id=[1], path=5)
        self.assertEqual((await client.hear())["body"]["errcode"], "M_BAD_JSON")
        client.say(type="ack", token="s1_1")
        self.assertEqual((await client.hear())["body"]["errcode"], "M_BAD_JSON")
        client.say(type="sync", query={"since": "nonsense"})
        frame = await client.hear()
        self.assertEqual((frame["type"], frame["status"]), ("sync", 400))

    async def test_a_token_that_ends_closes_the_socket(self) -> None:
        client = await self.enter(self.bob)
        await self.request("POST", "/_matrix/client/v3/logout", {}, self.bob, expect=200)
        client.say(type="sync", query={})
        self.assertEqual((await client.hear())["status"], 401)
        self.assertEqual(await client.closed, 4401)
        client.closed = Deferred()
        client.closed.callback(0)
