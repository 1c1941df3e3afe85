# SPDX-License-Identifier: Apache-2.0
"""The composition root: the whole server from a configuration and a runtime.

Each area has a module in `homeserver/compose/` with one `build` function; this one puts them in order, gives their
pages to the listeners that serve them, and starts and stops everything.
"""

import logging
from collections.abc import Mapping, Sequence

import attrs

from homeserver.client_api.discovery import UNSTABLE_FEATURES, Capabilities, SupportContact, Versions, WellKnown
from homeserver.client_api.health import Health, MetricsPage
from homeserver.client_api.landing import Landing
from homeserver.client_api.rtc import FLAG, RtcPage, transports
from homeserver.client_api.setup import LocalCommands, Setup
from homeserver.compose import accounts, appservices, e2e, federation, push, rooms, spine, sync, userdata
from homeserver.compose.base import Base, Lifecycle
from homeserver.config.model import Config, Serve
from homeserver.http.auth import Authenticate, ClientAuth
from homeserver.http.dispatch import Dispatcher
from homeserver.http.limits import Limits, Rate
from homeserver.http.router import Router
from homeserver.http.stats import Stats
from homeserver.metrics import Metrics
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signing import Signer, SigningKey
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier
from homeserver.services.registration import Registrar
from homeserver.services.streams import Streams

_log = logging.getLogger(__name__)

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
COMMIT_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@attrs.define(eq=False)
class App:
    """The server, built. `pages` are what each face shows, `kinds` how callers are found."""

    base: Base
    pages: Mapping[Serve, Sequence[object]]
    kinds: Mapping[type, Authenticate]
    registrar: Registrar
    local_pages: Sequence[object] = ()
    opened: bool = False
    started: bool = False
    stopping: bool = False

    def dispatcher(self, serve: Sequence[Serve]) -> Dispatcher:
        """What answers on a listener that serves these faces."""
        return self._dispatcher([Health(self.unready), *(page for face in serve for page in self.pages[face])])

    def local_dispatcher(self) -> Dispatcher:
        """What answers on the socket for commands on this machine."""
        return self._dispatcher([LocalCommands(self.base.config.base_url, self.registrar), *self.local_pages])

    def _dispatcher(self, pages: Sequence[object]) -> Dispatcher:
        base = self.base
        return Dispatcher(
            Router(pages),
            self.kinds,
            base.limits,
            base.stats,
            base.runtime.monotonic,
            max_upload=base.config.media.max_upload_size,
        )

    def unready(self) -> str | None:
        """Why the server cannot serve clients now, or None."""
        if self.stopping:
            return "stopping"
        return None if self.started else "starting"

    async def start(self) -> None:
        """Open the database (migrating it) and start the services. Raises StorageError with a text for the admin."""
        base = self.base
        base.db.open()
        self.opened = True
        base.notifier.begin(base.db.published)
        await base.lifecycle.start()
        self.started = True

    async def stop(self) -> None:
        """Stop the services and close the database; nothing may be asked of them any more."""
        self.stopping = True
        if self.opened:
            await self.base.lifecycle.stop()
            self.base.db.close()
        self.base.runtime.stop()

    def reload(self, config: Config) -> None:
        """Take over from a new configuration what can change while the server runs."""
        self.base.limits.change(rates_of(config), factors_of(config))
        for step in self.base.lifecycle.reloads:
            step(config)


