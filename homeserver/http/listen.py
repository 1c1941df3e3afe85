# SPDX-License-Identifier: Apache-2.0
"""Twisted's HTTP server, trimmed: a socket's bytes to an Incoming, a Reply to one write."""

import logging
import re
import tempfile
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.tcp import Server
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web import http

from homeserver.http.dispatch import Dispatcher, error_reply
from homeserver.http.endpoint import Stream
from homeserver.http.incoming import Incoming, Reply
from homeserver.http.wire import Wire
from homeserver.protocol.errors import too_large
from homeserver.runtime import Runtime

if TYPE_CHECKING:
    from homeserver.http.websocket import WebSockets

_log = logging.getLogger(__name__)

WEBSOCKET = b"/_parley/websocket/v1"
IN_MEMORY = 100_000
PIECE = 64 * 1024
IDLE_SECONDS = 75.0
# How long one request may take to arrive; 50 MB then need 57 kB a second.
ARRIVAL_SECONDS = 900.0
ABORT_SECONDS = 15.0
SWEEP_SECONDS = 5.0
HEADER_BYTES = 32 * 1024
# How much of a refused body is read on, so that the client gets to see the answer.
DISCARDED = 8 << 20


# A request line of the plainest kind.
PLAIN_LINE = re.compile(rb"(GET|PUT|POST|DELETE|OPTIONS|HEAD) (/[!-~]*) HTTP/1\.1")
# Headers that say nothing about where a request ends, as clients write them.
PLAIN = {
    form: name
    for name in (
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "cache-control",
        "content-type",
        "cookie",
        "host",
        "origin",
        "pragma",
        "referer",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "user-agent",
        "x-forwarded-for",
    )
    for form in (name.encode(), name.title().encode())
}
CONTENT_LENGTH = (b"Content-Length", b"content-length")
CONNECTION = (b"Connection", b"connection")


class Request(http.Request):
    """One request on a connection; reads its body into memory or, when it is long, into a temporary file."""

    channel: "Channel"
    content: BinaryIO
    size = 0
    limit = IN_MEMORY
    running: Deferred[None] | None = None
    fields: dict[str, bytes]
    incoming: Incoming | None = None

    def __init__(self, channel: "Channel", queued: object = False) -> None:
        super().__init__(channel)
        self.fields = {}

    def parseCookies(self) -> None:
        """The Matrix API knows no cookies."""

    def gotLength(self, length: int | None) -> None:
        if length is not None and length <= IN_MEMORY:
            self.content = BytesIO()
            return
        channel = self.channel
        path = channel._path.partition(b"?")[0].decode("ascii", "replace")
        self.limit = channel.site.dispatcher.body_limit(channel._command.decode("ascii", "replace"), path)
        self.content = cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY, dir=channel.site.spool))
        if length is not None and length > self.limit:
            self._refuse(length)

    def handleContentChunk(self, data: bytes) -> None:
        self.size += len(data)
        if self.size <= self.limit:
            self.content.write(data)
        elif not self.startedWriting:
            self._refuse(None)
        elif self.size > self.limit + DISCARDED:
            self.channel.loseConnection()

    def _refuse(self, length: int | None) -> None:
        """Answer 413 before the body has come, and close the connection when it has, or when it is far too much."""
        self.startedWriting = 1
        self.limit = 0
        self.channel.persistent = 0
        self.channel.site.write(self, error_reply(too_large("The body of this request is too large")), False)
        if length is None or length > DISCARDED:
            self.channel.loseConnection()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self.startedWriting:
            self.finished = 1
            self._cleanup()
            return
        self.method = command
        self.uri = path
        self.clientproto = version
        raw_path, _, query = path.partition(b"?")
        self.content.seek(0)
        site = self.channel.site
        if raw_path == WEBSOCKET and (self.header("upgrade") or "").lower() == "websocket":
            return self._become_websocket(site)
        self.incoming = Incoming(
            command.decode("ascii", "replace"),
            raw_path.decode("ascii", "backslashreplace"),
            query,
            self.header,
            site.client_ip(self),
            self.content,
            self.size,
        )
        site.in_flight.add(self)
        self.running = Deferred.fromCoroutine(self._answer(site, self.incoming))
        self.running.addErrback(self._failed)

    def _become_websocket(self, site: "Site") -> None:
        """Hand the connection over to a WebSocket, which reads the head of this request again."""
        channel = self.channel
        transport: Any = channel.transport
        channel.transport = None
        site.channels.discard(channel)
        transport.unregisterProducer()
        fields = [(name.encode("ascii"), value) for name, value in self.fields.items()]
        fields += [(name, b",".join(values)) for name, values in self.requestHeaders.getAllRawHeaders()]
        lines = [b"%b %b HTTP/1.1" % (self.method, self.uri), *(b"%b: %b" % field for field in fields), b"", b""]
        socket = site.websockets.socket(site.client_ip(self))
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = socket
        else:
            transport.protocol = socket
        socket.take_over(transport, b"\r\n".join(lines))

    async def _answer(self, site: "Site", incoming: Incoming) -> None:
        try:
            reply = await site.dispatcher.respond(incoming)
        except CancelledError:
            reply = None
        finally:
            site.in_flight.discard(self)
        if self._disconnected or reply is None:
            return _close(reply)
        channel = self.channel
        self.startedWriting = 1
        if isinstance(reply.body, Stream) and self.method != b"HEAD":
            site.write(self, reply, bool(channel.persistent))
            self.registerProducer(Sender(self, reply.body), False)
        else:
            site.write(self, reply, bool(channel.persistent))
            _close(reply)
            self.end()

    def _failed(self, failure: Failure) -> None:
        _log.error("an answer could not be sent", exc_info=failure.value)
        if not self._disconnected:
            self.channel.loseConnection()

    def header(self, name: str) -> str | None:
        """The last value of a header, by its lower-case name."""
        value = self.fields.get(name)
        if value is None:
            values = self.requestHeaders.getRawHeaders(name.encode("ascii"))
            value = values[-1] if values else None
        return value.decode("latin-1") if value is not None else None

    def end(self) -> None:
        """The answer is out; let the connection go on."""
        if not self._disconnected:
            self.finished = 1
            self._cleanup()

    def connectionLost(self, reason: Failure) -> None:
        self._disconnected = True
        del self.channel
        if self.running is None and self.size:
            self.content.close()
        if self.incoming is not None and self.incoming.waits and self.running is not None:
            self.running.cancel()


