# SPDX-License-Identifier: Apache-2.0
"""Federation: what asks other servers, and what answers them. Off, nothing of it exists."""

from collections.abc import Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred

from federation.commands import FederationCommands
from federation.inbound.acl import ServerAcls
from federation.inbound.admission import Admission
from federation.inbound.authentication import RequestAuth
from federation.inbound.edus import Edus, Listeners
from federation.inbound.gaps import Gaps
from federation.inbound.history import HistoryPages
from federation.inbound.invites import InvitePages, Invites
from federation.inbound.keys import KeyPages, VersionPage
from federation.inbound.media import MediaPages
from federation.inbound.membership import HandshakePages, Handshakes, RoomDoors
from federation.inbound.queries import RoomQueries, UserQueries
from federation.inbound.templates import Templates
from federation.inbound.third_party import Exchange, ThirdPartyPages
from federation.inbound.transactions import Takers, Transactions
from federation.outbound.backfill import Backfill
from federation.outbound.client import Client
from federation.outbound.delivered import Delivered
from federation.outbound.destination import Destinations
from federation.outbound.keyring import Keyring, OwnKeys
from federation.outbound.news import News
from federation.outbound.remote_media import RemoteMedia
from federation.outbound.remote_queries import (
    Outbox,
    RemoteAliases,
    RemoteDirectory,
    RemoteHierarchy,
    RemoteKeys,
    RemoteProfiles,
)
from federation.outbound.remote_rooms import Parts, RemoteRooms
from federation.outbound.resolver import Resolver, service_finder
from federation.outbound.sender import Sender
from federation.outbound.transport import Response, Target, Transport
from homeserver.compose.accounts import Accounts
from homeserver.compose.alone import Elsewhere, RoomParts
from homeserver.compose.base import Base
from homeserver.compose.e2e import Encryption
from homeserver.compose.rooms import Rooms
from homeserver.compose.spine import Spine
from homeserver.compose.userdata import UserData
from homeserver.config.model import Config
from homeserver.http.auth import Authenticate
from homeserver.protocol.signing import VerifyKey, parse_key_file
from homeserver.runtime import Runtime
from homeserver.services.media_files import MediaFiles
from homeserver.services.rooms.directory import Directory
from homeserver.services.rooms.hierarchy import Hierarchy
from homeserver.services.rooms.join_rules import JoinRules
from homeserver.services.rooms.summary import RoomFacts
from storage import destinations as destination_rows
from storage import federation_answers

WELL_KNOWN_SECONDS = 10.0
LARGEST_WELL_KNOWN = 51_200
HOUR = 3_600.0


@attrs.frozen
class Outbound:
    """What asks other servers; made before all services, which are given it through their ports."""

    transport: Transport
    resolver: Resolver
    destinations: Destinations
    client: Client
    own: OwnKeys
    keyring: Keyring
    admission: Admission
    delivered: Delivered


@attrs.frozen
class Federation:
    """What other servers are shown, and how they are recognized."""

    pages: Sequence[object] = ()
    kinds: Mapping[type, Authenticate] = attrs.field(factory=dict)
    local_pages: Sequence[object] = ()
    """For commands on this machine."""


def reach_out(base: Base) -> tuple[Base, Outbound | None]:
    """The parts that ask other servers, and the base through which services reach them; None while it is off."""
    if not base.config.federation.enabled:
        return base, None
    outbound = outbound_of(base)
    return attrs.evolve(base, elsewhere=elsewhere_of(base, outbound)), outbound


def finding(config: Config, runtime: Runtime) -> tuple[Transport, Resolver]:
    """What finds other servers and connects to them."""
    transport = Transport(runtime, config)

    async def fetch(target: Target, path: str) -> Response:
        return await transport.request(target, "GET", path, {}, timeout=WELL_KNOWN_SECONDS, largest=LARGEST_WELL_KNOWN)

    return transport, Resolver(runtime, fetch, service_finder(runtime, config.network.dns))


def outbound_of(base: Base) -> Outbound:
    config, runtime = base.config, base.runtime
    transport, resolver = finding(config, runtime)
    destinations = Destinations(runtime, config.federation)
    client = Client(base.signer, resolver, transport, destinations)
    own = OwnKeys(base.signer, retired_keys(config))
    keyring = Keyring(own, runtime, base.db, client, config.federation.key_servers)
    base.lifecycle.on_stop(transport.stop)
    base.lifecycle.on_reload(lambda changed: destinations.change(changed.federation))
    return Outbound(transport, resolver, destinations, client, own, keyring, Admission(keyring, runtime), Delivered())


def retired_keys(config: Config) -> dict[VerifyKey, int]:
    """Keys that were in use before: the lines of the key file after the first, good until the file was changed."""
    try:
        keys = parse_key_file(config.key_file.read_text(encoding="ascii"))
        changed = int(config.key_file.stat().st_mtime * 1000)
    except (OSError, ValueError):
        return {}
    return {key.verify_key: changed for key in keys[1:]}


