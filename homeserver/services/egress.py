# SPDX-License-Identifier: Apache-2.0
"""How the server asks others for something by HTTP without being led to private addresses."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address as V4
from ipaddress import IPv6Address as V6
from ipaddress import ip_address, ip_network
from typing import Any, cast
from urllib.parse import urljoin

import attrs
import hyperlink
import orjson
from twisted.internet import defer, protocol
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.names import client as names_client
from twisted.names import dns
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from homeserver.runtime import Runtime

CONNECT_SECONDS = 20.0
REDIRECTS = 4
LONGEST_URL = 2_048
#: Sites that describe themselves do so to what says that it makes previews.
BROWSER = "Mozilla/5.0 (compatible; Parley; bot; +https://spec.matrix.org/)"


class NoAnswer(Exception):
    """The other side could not be asked, did not answer, or not with what was expected."""


class TooLate(NoAnswer):
    """The other side did not answer in time."""


@attrs.frozen
class Fetched:
    """The answer to a GET: where it came from in the end, its Content-Type as sent, its body."""

    url: str
    content_type: str
    body: bytes


def web_address(url: str) -> str:
    """An http or https address in ASCII; raises NoAnswer for everything else."""
    try:
        parsed = hyperlink.URL.from_text(url)
        if ":" not in parsed.host:  # an IPv6 address is no name to encode
            parsed = parsed.to_uri()
        if parsed.scheme in ("http", "https") and parsed.host and not parsed.userinfo and len(url) <= LONGEST_URL:
            text: str = parsed.replace(fragment="").to_text()
            if text.isascii() and text.isprintable() and " " not in text:
                return text
    except ValueError:
        pass
    raise NoAnswer("it is not an http or https address")


class AddressRule:
    """Which addresses may be connected to: public ones, and the private ranges that the admin allows."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(ip_network(one, strict=False) for one in allowed)

    def permits(self, address: str) -> bool:
        found: V4 | V6 = ip_address(address.partition("%")[0])
        mapped = found.ipv4_mapped if isinstance(found, V6) else None
        if mapped is not None:
            found = mapped
        if any(found.version == network.version and found in network for network in self._allowed):
            return True
        # Pythons differ in what they call global; of IPv6 only 2000::/3 is given to anybody.
        if isinstance(found, V6) and found not in ip_network("2000::/3"):
            return False
        return found.is_global and not found.is_multicast and not _wraps_v4(found)


def _wraps_v4(address: V4 | V6) -> bool:
    """Whether an IPv6 address stands for an IPv4 address behind a gateway (6to4, Teredo, NAT64)."""
    if isinstance(address, V4):
        return False
    return address.sixtofour is not None or address.teredo is not None or address in ip_network("64:ff9b::/96")


@implementer(IHostnameResolver)
class PermittedAddresses:
    """A resolver that leaves out addresses the rule does not permit."""

    def __init__(self, resolver: Callable[[], IHostnameResolver], rule: AddressRule) -> None:
        self._resolver = resolver
        self._rule = rule

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Any = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        rule = self._rule

        @implementer(IResolutionReceiver)
        class Sieve:
            def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802
                resolutionReceiver.resolutionBegan(resolution)

            def addressResolved(self, address: IAddress) -> None:  # noqa: N802
                if isinstance(address, IPv4Address | IPv6Address) and rule.permits(address.host):
                    resolutionReceiver.addressResolved(address)

            def resolutionComplete(self) -> None:  # noqa: N802
                resolutionReceiver.resolutionComplete()

        return self._resolver().resolveHostName(
            cast(IResolutionReceiver, Sieve()), hostName, portNumber, addressTypes, transportSemantics
        )


def dns_address(server: str) -> tuple[str, int]:
    """Address and port of a DNS server as the configuration names it."""
    if server.count(":") == 1:
        host, _, port = server.partition(":")
        return host, int(port)
    return server, dns.PORT


