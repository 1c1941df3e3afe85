# SPDX-License-Identifier: Apache-2.0
"""Federation: what asks other servers, and what answers them. Off, nothing of it exists."""

from collections.abc import Mapping, Sequence

import attrs

from federation.inbound.authentication import RequestAuth
from federation.inbound.keys import KeyPages, VersionPage
from federation.inbound.queries import AliasQueries
from federation.outbound.client import Client
from federation.outbound.destination import Destinations
from federation.outbound.keyring import Keyring
from federation.outbound.resolver import Resolver, service_finder
from federation.outbound.transport import Response, Target, Transport
from homeserver.compose.alone import Elsewhere
from homeserver.compose.base import Base
from homeserver.compose.rooms import Rooms
from homeserver.http.auth import Authenticate

WELL_KNOWN_SECONDS = 10.0
LARGEST_WELL_KNOWN = 51_200


@attrs.frozen
class Outbound:
    """What asks other servers; made before all services, which are given it through their ports."""

    transport: Transport
    resolver: Resolver
    destinations: Destinations
    client: Client
    keyring: Keyring


@attrs.frozen
class Federation:
    """What other servers are shown, and how they are recognized."""

    pages: Sequence[object] = ()
    kinds: Mapping[type, Authenticate] = attrs.field(factory=dict)


def reach_out(base: Base) -> tuple[Base, Outbound | None]:
    """The parts that ask other servers, and the base through which services reach them; None while it is off."""
    if not base.config.federation.enabled:
        return base, None
    outbound = outbound_of(base)
    return attrs.evolve(base, elsewhere=elsewhere_of(outbound)), outbound


def outbound_of(base: Base) -> Outbound:
    config, runtime = base.config, base.runtime
    transport = Transport(runtime, config)

    async def fetch(target: Target, path: str) -> Response:
        return await transport.request(target, "GET", path, {}, timeout=WELL_KNOWN_SECONDS, largest=LARGEST_WELL_KNOWN)

    resolver = Resolver(runtime, fetch, service_finder(runtime, config.network.dns))
    destinations = Destinations(runtime, config.federation)
    client = Client(base.signer, resolver, transport, destinations)
    keyring = Keyring(base.signer, runtime, base.db, client, config.federation.key_servers)
    base.lifecycle.on_stop(transport.stop)
    base.lifecycle.on_reload(lambda changed: destinations.change(changed.federation))
    return Outbound(transport, resolver, destinations, client, keyring)


def elsewhere_of(outbound: Outbound) -> Elsewhere:
    """The ports of services, filled."""
    return Elsewhere()


def build(base: Base, outbound: Outbound | None, rooms: Rooms) -> Federation:
    """The pages for other servers."""
    if outbound is None:
        return Federation()
    config = base.config
    auth = RequestAuth(config.server_name, outbound.keyring, outbound.destinations, outbound.destinations.succeeded)
    pages = (
        KeyPages(base.signer, {}, outbound.keyring, base.runtime),
        VersionPage("0.1.0"),
        AliasQueries(rooms.aliases, config.server_name),
    )
    return Federation(pages, auth.kinds)
