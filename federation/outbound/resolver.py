# SPDX-License-Identifier: Apache-2.0
"""Which host, port and certificate a server name stands for.

https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""

import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urljoin, urlsplit

import attrs
import orjson
from twisted.names import client as names_client
from twisted.names import dns
from twisted.names.error import DomainError

from federation.outbound.transport import Response, Target, Unreachable, is_address
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.ids import ServerName, split_server_name
from homeserver.runtime import Runtime
from homeserver.services.egress import dns_address

DEFAULT_PORT = 8448
# "Servers should ... cache the successful response for 24 hours ... a maximum of 48 hours ... errors for up to an hour"
USUAL_S, LONGEST_S, SHORTEST_S, FAILED_S = 86_400.0, 172_800.0, 300.0, 3_600.0
REMEMBERED = 10_000
LARGEST_WELL_KNOWN = 51_200
REDIRECTS = 5
DNS_TIMEOUTS = (1, 3)
RESOLV_CONF = Path("/etc/resolv.conf")
SERVICES = ("_matrix-fed._tcp.", "_matrix._tcp.")


class Fetch(Protocol):
    """Asks a target for a path."""

    async def __call__(self, target: Target, path: str) -> Response: ...


LookUpService = Callable[[str], Awaitable[Sequence[tuple[str, int]]]]


@attrs.frozen
class WellKnown:
    """What a name delegates to, if it does; `note` says what was found."""

    server: str | None
    note: str
    until: float


@attrs.frozen
class Resolved:
    """Targets in the order to try them, and the steps that led there."""

    targets: tuple[Target, ...]
    steps: tuple[str, ...]


class Resolver:
    """Finds targets, with answers of well-known files remembered as long as they ask for."""

    def __init__(self, runtime: Runtime, fetch: Fetch, look_up: LookUpService, *, well_known_port: int = 443) -> None:
        self._runtime = runtime
        self._fetch = fetch
        self._look_up = look_up
        self._well_known_port = well_known_port
        self._known: OrderedDict[str, WellKnown] = OrderedDict()

    async def resolve(self, server: str) -> Resolved:
        """The targets of a server name. Raises Unreachable for what is none, or leads nowhere."""
        try:
            name = split_server_name(server)
        except MatrixError as error:
            raise Unreachable(error.message) from None
        # "1. If the hostname is an IP literal" and "2. ... there is an explicit port"
        direct = _direct(name)
        if direct is not None:
            return Resolved((direct,), (f"{server} says itself where it is",))
        known = await self.well_known(name.host)
        steps = [known.note]
        if known.server is None:
            return await self._by_service(name.host, steps)
        # "3. ... the delegated server name"
        delegated = split_server_name(known.server)
        direct = _direct(delegated)
        if direct is not None:
            return Resolved((direct,), (*steps, f"{known.server} says itself where it is"))
        return await self._by_service(delegated.host, steps)

    async def _by_service(self, host: str, steps: list[str]) -> Resolved:
        for service in SERVICES:
            try:
                found = await self._look_up(service + host)
            except Unreachable as error:
                steps.append(f"{service}{host}: {error.reason}")
                continue
            if found:
                steps.append(f"{service}{host}: {', '.join(f'{name}:{port}' for name, port in found)}")
                return Resolved(tuple(Target(name, port, host, host) for name, port in found), tuple(steps))
        steps.append(f"no SRV records; {host}:{DEFAULT_PORT}")
        return Resolved((Target(host, DEFAULT_PORT, host, host),), tuple(steps))

    # ---- well-known ----

    async def well_known(self, host: str) -> WellKnown:
        """What `https://host/.well-known/matrix/server` says, asked or remembered."""
        now = self._runtime.monotonic()
        known = self._known.get(host)
        if known is not None and known.until > now:
            return known
        try:
            found = await self._ask(host, now)
        except Unreachable as error:
            found = WellKnown(None, f"no well-known file at {host}: {error.reason}", now + FAILED_S)
            if known is not None and known.server is not None and now < known.until + FAILED_S:
                # One that worked is trusted a little longer than it asked for.
                found = attrs.evolve(known, until=now + SHORTEST_S)
        self._known[host] = found
        self._known.move_to_end(host)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _ask(self, host: str, now: float) -> WellKnown:
        url = f"https://{host}:{self._well_known_port}/.well-known/matrix/server"
        for _ in range(REDIRECTS + 1):
            response = await self._fetch(*plain_target(url))
            location = response.headers.get("location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                break
            url = urljoin(url, location)
        if response.status != 200:
            raise Unreachable(f"it answered with status {response.status}")
        try:
            body = orjson.loads(response.body)
            server = body["m.server"]
            split_server_name(server)
        except (orjson.JSONDecodeError, KeyError, TypeError, MatrixError):
            raise Unreachable("it is not a JSON object with a server name as m.server") from None
        return WellKnown(server, f"the well-known file at {host} names {server}", now + _lifetime(response))

    def forget(self, server: str) -> None:
        """Ask again the next time."""
        self._known.pop(split_server_name(server).host, None)


def _direct(name: ServerName) -> Target | None:
    """The target of an address, or of a name with a port."""
    if is_address(name.host):
        shown = f"[{name.host}]" if name.is_ipv6 else name.host
        header = shown if name.port is None else f"{shown}:{name.port}"
        return Target(name.host, name.port or DEFAULT_PORT, name.host, header)
    if name.port is not None:
        return Target(name.host, name.port, name.host, f"{name.host}:{name.port}")
    return None


def plain_target(url: str) -> tuple[Target, str]:
    """The target and path of an https address; raises Unreachable for any other."""
    parts = urlsplit(url)
    try:
        port = parts.port or 443
    except ValueError:
        port = 0
    if parts.scheme != "https" or not parts.hostname or not port or not url.isascii():
        raise Unreachable("it redirects to what is no https address")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.hostname, port, parts.hostname, parts.netloc.rpartition("@")[2].removesuffix(":443")), path


def _lifetime(response: Response) -> float:
    """Seconds for which the answer may be kept, as its headers say."""
    directives = [one.strip().lower() for one in response.headers.get("cache-control", "").split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST_S
    for directive in directives:
        name, _, value = directive.partition("=")
        if name == "max-age" and value.isascii() and value.isdigit():
            return min(max(float(value), SHORTEST_S), LONGEST_S)
    return USUAL_S


def service_finder(runtime: Runtime, servers: Sequence[str]) -> LookUpService:
    """What looks up SRV records, at these DNS servers or the system's."""
    resolver: list[Any] = []

    async def look_up(name: str) -> Sequence[tuple[str, int]]:
        if not resolver:
            resolver.append(_dns(runtime, servers))
        try:
            answers, _, _ = await resolver[0].lookupService(name, timeout=DNS_TIMEOUTS)
        except DomainError:
            return ()
        except Exception as error:
            raise Unreachable(f"the DNS servers do not answer ({type(error).__name__})") from None
        found = [record.payload for record in answers if isinstance(record.payload, dns.Record_SRV)]
        if len(found) == 1 and str(found[0].target) in ("", "."):
            raise Unreachable("the service is decidedly not available")
        return in_order(found, runtime.random)

    return look_up


def _dns(runtime: Runtime, servers: Sequence[str]) -> Any:
    """A client of these DNS servers, or of those that the system names."""
    asked = [dns_address(server) for server in servers or system_servers(RESOLV_CONF)]
    return cast(Any, names_client.Resolver)(servers=asked, reactor=runtime.reactor)


def system_servers(file: Path) -> list[str]:
    """The DNS servers that the system's configuration names."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver"] or ["127.0.0.1"]


def in_order(records: Sequence[Any], chance: random.Random) -> list[tuple[str, int]]:
    """SRV records by priority and, within one, by chance in proportion to their weights (RFC 2782)."""

    def place(record: Any) -> tuple[int, float]:
        return record.priority, chance.random() ** (1.0 / max(record.weight, 0.01)) * -1.0

    return [(str(one.target).rstrip("."), one.port) for one in sorted(records, key=place)]
