# SPDX-License-Identifier: Apache-2.0
"""How this server asks another one: resolved, signed, within limits, with the answer read as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, urlencode

from federation import x_matrix
from federation.outbound.resolver import Resolver
from federation.outbound.transport import Response, Target, Transport, Unreachable
from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.signing import Signer
from homeserver.services.ports import RemoteFailure

SECONDS = 30.0
LARGEST = 16 << 20

Query = Sequence[tuple[str, str]]


class Refused(RemoteFailure):
    """The other server answered with an error; `body` is its JSON, {} where there is none."""

    def __init__(self, server: str, status: int, body: Mapping[str, Any]) -> None:
        message = body.get("error")
        super().__init__(f"{server} answered {status}: {message if isinstance(message, str) else 'no reason given'}")
        self.status = status
        self.body = body
        code = body.get("errcode")
        self.errcode = code if isinstance(code, str) else "M_UNKNOWN"
        self.message = message if isinstance(message, str) else "The other server refused"

    def shown(self) -> MatrixError:
        """The error as a client may see it."""
        known = {key: self.body[key] for key in ("room_version",) if key in self.body}
        return MatrixError(self.status if 400 <= self.status < 500 else 502, self.errcode, self.message[:500], **known)


class Standing(Protocol):
    """What is known of how other servers do."""

    def allows(self, server: str) -> bool:
        """Whether it may be asked now: it is not being left alone after failures, nor shut out."""

    def permitted(self, server: str) -> bool:
        """Whether this server talks with it at all."""

    def succeeded(self, server: str) -> None: ...
    def failed(self, server: str, reason: str = "") -> None: ...


class Client:
    """Requests to servers by name."""

    def __init__(self, signer: Signer, resolver: Resolver, transport: Transport, standing: Standing) -> None:
        self._signer = signer
        self._resolver = resolver
        self._transport = transport
        self._standing = standing

    async def get(self, server: str, path: str, query: Query = (), **limits: Any) -> Any:
        """The JSON that a GET is answered with; see `call`."""
        return await self.call(server, "GET", path, query, None, **limits)

    async def call(
        self,
        server: str,
        method: str,
        path: str,
        query: Query = (),
        body: object | None = None,
        *,
        encoded: bytes | None = None,
        seconds: float = SECONDS,
        largest: int = LARGEST,
        insists: bool = False,
        signs: bool = True,
    ) -> Any:
        """The JSON of a 200. Raises Refused and Unreachable.

        `encoded` is the body as canonical JSON where the caller has it; `insists` asks also a server that failed
        lately; without `signs` nothing says who asks.
        """
        self._check(server, insists)
        uri = path + ("?" + urlencode(query, quote_via=quote) if query else "")
        content = encoded if encoded is not None else None if body is None else canonical_json.encode(body)
        headers = {"accept": "application/json"}
        if content is not None:
            headers["content-type"] = "application/json"
        if signs:
            headers["authorization"] = self._authorization(server, method, uri, content)
        try:
            response = await self._try(server, method, uri, headers, content, seconds, largest)
        except Unreachable as error:
            self._standing.failed(server, error.reason)
            raise
        return self._read(server, response)

    async def download(
        self, server: str, path: str, query: Query, file: BinaryIO, *, seconds: float, largest: int
    ) -> Response:
        """A GET whose body goes into a file; the answer's status and headers. Raises Unreachable."""
        self._check(server, False)
        uri = path + ("?" + urlencode(query, quote_via=quote) if query else "")
        headers = {"authorization": self._authorization(server, "GET", uri, None)}
        resolved = await self._resolver.resolve(server)
        return await self._transport.download(resolved.targets[0], uri, headers, file, timeout=seconds, largest=largest)

    def _check(self, server: str, insists: bool) -> None:
        if server == self._signer.server_name:
            raise Unreachable("that is this server")
        if not self._standing.permitted(server):
            raise Unreachable(f"this server does not talk with {server}")
        if not insists and not self._standing.allows(server):
            raise Unreachable(f"{server} did not answer lately")

    def _authorization(self, server: str, method: str, uri: str, content: bytes | None) -> str:
        value = None if content is None else canonical_json.decode(content, strict=False)
        return x_matrix.header(self._signer, method, uri, server, value, has_content=content is not None)

    async def _try(
        self,
        server: str,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        content: bytes | None,
        seconds: float,
        largest: int,
    ) -> Response:
        resolved = await self._resolver.resolve(server)
        failure = Unreachable(f"{server} has no address")
        for target in resolved.targets[:4]:
            try:
                return await self._ask(target, method, uri, headers, content, seconds, largest)
            except Unreachable as error:
                failure = error
        raise failure

    async def _ask(
        self,
        target: Target,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        content: bytes | None,
        seconds: float,
        largest: int,
    ) -> Response:
        try:
            return await self._transport.request(
                target, method, uri, headers, content, timeout=seconds, largest=largest
            )
        except Unreachable as error:
            if not error.broken:
                raise
        # Requests between servers may be repeated; the next one gets a connection of its own.
        return await self._transport.request(target, method, uri, headers, content, timeout=seconds, largest=largest)

    def _read(self, server: str, response: Response) -> Any:
        try:
            value = canonical_json.decode(response.body, strict=False) if response.body else {}
        except MatrixError:
            value = None
        if response.status == 200:
            if value is None:
                self._standing.failed(server)
                raise Unreachable(f"{server} did not answer with JSON")
            self._standing.succeeded(server)
            return value
        if response.status >= 500 or response.status == 429 or value is None:
            self._standing.failed(server, f"it answered with status {response.status}")
        else:
            self._standing.succeeded(server)
        raise Refused(server, response.status, value if isinstance(value, dict) else {})


def segment(value: str) -> str:
    """A value as one segment of a path."""
    return quote(value, safe="")
