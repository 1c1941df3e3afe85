# SPDX-License-Identifier: Apache-2.0
"""The server on a socket: keep-alive, pipelining, sizes, hang-ups."""

from io import BytesIO
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import task
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from homeserver.http.auth import ClientAuth
from homeserver.http.dispatch import Dispatcher
from homeserver.http.endpoint import Anyone, Call, Stream, Upload, endpoint
from homeserver.http.limits import Limits
from homeserver.http.listen import ARRIVAL_SECONDS, DISCARDED, IDLE_SECONDS, SWEEP_SECONDS, Site
from homeserver.http.router import Router
from homeserver.http.stats import Stats
from homeserver.runtime import Runtime
from tests.http.test_dispatch import Sessions

reactor: Any = _reactor


class Page:
    def __init__(self) -> None:
        self.parked: list[Deferred[None]] = []
        self.cancelled = 0
        self.finished = 0

    @endpoint("GET", "/hello")
    async def hello(self, caller: Anyone, call: Call) -> dict[str, object]:
        return {"n": call.query.get("n"), "ip": call.client_ip}

    @endpoint("POST", "/echo")
    async def echo(self, caller: Anyone, body: dict[str, object]) -> dict[str, object]:
        return body

    @endpoint("POST", "/upload")
    async def upload(self, caller: Anyone, body: Upload) -> dict[str, object]:
        return {"size": body.size, "read": len(body.file.read())}

    @endpoint("GET", "/file")
    async def file(self, caller: Anyone) -> Stream:
        return Stream(BytesIO(bytes(range(256)) * 2000), 512_000, "image/png", headers={"X-Own": "é"})

    @endpoint("GET", "/poll", waits=True)
    async def poll(self, caller: Anyone) -> dict[str, object]:
        return await self._park()

    @endpoint("PUT", "/write")
    async def write(self, caller: Anyone) -> dict[str, object]:
        return await self._park()

    async def _park(self) -> dict[str, object]:
        self.parked.append(Deferred())
        try:
            await self.parked[-1]
        except CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return {}


class Client(Protocol):
    """Collects what the server sends."""

    def __init__(self) -> None:
        self.received = b""
        self.closed = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True


