# SPDX-License-Identifier: Apache-2.0
"""How bytes get to another server: TLS verified against the right name, addresses that may be connected to, limits."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs
from OpenSSL import SSL
from twisted.internet import defer, protocol
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IStreamClientEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from homeserver.config.model import Config
from homeserver.runtime import Runtime
from homeserver.services.egress import AddressRule, DnsServers, FilteredReactor, PermittedAddresses, WholeBody
from homeserver.services.ports import RemoteFailure

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
KEPT_CONNECTIONS = 2
KEPT_SECONDS = 30.0
CUT = (ResponseNeverReceived, RequestTransmissionFailed, ConnectionLost, ConnectionDone)
TARGETS_REMEMBERED = 5_000


class Unreachable(RemoteFailure):
    """The other server could not be asked, or did not answer with HTTP.

    `broken`: the connection was cut, as one is that was kept open while its server was restarted.
    """

    def __init__(self, reason: str, broken: bool = False) -> None:
        super().__init__(reason)
        self.broken = broken


@attrs.frozen
class Target:
    """Where to connect, which name the certificate must have, and what to say in the Host header."""

    host: str
    port: int
    tls_name: str
    host_header: str


@attrs.frozen
class Response:
    """An answer, whole. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Unverified:
    """TLS that takes any certificate, for tests of closed networks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tls_protocol: object) -> SSL.Connection:  # noqa: N802
        connection = SSL.Connection(self._context, None)
        if not is_address(self._name):
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        return connection


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Finds the target that stands behind the made-up host of a request."""

    def __init__(self, reactor: Any, rule: AddressRule, verify: bool, authorities: Any) -> None:
        self._reactor = reactor
        self._rule = rule
        self._verify = verify
        self._authorities = authorities
        self._targets: OrderedDict[bytes, Target] = OrderedDict()
        self._numbers: dict[Target, bytes] = {}
        self._next = 0

    def name(self, target: Target) -> bytes:
        """The host that stands for the target."""
        found = self._numbers.get(target)
        if found is None:
            self._next += 1
            found = self._numbers[target] = b"t%d.invalid" % self._next
            self._targets[found] = target
            while len(self._targets) > TARGETS_REMEMBERED:
                _, gone = self._targets.popitem(last=False)
                del self._numbers[gone]
        else:
            self._targets.move_to_end(found)
        return found

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802
        target = self._targets[uri.host]
        if is_address(target.host) and not self._rule.permits(target.host):
            raise Unreachable(f"{target.host} is not an address that may be connected to")
        endpoint = HostnameEndpoint(self._reactor, target.host, target.port, timeout=CONNECT_SECONDS)
        options: Any
        if self._verify:
            options = optionsForClientTLS(target.tls_name, trustRoot=self._authorities)
        else:
            options = _Unverified(target.tls_name)
        return wrapClientTLS(options, endpoint)


class _Into(protocol.Protocol):
    """Writes a body to a file, up to a size."""

    def __init__(self, file: BinaryIO, largest: int) -> None:
        self.done: defer.Deferred[int] = defer.Deferred(lambda _: self._abort())
        self._file = file
        self._largest = largest
        self._size = 0

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._size += len(data)
        if self._size <= self._largest:
            self._file.write(data)
        else:
            self._abort()

    def _abort(self) -> None:
        abort = getattr(self.transport, "abortConnection", None) or getattr(self.transport, "loseConnection", None)
        if abort is not None:
            abort()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: N802
        if self.done.called:
            return
        if self._size > self._largest:
            self.done.errback(Unreachable("the answer is too large"))
        elif isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.done.callback(self._size)
        else:
            self.done.errback(Unreachable("the answer broke off"))