def elsewhere_of(base: Base, outbound: Outbound) -> Elsewhere:
    """The ports of services, filled."""

    def rooms(parts: RoomParts) -> RemoteRooms:
        whole = Parts(base.runtime, base.db, parts.locks, parts.snapshots, parts.author, parts.receiver)
        return RemoteRooms(outbound.client, outbound.admission, whole, outbound.delivered)

    client = outbound.client

    def history(parts: RoomParts) -> Backfill:
        own, admission = base.config.server_name, outbound.admission
        return Backfill(base.runtime, base.db, parts.locks, parts.receiver, admission, client, own)

    def media(files: MediaFiles) -> RemoteMedia:
        largest = base.config.media.max_upload_size
        return RemoteMedia(base.runtime, base.db, files, client, outbound.transport, largest)

    return Elsewhere(
        keys=RemoteKeys(client),
        outbox=Outbox(),
        profiles=RemoteProfiles(client, base.runtime),
        media=media,
        rooms=rooms,
        history=history,
        aliases=RemoteAliases(client),
        directory=RemoteDirectory(client),
        hierarchy=RemoteHierarchy(client),
    )


@attrs.frozen
class Areas:
    """The other areas, which the pages show."""

    accounts: Accounts
    userdata: UserData
    spine: Spine
    rooms: Rooms
    e2e: Encryption


def build(base: Base, outbound: Outbound | None, areas: Areas) -> Federation:
    """The pages for other servers, and what is sent to them."""
    if outbound is None:
        return Federation()
    health = outbound.destinations
    auth = RequestAuth(base.config.server_name, outbound.keyring, health, health.succeeded)
    sender = sending(base, outbound, areas)
    acls = ServerAcls(areas.spine.state)
    shakes, invites = membership_services(base, outbound, areas, acls)
    pages = (
        KeyPages(outbound.own, outbound.keyring, base.runtime),
        VersionPage("0.1.0"),
        *query_pages(base, areas),
        HandshakePages(shakes),
        InvitePages(invites),
        *third_party_pages(base, outbound, areas, acls),
        *reception_pages(base, outbound, areas, acls, invites),
    )
    return Federation(pages, auth.kinds, (FederationCommands(sender, health),))


def sending(base: Base, outbound: Outbound, areas: Areas) -> Sender:
    """What goes out by itself."""
    server_name, health = base.config.server_name, outbound.destinations
    sender = Sender(server_name, base.runtime, base.db, outbound.client, health, outbound.delivered)
    news = News(server_name, base.runtime, base.db, sender, areas.userdata.presence, health)
    areas.userdata.typing.observe(news.typing)
    base.lifecycle.on_start(sender.start)
    base.lifecycle.on_start(news.start)
    base.lifecycle.on_stop(sender.stop)
    forget_old_answers(base)
    gauge = base.metrics.gauge
    gauge(
        "parley_federation_destinations",
        "Servers that something was sent to since the start",
        lambda: len(sender.known),
    )
    gauge("parley_federation_failing", "Servers that do not answer", lambda: health.failing)
    return sender


def forget_old_answers(base: Base) -> None:
    """Hourly, what was answered to transactions a day ago."""
    runtime = base.runtime

    async def forget_hourly() -> None:
        while True:
            await runtime.sleep(HOUR)
            await base.db.write(federation_answers.forget_older, runtime.now_ms())

    def begin() -> None:
        running = Deferred.fromCoroutine(forget_hourly()).addErrback(lambda failure: None)
        base.lifecycle.on_stop(running.cancel)

    base.lifecycle.on_start(begin)


def query_pages(base: Base, areas: Areas) -> Sequence[object]:
    """What others ask."""
    server_name, accounts, e2e, rooms = base.config.server_name, areas.accounts, areas.e2e, areas.rooms
    facts = RoomFacts(base.db)
    return (
        UserQueries(server_name, accounts.profiles, e2e.query, e2e.keys, accounts.openid),
        RoomQueries(
            server_name, rooms.aliases, Directory(base.db, server_name, facts, rooms.aliases), Hierarchy(base.db, facts)
        ),
    )


def membership_services(base: Base, outbound: Outbound, areas: Areas, acls: ServerAcls) -> tuple[Handshakes, Invites]:
    """Joins, leaves, knocks and invites."""
    spine = areas.spine
    doors = RoomDoors(base.db, spine.locks, spine.state, spine.receiver)
    templates = Templates(base.runtime, base.db, spine.locks, spine.snapshots, JoinRules(base.db))

    async def relay(event_id: str) -> None:
        await base.db.write(destination_rows.relay, event_id)

    shakes = Handshakes(base.signer, doors, templates, outbound.admission, acls, relay)
    invites = Invites(base.config.server_name, doors, outbound.admission, acls, shakes, areas.userdata.data)
    return shakes, invites


def third_party_pages(base: Base, outbound: Outbound, areas: Areas, acls: ServerAcls) -> Sequence[object]:
    """Invites to addresses."""
    spine = areas.spine
    if spine.remote is None:
        return ()
    doors = RoomDoors(base.db, spine.locks, spine.state, spine.receiver)
    exchange = Exchange(doors, acls, spine.sender, spine.remote, outbound.client, base.config.server_name)
    return (ThirdPartyPages(exchange),)


def reception_pages(
    base: Base, outbound: Outbound, areas: Areas, acls: ServerAcls, invites: Invites
) -> Sequence[object]:
    """Transactions, and what is read of rooms."""
    spine, userdata, db = areas.spine, areas.userdata, base.db
    gaps = Gaps(base.runtime, db, spine.locks, spine.receiver, outbound.admission, outbound.client)
    listeners = Listeners(userdata.typing, userdata.receipts, userdata.presence, areas.e2e.to_device)
    edus = Edus(db, acls, listeners)
    return (
        Transactions(base.runtime, db, outbound.admission, acls, Takers(gaps, edus, invites)),
        MediaPages(base.config.server_name, base.runtime, areas.accounts.media),
        HistoryPages(base.config.server_name, base.runtime, db, acls),
    )