def build(config: Config, runtime: Runtime, key: SigningKey) -> App:
    """The server. Nothing is opened, and no thread runs, before `start`."""
    base, outbound = federation.reach_out(build_base(config, runtime, key))
    accounts_area = accounts.build(base)
    userdata_area = userdata.build(base, accounts_area)
    spine_area = spine.build(base, accounts_area, userdata_area)
    rooms_area = rooms.build(base, accounts_area, userdata_area, spine_area)
    push_area = push.build(base, spine_area)
    e2e_area = e2e.build(base, accounts_area)
    sync_area = sync.build(base, userdata_area, e2e_area, spine_area, rooms_area.access)
    areas = federation.Areas(accounts_area, userdata_area, spine_area, rooms_area, e2e_area)
    appservices_area = appservices.build(base, accounts_area, userdata_area, spine_area)
    federation_area = federation.build(base, outbound, areas)
    client = [
        *discovery_pages(config),
        *accounts_area.pages,
        *spine_area.pages,
        *rooms_area.pages,
        *userdata_area.pages,
        *push_area.pages,
        *e2e_area.pages,
        *sync_area.pages,
        *appservices_area.pages,
    ]
    pages: dict[Serve, Sequence[object]] = {
        "client": client,
        "federation": federation_area.pages,
        "metrics": [MetricsPage(base.metrics.text)],
        "web": [Landing(config.server_name, config.base_url), Setup(config.server_name, accounts_area.registrar)],
    }
    kinds = {**ClientAuth(accounts_area.sessions).kinds, **federation_area.kinds}
    return App(base, pages, kinds, accounts_area.registrar, federation_area.local_pages)


def build_base(config: Config, runtime: Runtime, key: SigningKey) -> Base:
    """The parts below all services."""
    stats = Stats()
    metrics = Metrics(stats)
    db = Database(runtime, config.database_url, readers=config.database.readers)
    notifier = Notifier(runtime, Streams(ephemeral=runtime.now_ms()))
    db.subscribe(notifier.publish)
    sizes = metrics.histogram("parley_commit_writes", "Writes in one commit", COMMIT_SIZES)
    times = metrics.histogram("parley_commit_seconds", "Time of one commit, its flush included", COMMIT_SECONDS)

    def observe(writes: int, seconds: float) -> None:
        sizes.record(writes)
        times.record(seconds)

    db.observe_batches(observe)

    def cache_bytes() -> dict[str, float]:
        return {"names": db.names.bytes, **{name: size for name, (_, size) in db.budget.report().items()}}

    metrics.gauges("parley_cache_bytes", "Memory of each cache", "cache", cache_bytes)
    metrics.gauge("parley_stream_position", "The position of the newest published change", lambda: db.published)
    metrics.gauge("parley_writes_waiting", "Writes that wait for a commit", lambda: db.queued)
    return Base(
        config=config,
        runtime=runtime,
        db=db,
        notifier=notifier,
        signer=Signer(config.server_name, key),
        limits=Limits(rates_of(config), factors=factors_of(config)),
        stats=stats,
        metrics=metrics,
        lifecycle=Lifecycle(),
    )


def discovery_pages(config: Config) -> list[object]:
    """What a client asks first."""
    support = SupportContact(config.support.email, config.support.matrix_id, config.support.page)
    versions = dict.fromkeys(ROOM_VERSIONS, "stable")
    limits = config.delayed_events
    delays = {"max_delay_ms": limits.max_delay, "max_scheduled": limits.max_scheduled}
    capabilities = {
        "m.change_password": {"enabled": True},
        "m.set_displayname": {"enabled": True},
        "m.set_avatar_url": {"enabled": True},
        "m.3pid_changes": {"enabled": config.email is not None},
        "m.profile_fields": {"enabled": True},
        "m.get_login_token": {"enabled": True},
        "m.forget_forced_upon_leave": {"enabled": False},
        "m.delayed_events": delays,
        "org.matrix.msc4140.delayed_events": delays,
    }
    livekit = config.calls.livekit
    delegate = config.federation.delegate if config.federation.enabled else None
    return [
        Versions(UNSTABLE_FEATURES + ((FLAG,) if livekit else ())),
        WellKnown(
            config.base_url,
            delegate,
            support,
            config.policy_server_key,
            {f"{FLAG}.rtc_foci": transports(livekit)} if livekit else {},
        ),
        RtcPage(livekit),
        Capabilities(config.rooms.default_version, versions, capabilities),
    ]


def rates_of(config: Config) -> Mapping[str, Rate] | None:
    """The limits by name; None when they are off."""
    limits = config.rate_limits
    if not limits.enabled:
        return None
    return {f.name: getattr(limits, f.name) for f in attrs.fields(type(limits)) if f.name not in ("enabled", "users")}


def factors_of(config: Config) -> Mapping[str, float]:
    """How much faster than others some users may call."""
    return {one.user: one.factor for one in config.rate_limits.users}