class Listening(TestCase):
    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        self.page = Page()
        self.clock = task.Clock()
        self.clock.advance(1)
        self.behind_proxy = False
        runtime = Runtime(reactor, clock=self.clock, epoch_ms=1_790_000_000_000)
        dispatcher = Dispatcher(
            Router([self.page]),
            ClientAuth(Sessions()).kinds,
            Limits(None),
            Stats(),
            runtime.monotonic,
            max_body=200_000,
            max_upload=3_000_000,
        )
        self.site = Site(dispatcher, runtime)
        port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = port.getHost().port
        self.clients: list[Client] = []
        self.addCleanup(self._close, port)

    async def _close(self, port: Any) -> None:
        for client in self.clients:
            if not client.closed:
                client.transport.abortConnection()  # type: ignore[union-attr]
        await port.stopListening()
        await self.until(lambda: not self.site.channels)

    async def connect(self) -> Client:
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Client())
        self.clients.append(client)
        return client

    async def until(self, true: Any) -> None:
        for _ in range(2000):
            if true():
                return
            await task.deferLater(reactor, 0.005, lambda: None)
        raise AssertionError("it did not happen")

    async def talk(self, *sent: bytes, answers: int = 1) -> bytes:
        """Send and wait for that many answers."""
        client = await self.connect()
        for part in sent:
            client.transport.write(part)  # type: ignore[union-attr]
        await self.until(lambda: client.received.count(b"HTTP/1.1 ") >= answers and self.complete(client.received))
        return client.received

    def complete(self, received: bytes) -> bool:
        """Whether the last answer is whole."""
        head, found, body = received[received.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
        return bool(found) and (len(body) >= length or b"HEAD" in received[:0])

    async def test_every_answer_has_the_headers_for_browsers(self) -> None:
        for path, status in ((b"/hello", b"200 OK"), (b"/nothing", b"404 Not Found")):
            said = await self.talk(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(said.startswith(b"HTTP/1.1 " + status))
            self.assertIn(b"Access-Control-Allow-Origin: *\r\n", said)
            self.assertIn(b"Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization\r\n", said)
            self.assertIn(b"Date: Mon, 21 Sep 2026", said)

    async def test_a_preflight_has_no_body(self) -> None:
        said = await self.talk(b"OPTIONS /anything HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(said.startswith(b"HTTP/1.1 204 "))
        self.assertIn(b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n", said)
        self.assertNotIn(b"Content-Length", said)

    async def test_answers_to_pipelined_requests_keep_their_order(self) -> None:
        first = b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n"
        second = b"GET /hello?n=2 HTTP/1.1\r\nHost: x\r\n\r\n"
        client = await self.connect()
        client.transport.write(first + second)  # type: ignore[union-attr]
        await self.until(lambda: self.page.parked)
        self.assertEqual(client.received, b"")
        self.page.parked[0].callback(None)
        await self.until(lambda: b'"n":"2"' in client.received)
        self.assertLess(client.received.index(b"{}"), client.received.index(b'"n":"2"'))

    async def test_a_connection_is_kept_and_closed_as_asked(self) -> None:
        client = await self.connect()
        for n in (b"1", b"2"):
            client.transport.write(b"GET /hello?n=" + n + b" HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
            await self.until(lambda n=n: b'"n":"%s"' % n in client.received)
        self.assertFalse(client.closed)
        client.transport.write(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: client.closed)
        self.assertIn(b"Connection: close\r\n", client.received)

    async def test_an_old_client_gets_its_answer_and_the_connection_closed(self) -> None:
        said = await self.talk(b"GET /hello HTTP/1.0\r\n\r\n")
        self.assertIn(b'{"n":null', said)
        await self.until(lambda: self.clients[-1].closed)

    async def test_head_has_the_length_and_no_body(self) -> None:
        client = await self.connect()
        client.transport.write(b"HEAD /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: client.closed)
        self.assertIn(b"Content-Length: 512000\r\n", client.received)
        self.assertTrue(client.received.endswith(b"\r\n\r\n"))

    async def test_a_file_is_sent_whole(self) -> None:
        said = await self.talk(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        self.assertEqual(body, bytes(range(256)) * 2000)
        self.assertIn(b"Content-Type: image/png\r\n", head)
        self.assertIn("X-Own: é\r\n".encode(), head)

    async def test_a_body_in_chunks_is_read(self) -> None:
        said = await self.talk(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b'4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n',
        )
        self.assertTrue(said.endswith(b'{"a":1}'))

    async def test_a_long_upload_is_read_from_a_file(self) -> None:
        body = b"x" * 2_000_000
        said = await self.talk(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", body)
        self.assertTrue(said.endswith(b'{"size":2000000,"read":2000000}'))

    async def test_a_body_that_announces_too_much_is_refused_before_it_comes(self) -> None:
        for path, length in ((b"/echo", 200_001), (b"/upload", 3_000_001), (b"/echo", DISCARDED * 100)):
            said = await self.talk(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, length))
            self.assertTrue(said.startswith(b"HTTP/1.1 413 "), said[:40])
            self.assertIn(b"M_TOO_LARGE", said)

    async def test_a_body_in_chunks_is_refused_when_it_is_too_long(self) -> None:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        said = await self.talk(head, *[chunk] * 5)
        self.assertIn(b"M_TOO_LARGE", said)
        await self.until(lambda: self.clients[-1].closed)

    async def test_a_refused_body_is_answered_once(self) -> None:
        said = await self.talk(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n" + b" " * 200_001, answers=1
        )
        await self.until(lambda: self.clients[-1].closed)
        self.assertEqual(said.count(b"HTTP/1.1 "), 1)

    async def test_nonsense_is_refused(self) -> None:
        for nonsense in (
            b"nonsense\r\n\r\n",
            b"GET /hello HTTP/1.1\r\nBad Header: x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            b"GET /hello HTTP/1.1\r\nAuthorization: a\x00b\r\n\r\n",
            b"GET /hello HTTP/1.1\r\n" + b"Accept: x\r\n" * 200 + b"\r\n",
            b"GET /hello HTTP/1.1\r\nAccept: " + b"x" * 40_000 + b"\r\n\r\n",
        ):
            client = await self.connect()
            client.transport.write(nonsense)  # type: ignore[union-attr]
            await self.until(lambda client=client: client.closed)
            self.assertTrue(client.received in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"), client.received)

    async def test_a_request_is_read_alike_at_once_and_in_pieces(self) -> None:
        """At once it may take the short way; in pieces it never does."""
        lines = (b"", b"Accept: x\r\n", b"X-Other: y\r\n", b"Connection: keep-alive\r\n", b"Accept : x\r\n")
        lines += (b"accept:x\r\nAccept: y\r\n", b"Accept: a\x00b\r\n", b"Accept: a\rb\r\n")
        lines += (b" folded\r\n", b"Accept\r\n", b": x\r\n")
        lengths = (b"", b"Content-Length: 7\r\n", b"Content-Length: 6\r\n", b"Content-Length: 07\r\n")
        lengths += (b"Content-Length: 7\r\n" * 2, b"Content-Length: -7\r\n", b"content-length: 7\r\n")
        heads = (b"POST /echo HTTP/1.1\r\n", b"POST /echo HTTP/1.0\r\n", b"post /echo HTTP/1.1\r\n")
        heads += (b"POST  /echo HTTP/1.1\r\n", b"POST echo HTTP/1.1\r\n", b"POST /e\xffcho HTTP/1.1\r\n")
        requests = [heads[0] + a + b for a in lines for b in lengths] + [head + lengths[1] for head in heads]
        for request in requests:
            whole = request + b'\r\n{"a":1}'
            said = [await self._said(whole), await self._said(*(whole[i : i + 9] for i in range(0, len(whole), 9)))]
            self.assertEqual(said[0], said[1], whole)

    async def _said(self, *pieces: bytes) -> tuple[bytes, bytes]:
        """The status line and body that pieces of a request lead to; the client then hangs up."""
        transport = StringTransport()
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        for piece in pieces:
            if not transport.disconnecting:
                channel.dataReceived(piece)
        channel.connectionLost(Failure(ConnectionDone()))
        said = transport.value()
        return said.partition(b"\r\n")[0], said.rpartition(b"\r\n\r\n")[2]

    async def test_hanging_up_cancels_a_long_poll(self) -> None:
        client = await self.connect()
        client.transport.write(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: self.page.parked)
        client.transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.page.cancelled)
        await self.until(lambda: not self.site.in_flight)

    async def test_hanging_up_does_not_interrupt_a_write(self) -> None:
        client = await self.connect()
        client.transport.write(b"PUT /write HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: self.page.parked)
        client.transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: not self.site.channels)
        self.page.parked[0].callback(None)
        await self.until(lambda: not self.site.in_flight)
        self.assertEqual((self.page.finished, self.page.cancelled), (1, 0))

    async def test_an_idle_connection_is_closed_and_a_waiting_one_is_not(self) -> None:
        idle, waiting = await self.connect(), await self.connect()
        waiting.transport.write(b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: self.page.parked)
        self.clock.pump([SWEEP_SECONDS] * int(IDLE_SECONDS / SWEEP_SECONDS + 2))
        await self.until(lambda: idle.closed)
        self.assertFalse(waiting.closed)
        self.page.parked[0].callback(None)
        await self.until(lambda: b"{}" in waiting.received)

    async def test_a_request_that_never_ends_is_cut_off(self) -> None:
        client = await self.connect()
        client.transport.write(b"POST /echo HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")  # type: ignore[union-attr]
        for _ in range(int(ARRIVAL_SECONDS / 60) + 1):
            client.transport.write(b" ")  # type: ignore[union-attr]
            await task.deferLater(reactor, 0.01, lambda: None)
            self.clock.pump([SWEEP_SECONDS] * int(60 / SWEEP_SECONDS))
        await self.until(lambda: client.closed)

    async def test_stopping_closes_idle_connections_and_long_polls_but_not_writes(self) -> None:
        clients = [await self.connect() for _ in range(3)]
        for client, line in zip(clients[1:], (b"GET /poll", b"PUT /write"), strict=True):
            client.transport.write(line + b" HTTP/1.1\r\nHost: x\r\n\r\n")  # type: ignore[union-attr]
        await self.until(lambda: len(self.page.parked) == 2)
        self.site.close_idle()
        await self.until(lambda: clients[0].closed and clients[1].closed)
        self.assertFalse(clients[2].closed)
        for parked in self.page.parked:
            if not parked.called:
                parked.callback(None)
        await self.until(lambda: clients[2].closed)
        self.assertIn(b"200 OK", clients[2].received)

    async def test_a_proxy_is_believed_only_where_it_is_said(self) -> None:
        asked = b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.5, 198.51.100.7\r\n\r\n"
        self.assertIn(b'"ip":"127.0.0.1"', await self.talk(asked))
        self.site._behind_proxy = True
        self.assertIn(b'"ip":"198.51.100.7"', await self.talk(asked))
