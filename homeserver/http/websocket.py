# SPDX-License-Identifier: Apache-2.0
"""Knows how the client API is spoken over a WebSocket: calls, their answers, and sync pushed as the client takes it.

`docs/reference/websocket.md` describes the frames for those who write clients.
"""

from __future__ import annotations

import logging
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import orjson
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from homeserver.http.dispatch import Dispatcher
from homeserver.http.endpoint import Stream
from homeserver.http.incoming import Incoming, Reply
from homeserver.runtime import Runtime

_log = logging.getLogger(__name__)

VERSION = 1
MOST_CALLS = 50
LARGEST_FRAME = 1 << 20
AUTHENTICATION_SECONDS = 10.0
PING_SECONDS = 30
PONG_SECONDS = 60
WAIT_MS = 300_000

NOT_ALLOWED = 4401
BAD_FRAME = 4400

Frame = dict[str, Any]


class WebSockets(WebSocketServerFactory):
    """The open WebSockets of one listener."""

    def __init__(self, dispatcher: Dispatcher, runtime: Runtime) -> None:
        super().__init__(reactor=runtime.reactor, server="Parley")
        self.dispatcher = dispatcher
        self.runtime = runtime
        self.open: set[Socket] = set()
        self.setProtocolOptions(
            webStatus=False,
            maxFramePayloadSize=LARGEST_FRAME,
            maxMessagePayloadSize=LARGEST_FRAME,
            autoPingInterval=PING_SECONDS,
            autoPingTimeout=PONG_SECONDS,
            openHandshakeTimeout=AUTHENTICATION_SECONDS,
            closeHandshakeTimeout=5,
            tcpNoDelay=True,
        )

    def socket(self, client_ip: str) -> Socket:
        """A socket for a connection that becomes a WebSocket; `take_over` begins it."""
        socket = Socket(self, client_ip)
        socket.factory = self
        return socket

    def close_all(self) -> None:
        """The server stops: clients come back to another one, or to this one later."""
        for socket in list(self.open):
            socket.sendClose(1001, "the server is going away")