@implementer(IHostnameResolver)
class DnsServers:
    """A resolver that asks given DNS servers instead of the system's."""

    def __init__(self, servers: Sequence[str], reactor: Any) -> None:
        self._client: Any = cast(Any, names_client.Resolver)(
            servers=[dns_address(server) for server in servers], reactor=reactor
        )

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Any = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        resolution = cast(IHostResolution, _Resolution(hostName))
        resolutionReceiver.resolutionBegan(resolution)

        def tell(results: list[tuple[bool, Any]]) -> None:
            for found, answer in results:
                for record in answer[0] if found else ():
                    if isinstance(record.payload, dns.Record_A):
                        address: IAddress = IPv4Address("TCP", str(V4(record.payload.address)), portNumber)
                    elif isinstance(record.payload, dns.Record_AAAA):
                        address = IPv6Address("TCP", str(V6(record.payload.address)), portNumber)
                    else:
                        continue
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        try:
            literal = ip_address(hostName)
        except ValueError:
            asked = [self._client.lookupAddress(hostName), self._client.lookupIPV6Address(hostName)]
            defer.DeferredList(asked, consumeErrors=True).addCallback(tell)
        else:
            kind = IPv4Address if literal.version == 4 else IPv6Address
            resolutionReceiver.addressResolved(kind("TCP", hostName, portNumber))
            resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Resolutions run to their end."""


@implementer(IReactorPluggableNameResolver)
class FilteredReactor:
    """The reactor, but for how it finds addresses."""

    def __init__(self, reactor: Any, resolver: IHostnameResolver) -> None:
        self._reactor = reactor
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:  # noqa: N802
        raise NotImplementedError("the resolver is the rule's")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, authorities: Any) -> None:
        self._reactor = reactor
        self._authorities = authorities

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802
        host = uri.host.decode("ascii").strip("[]")
        endpoint = HostnameEndpoint(self._reactor, host, uri.port, timeout=CONNECT_SECONDS)
        if uri.scheme == b"https":
            return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._authorities), endpoint)
        return cast(IStreamClientEndpoint, endpoint)


@implementer(IBodyProducer)
class _Body:
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


class WholeBody(protocol.Protocol):
    """Takes a response's body, up to a size; of a larger one the beginning when it may be `cut`, else it is refused."""

    def __init__(self, largest: int, cut: bool = False) -> None:
        self.done: defer.Deferred[bytes] = defer.Deferred(lambda _: self._abort())
        self._left = largest
        self._cut = cut
        self._parts: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._left >= 0:
            self._parts.append(data[: self._left] if self._cut else data)
            self._left -= len(data)
            if self._left < 0:
                self._abort()

    def _abort(self) -> None:
        """Hang up on one who sends too much, or too slowly."""
        transport: Any = self.transport
        stop = getattr(transport, "abortConnection", None) or getattr(transport, "loseConnection", None)
        if stop is not None:
            stop()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:  # noqa: N802
        if self.done.called:
            return
        if self._left < 0 and not self._cut:
            self.done.errback(NoAnswer("the answer is too large"))
        elif self._left >= 0 and not isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.done.errback(NoAnswer("the answer broke off"))
        else:
            self.done.callback(b"".join(self._parts))


