# SPDX-License-Identifier: Apache-2.0
"""What every area of the server may be given."""

import inspect
import logging
from collections.abc import Awaitable, Callable

import attrs

from homeserver.compose.alone import Elsewhere
from homeserver.config.model import Config
from homeserver.http.limits import Limits
from homeserver.http.stats import Stats
from homeserver.metrics import Metrics
from homeserver.protocol.signing import Signer
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.notifier import Notifier

_log = logging.getLogger(__name__)

Step = Callable[[], Awaitable[object] | None]


@attrs.frozen
class Lifecycle:
    """What runs when the server starts (after the database is open), reloads its configuration, and stops.

    Steps may be plain or `async`; starts run in the order they were added, stops in the opposite one.
    """

    starts: list[Step] = attrs.field(factory=list)
    stops: list[Step] = attrs.field(factory=list)
    reloads: list[Callable[[Config], None]] = attrs.field(factory=list)

    def on_start(self, step: Step) -> None:
        self.starts.append(step)

    def on_stop(self, step: Step) -> None:
        self.stops.append(step)

    def on_reload(self, step: Callable[[Config], None]) -> None:
        """Have `step(config)` called with the new configuration at SIGHUP."""
        self.reloads.append(step)

    async def start(self) -> None:
        for step in self.starts:
            await _run(step)

    async def stop(self) -> None:
        """Run every stop, also after one that fails."""
        for step in reversed(self.stops):
            try:
                await _run(step)
            except Exception:
                _log.exception("stopping a part of the server failed")


async def _run(step: Step) -> None:
    result = step()
    if inspect.isawaitable(result):
        await result


@attrs.frozen
class Base:
    """The parts below all services."""

    config: Config
    runtime: Runtime
    db: Database
    notifier: Notifier
    signer: Signer
    limits: Limits
    stats: Stats
    metrics: Metrics
    lifecycle: Lifecycle
    elsewhere: Elsewhere = attrs.field(factory=Elsewhere)