class Sender:
    """Sends a file a piece at a time, as fast as the connection takes it."""

    def __init__(self, request: Request, stream: Stream) -> None:
        self._request = request
        self._file = stream.file
        self._left = stream.length

    def resumeProducing(self) -> None:
        piece = self._file.read(min(PIECE, self._left))
        self._left -= len(piece)
        if piece:
            self._request.channel.write(piece)
        if not piece and self._left:
            # The length is promised already: only a broken connection can tell the client.
            self._request.channel.persistent = 0
        if not piece or not self._left:
            self._file.close()
            self._request.unregisterProducer()
            self._request.end()

    def stopProducing(self) -> None:
        self._file.close()


class Channel(http.HTTPChannel):
    """One connection."""

    requestFactory: type[http.Request] = Request
    _receivedHeaderCount: int
    totalHeadersSize = HEADER_BYTES
    maxHeaders = 100
    site: "Site"
    last = 0.0
    begun = 0.0
    _host: IAddress | None = None
    _path: bytes
    _command: bytes

    def headerReceived(self, line: bytes) -> bool:
        """Keep the usual headers in a plain dict, under the checks that the others get from Twisted."""
        name, colon, value = line.partition(b":")
        known = PLAIN.get(name)
        if known is None or not colon:
            return bool(super().headerReceived(line))
        value = value.strip(b" \t")
        self._receivedHeaderCount += 1
        if self._receivedHeaderCount > self.maxHeaders or len(value.translate(None, b"\0\r\n")) != len(value):
            self._respondToBadRequestAndDisconnect()
            return False
        self.requests[-1].fields[known] = value
        return True

    def getHost(self) -> IAddress:
        """This end's address; asked for with each request, and always the same."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def dataReceived(self, data: bytes) -> None:
        self.last = self.site.now()
        self.begun = self.begun or self.last
        if self.requests or self._buffer or not self.line_mode or not self._take_plain(data):
            super().dataReceived(data)

    def _take_plain(self, data: bytes) -> bool:
        """Take a whole request of the plainest kind at once; everything else is left to Twisted, line by line.

        Plain is: the usual headers, none twice, no control characters, and a body of exactly the announced length.
        """
        head, end, body = data.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        first = PLAIN_LINE.fullmatch(line)
        if not first or not end or len(head) > HEADER_BYTES or not self.persistent:
            return False
        fields: dict[str, bytes] = {}
        length: bytes | None = None
        for one in lines:
            name, colon, value = one.partition(b":")
            known = PLAIN.get(name)
            value = value.strip(b" \t")
            if known is not None and colon and known not in fields:
                fields[known] = value
            elif name in CONTENT_LENGTH and length is None:
                length = value
            elif name not in CONNECTION or value.lower() != b"keep-alive":
                return False
        # What is left of CR, LF and NUL must be the line ends.
        if len(head) - len(head.translate(None, b"\r\n\0")) != 2 * len(lines):
            return False
        length = b"0" if length is None else length
        if not length.isdigit() or int(length) != len(body) or len(body) > IN_MEMORY:
            return False
        request = Request(self)
        request.fields, request.content, request.size = fields, BytesIO(body), len(body)
        self.requests.append(request)
        self._handlingRequest = True
        self.setRawMode()
        request.requestReceived(first[1], first[2], b"HTTP/1.1")
        return True

    def requestDone(self, request: Request) -> None:
        self.last = self.site.now()
        self.begun = 0.0
        super().requestDone(request)

    def send(self, data: bytes) -> None:
        """Write at once when nothing waits to be written, without a turn of the reactor in between."""
        transport = self.transport
        if isinstance(transport, Server) and not (transport.dataBuffer or transport._tempDataBuffer):
            sent = transport.writeSomeData(data)
            if isinstance(sent, int) and 0 <= sent < len(data):
                transport.write(data[sent:])
            elif not isinstance(sent, int):
                transport.write(data)
        else:
            self.write(data)

    def connectionMade(self) -> None:
        self.site.opened(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.site.channels.discard(self)
        super().connectionLost(reason)


class Site(protocol.ServerFactory):
    """The connections of one listener.

    `behind_proxy` trusts the last address of X-Forwarded-For; `spool` is the folder of long bodies. `in_flight` are the
    requests that are not answered yet.
    """

    noisy = False

    def __init__(
        self, dispatcher: Dispatcher, runtime: Runtime, *, behind_proxy: bool = False, spool: str | None = None
    ) -> None:
        self.dispatcher = dispatcher
        self.spool = spool
        self.channels: set[Channel] = set()
        self.in_flight: set[Request] = set()
        self._runtime = runtime
        self._behind_proxy = behind_proxy
        self._wire = Wire()
        self._sweeping = False
        self._websockets: WebSockets | None = None

    @property
    def websockets(self) -> "WebSockets":
        """Who speaks with WebSockets. Autobahn is imported when the first client asks: it is a tenth of the memory."""
        if self._websockets is None:
            from homeserver.http.websocket import WebSockets

            self._websockets = WebSockets(self.dispatcher, self._runtime)
        return self._websockets

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        channel = Channel()
        channel.site = self
        # Twisted's own time-out makes and cancels a timer for each request; `_sweep` looks every few seconds.
        channel.timeOut = None
        return channel

    def now(self) -> float:
        return self._runtime.monotonic()

    def opened(self, channel: Channel) -> None:
        """Count a new connection in."""
        channel.last = self.now()
        self.channels.add(channel)
        if not self._sweeping:
            self._sweeping = True
            self._runtime.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close connections that bring nothing for too long, or whose request does not end; none that waits for us."""
        now = self.now()
        for channel in list(self.channels):
            if channel._handlingRequest:
                continue
            silent = now - channel.last
            if silent > IDLE_SECONDS or (channel.begun and now - channel.begun > ARRIVAL_SECONDS):
                channel.loseConnection()
            if silent > IDLE_SECONDS + ABORT_SECONDS and isinstance(channel.transport, Server):
                channel.transport.abortConnection()
        self._sweeping = bool(self.channels)
        if self._sweeping:
            self._runtime.call_later(SWEEP_SECONDS, self._sweep)

    def client_ip(self, request: Request) -> str:
        """The address a request comes from."""
        if self._behind_proxy and (forwarded := request.header("x-forwarded-for")):
            return forwarded.rpartition(",")[2].strip()
        return str(getattr(request.client, "host", "local"))

    def write(self, request: Request, reply: Reply, keep: bool) -> None:
        """Send the head and, unless it is a file or nobody wants it, the body."""
        body = reply.body
        length = body.length if isinstance(body, Stream) else len(body)
        head = self._wire.head(reply, length, self._runtime.now_ms() / 1000, keep)
        if isinstance(body, Stream) or request.method == b"HEAD":
            request.channel.write(head)
        elif length < PIECE:
            request.channel.send(head + body)
        else:
            request.channel.writeSequence([head, body])

    def close_idle(self) -> None:
        """End every connection on which no request is being answered, and every long poll."""
        if self._websockets is not None:
            self._websockets.close_all()
        for channel in list(self.channels):
            waiting = [r for r in channel.requests if r.incoming is None or not r.incoming.waits]
            if not waiting:
                channel.loseConnection()
            else:
                channel.persistent = 0


def _close(reply: Reply | None) -> None:
    if reply is not None and isinstance(reply.body, Stream):
        reply.body.file.close()