class Egress:
    """Requests to servers that users or admins name. Redirects are not followed."""

    def __init__(
        self,
        runtime: Runtime,
        allowed: Sequence[str] = (),
        dns_servers: Sequence[str] = (),
        ca_pem: bytes | None = None,
    ) -> None:
        reactor = runtime.reactor
        servers = cast(IHostnameResolver, DnsServers(dns_servers, reactor)) if dns_servers else None
        resolver = PermittedAddresses(lambda: servers or reactor.nameResolver, AddressRule(allowed))
        named = FilteredReactor(reactor, cast(IHostnameResolver, resolver))
        authorities = None if ca_pem is None else cast(Any, trustRootFromCertificates)([Certificate.loadPEM(ca_pem)])
        self._clock: IReactorTime = reactor
        self._pool: Any = cast(Any, HTTPConnectionPool)(reactor)
        self._agent: Agent = cast(Any, Agent).usingEndpointFactory(
            reactor, cast(IAgentEndpointFactory, _Endpoints(named, authorities)), pool=self._pool
        )

    async def post_json(self, url: str, body: bytes, *, timeout: float = 30.0, largest: int = 65536) -> Any:
        """The JSON that a POST of JSON is answered with. Raises NoAnswer for all but a status of 2xx with JSON."""
        headers = Headers({"content-type": ["application/json"], "user-agent": ["Parley"]})
        try:
            asked = self._agent.request(b"POST", url.encode("ascii"), headers, cast(IBodyProducer, _Body(body)))
            response: Any = await asked.addTimeout(timeout, self._clock)
            content = await self._body(response, WholeBody(largest), timeout)
        except NoAnswer:
            raise
        except DNSLookupError as error:
            raise NoAnswer("there is no address for it that may be connected to") from error
        except Exception as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        if not 200 <= response.code < 300:
            raise NoAnswer(f"it answered with status {response.code}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise NoAnswer("it did not answer with JSON") from None

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout: float,
        largest: int,
    ) -> tuple[int, bytes]:
        """Status and body of whatever the answer is. Raises TooLate, and NoAnswer when nothing or too much comes."""
        sent = Headers({name: [value] for name, value in headers.items()})
        producer = None if body is None else cast(IBodyProducer, _Body(body))
        begun = self._clock.seconds()
        try:
            asked = self._agent.request(method.encode("ascii"), url.encode("ascii"), sent, producer)
            response: Any = await asked.addTimeout(timeout, self._clock)
            return response.code, await self._body(response, WholeBody(largest), timeout)
        except Exception as error:
            if self._clock.seconds() - begun >= timeout:  # by its type one cannot tell who ended the connection
                raise TooLate(f"it did not answer within {timeout:g} seconds") from error
            raise error if isinstance(error, NoAnswer) else NoAnswer(f"{type(error).__name__}: {error}") from error

    async def get(
        self, url: str, *, accept: str, timeout: float = 10.0, largest: int, cut: bool = False, language: str = "en"
    ) -> Fetched:
        """What a GET is answered with, redirects followed. Raises NoAnswer for all but a status of 2xx.

        Of a body over `largest` bytes the beginning is given when it may be `cut`; else it is an error.
        """
        headers = Headers({"accept": [accept], "accept-language": [language], "user-agent": [BROWSER]})
        for _ in range(REDIRECTS + 1):
            address = web_address(url)
            try:
                asked = self._agent.request(b"GET", address.encode("ascii"), headers)
                response: Any = await asked.addTimeout(timeout, self._clock)
                moved = response.code in (301, 302, 303, 307, 308) and response.headers.getRawHeaders("location")
                body = await self._body(response, WholeBody(0 if moved else largest, cut or bool(moved)), timeout)
            except NoAnswer:
                raise
            except DNSLookupError as error:
                raise NoAnswer("there is no address for it that may be connected to") from error
            except Exception as error:
                raise NoAnswer(f"{type(error).__name__}: {error}") from error
            if not moved:
                if not 200 <= response.code < 300:
                    raise NoAnswer(f"it answered with status {response.code}")
                kind = (response.headers.getRawHeaders("content-type") or [""])[-1]
                return Fetched(address, kind, body)
            url = urljoin(address, moved[-1])
        raise NoAnswer("it redirects too often")

    async def _body(self, response: Any, collector: WholeBody, timeout: float) -> bytes:
        response.deliverBody(collector)
        return await collector.done.addTimeout(timeout, self._clock)

    async def stop(self) -> None:
        """Close the connections that are kept open."""
        await self._pool.closeCachedConnections()