class Socket(WebSocketServerProtocol):
    """One client on one WebSocket.

    States: it is connected, then authenticated by its first frame, then closed. A call is answered under its id; one
    sync at a time runs, and the next begins when the client has acknowledged the answer before, so that a client that
    reads slowly is never sent more than it takes.
    """

    transport: Any

    def __init__(self, sockets: WebSockets, client_ip: str) -> None:
        super().__init__()
        self._sockets = sockets
        self._client_ip = client_ip
        self._token: str | None = None
        self._running: set[Deferred[None]] = set()
        self._calls = 0
        self._sync: Deferred[None] | None = None
        self._asked: Frame = {}
        self._deadline: Any = None
        self._authenticating = False

    def take_over(self, transport: Any, head: bytes) -> None:
        """Begin on a connection; `head` is the request that asked for the WebSocket, as it would be on the wire."""
        self.makeConnection(transport)
        self.dataReceived(head)

    # Autobahn's events

    def onOpen(self) -> None:
        self._sockets.open.add(self)
        self._deadline = self._sockets.runtime.call_later(AUTHENTICATION_SECONDS, self._too_late)
        self.transport.registerProducer(self, True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        frame = _parse(payload)
        if frame is None:
            self.sendClose(BAD_FRAME, "a frame must be a JSON object with a type")
        elif self._token is None:
            self._authenticate(frame)
        else:
            self._take(frame)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._sockets.open.discard(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._stop_sync()
        for running in list(self._running):
            running.cancel()

    # The transport's back-pressure: a client that does not read is not read either

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost; `onClose` follows."""

    # Frames

    def _authenticate(self, frame: Frame) -> None:
        token = frame.get("token")
        if frame["type"] != "authenticate" or not isinstance(token, str) or self._authenticating:
            self.sendClose(NOT_ALLOWED, "the first frame must authenticate")
            return
        self._authenticating = True
        self._start(self._check(token))

    async def _check(self, token: str) -> None:
        reply = await self._respond("GET", "/_matrix/client/v3/account/whoami", b"", b"", token)
        body = _body(reply)
        if reply.status != 200:
            self._tell({"type": "error", "status": reply.status, "body": body})
            self.sendClose(NOT_ALLOWED, "the token is not good")
            return
        self._token = token
        if self._deadline.active():
            self._deadline.cancel()
        who = orjson.loads(orjson.dumps(body))
        self._tell({"type": "ready", "version": VERSION, **who})

    def _too_late(self) -> None:
        self.sendClose(NOT_ALLOWED, "no token came")

    def _take(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "call":
            self._call(frame)
        elif kind == "sync":
            self._begin_sync(frame)
        elif kind == "ack":
            self._go_on(frame)
        elif kind == "stop":
            self._stop_sync()
        else:
            self._tell({"type": "error", "status": 400, "body": _error("M_UNRECOGNIZED", "There is no such frame")})

    def _call(self, frame: Frame) -> None:
        number, method, path = frame.get("id"), frame.get("method", "GET"), frame.get("path")
        if not isinstance(number, int | str) or not isinstance(method, str) or not isinstance(path, str):
            self._tell({"type": "error", "status": 400, "body": _error("M_BAD_JSON", "A call has id, method and path")})
        elif self._calls >= MOST_CALLS:
            wait = _error("M_LIMIT_EXCEEDED", "Too many calls at once") | {"retry_after_ms": 1000}
            self._tell({"type": "answer", "id": number, "status": 429, "body": wait})
        else:
            self._calls += 1
            self._start(self._answer(number, method, path, frame.get("body")))

    async def _answer(self, number: int | str, method: str, path: str, body: object) -> None:
        raw_path, _, query = path.partition("?")
        content = b"" if body is None else orjson.dumps(body)
        try:
            reply = await self._respond(method, raw_path, query.encode(), content, self._token or "")
            self._tell({"type": "answer", "id": number, "status": reply.status, "body": _body(reply)})
        finally:
            self._calls -= 1

    # Sync

    def _begin_sync(self, frame: Frame) -> None:
        self._asked = {"query": _object(frame.get("query")), "body": frame.get("body")}
        self._poll()

    def _go_on(self, frame: Frame) -> None:
        """The client has the answer with this token: make the next one."""
        token = frame.get("token")
        if not isinstance(token, str) or not self._asked:
            self._tell({"type": "error", "status": 400, "body": _error("M_BAD_JSON", "Nothing can be acknowledged")})
            return
        if self._asked["body"] is None:
            self._asked["query"] = {**self._asked["query"], "since": token}
        else:
            wanted = frame.get("body", self._asked["body"])
            self._asked["body"] = {**_object(wanted), "pos": token}
        self._poll()

    def _poll(self) -> None:
        self._stop_sync()
        self._sync = self._start(self._next_answer())

    async def _next_answer(self) -> None:
        token, body = self._token or "", self._asked["body"]
        if body is None:
            query = urlencode({"timeout": WAIT_MS, **self._asked["query"]}).encode()
            reply = await self._respond("GET", "/_matrix/client/v3/sync", query, b"", token)
        else:
            content = orjson.dumps({"timeout": WAIT_MS, **_object(body)})
            reply = await self._respond("POST", "/_matrix/client/v4/sync", b"", content, token)
        self._tell({"type": "sync", "status": reply.status, "body": _body(reply)})
        if reply.status == 401:
            self.sendClose(NOT_ALLOWED, "the token is not good any more")

    def _stop_sync(self) -> None:
        running, self._sync = self._sync, None
        if running is not None:
            running.cancel()

    # Inside

    def _start(self, work: Any) -> Deferred[None]:
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._running.add(running)
        running.addErrback(_complain)
        running.addBoth(lambda _: self._running.discard(running))
        return running

    async def _respond(self, method: str, path: str, query: bytes, content: bytes, token: str) -> Reply:
        fields = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        incoming = Incoming(method, path, query, fields.get, self._client_ip, BytesIO(content), len(content))
        return await self._sockets.dispatcher.respond(incoming)

    def _tell(self, frame: Frame) -> None:
        if self.state == self.STATE_OPEN:
            self.sendMessage(orjson.dumps(frame), isBinary=False)


def _complain(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.error("a frame of a WebSocket could not be answered", exc_info=failure.value)


def _parse(payload: bytes) -> Frame | None:
    try:
        frame = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return frame if isinstance(frame, dict) and isinstance(frame.get("type"), str) else None


def _body(reply: Reply) -> object:
    """The body of a reply as it goes into a frame; files are for HTTP."""
    if isinstance(reply.body, Stream):
        reply.body.file.close()
        return _error("M_UNRECOGNIZED", "Files are fetched over HTTP")
    is_json = (reply.content_type or "").startswith("application/json")
    return orjson.Fragment(reply.body) if is_json and reply.body else {}


def _object(value: object) -> Frame:
    return value if isinstance(value, dict) else {}


def _error(errcode: str, message: str) -> Frame:
    return {"errcode": errcode, "error": message}