class Transport:
    """HTTPS requests to targets. Redirects are not followed."""

    def __init__(self, runtime: Runtime, config: Config) -> None:
        reactor = runtime.reactor
        settings, network = config.federation, config.network
        self._clock = reactor
        self._open: set[defer.Deferred[Response]] = set()
        self._stopped = False
        rule = AddressRule(network.allow_private_addresses)
        own = cast(IHostnameResolver, DnsServers(network.dns, reactor)) if network.dns else None
        resolver = PermittedAddresses(lambda: own or reactor.nameResolver, rule)
        named = FilteredReactor(reactor, cast(IHostnameResolver, resolver))
        self._endpoints = _Endpoints(named, rule, settings.verify_certificates, authorities(settings.ca_file))
        self._pool: Any = cast(Any, HTTPConnectionPool)(reactor)
        self._pool.maxPersistentPerHost = KEPT_CONNECTIONS
        self._pool.cachedConnectionTimeout = KEPT_SECONDS
        self._pool.retryAutomatically = False
        self._agent: Any = cast(Any, Agent).usingEndpointFactory(
            reactor, cast(IAgentEndpointFactory, self._endpoints), pool=self._pool
        )

    async def request(
        self,
        target: Target,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float,
        largest: int,
    ) -> Response:
        """The answer, whatever its status. Raises Unreachable."""

        async def ask() -> Response:
            response = await self._begin(target, method, path, headers, body)
            collector = WholeBody(largest)
            response.deliverBody(collector)
            content = await collector.done
            return Response(response.code, _headers(response), content)

        return await self._within(timeout, ask())

    async def download(
        self, target: Target, path: str, headers: Mapping[str, str], file: BinaryIO, *, timeout: float, largest: int
    ) -> Response:
        """Like a GET by `request`, with the body written to `file`."""

        async def ask() -> Response:
            response = await self._begin(target, "GET", path, headers, None)
            into = _Into(file, largest)
            response.deliverBody(into)
            await into.done
            return Response(response.code, _headers(response), b"")

        return await self._within(timeout, ask())

    async def _begin(
        self, target: Target, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Any:
        sent = Headers({name: [value] for name, value in headers.items()})
        sent.setRawHeaders("host", [target.host_header])
        sent.setRawHeaders("user-agent", ["Parley"])
        uri = b"https://" + self._endpoints.name(target) + path.encode("ascii")
        return await self._agent.request(
            method.encode("ascii"), uri, sent, None if body is None else cast(IBodyProducer, BodyOf(body))
        )

    async def _within(self, seconds: float, work: Any) -> Response:
        if self._stopped:
            work.close()
            raise Unreachable("this server is stopping")
        asked: defer.Deferred[Response] = defer.Deferred.fromCoroutine(work)
        self._open.add(asked)
        try:
            return await asked.addTimeout(seconds, self._clock)
        except RemoteFailure:
            raise
        except defer.TimeoutError:
            raise Unreachable("it did not answer in time") from None
        except DNSLookupError as error:
            raise Unreachable("there is no address for it that may be connected to") from error
        except Exception as error:
            raise Unreachable(why(error), isinstance(error, CUT)) from error
        finally:
            self._open.discard(asked)

    async def stop(self) -> None:
        """Give up what is being asked, and close the connections that are kept open."""
        self._stopped = True
        for asked in list(self._open):
            asked.cancel()
        await self._pool.closeCachedConnections()


@implementer(IBodyProducer)
class BodyOf:
    """A body that is in memory."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> defer.Deferred[None]:  # noqa: N802
        consumer.write(self._body)
        return defer.succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802
        """All is written at once."""

    def resumeProducing(self) -> None:  # noqa: N802
        """All is written at once."""

    def stopProducing(self) -> None:  # noqa: N802
        """All is written at once."""


def is_address(host: str) -> bool:
    """Whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def authorities(file: Path | None) -> Any:
    """Whom to trust: the certificates of a PEM file, else the system's. Raises ValueError for a file without any."""
    if file is None:
        return None
    end = "-----END CERTIFICATE-----"
    parts = file.read_text(encoding="ascii").split(end)[:-1]
    if not parts:
        raise ValueError(f"{file} holds no certificate")
    return cast(Any, trustRootFromCertificates)([Certificate.loadPEM((part + end).encode("ascii")) for part in parts])


def why(error: Exception) -> str:
    """What went wrong, in words; Twisted wraps the reasons of a failed request."""
    reasons = getattr(error, "reasons", None)
    if isinstance(reasons, list) and reasons:
        inner = reasons[0].value
        return why(inner) if isinstance(inner, Exception) else str(inner)
    return f"{type(error).__name__}: {error}"[:300]


def _headers(response: Any) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
