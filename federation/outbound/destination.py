# SPDX-License-Identifier: Apache-2.0
"""Which servers this one talks with, and how long one that does not answer is left alone."""

from collections import OrderedDict
from collections.abc import Callable

import attrs

from homeserver.config.model import Federation
from homeserver.runtime import Runtime

FIRST_MS = 2_000
LONGEST_MS = 3_600_000
JITTER = 0.25
REMEMBERED = 20_000


@attrs.define(slots=True, eq=False)
class Health:
    """How a server does: since when it fails (ms; 0: it does not), until when it is left alone, how long that was."""

    failing_since: int = 0
    retry_at: int = 0
    interval_ms: int = 0
    last_success: int = 0
    last_error: str = ""


class Destinations:
    """The health of every server that fails, and the rule about whom to talk with."""

    def __init__(self, runtime: Runtime, settings: Federation) -> None:
        self._runtime = runtime
        self._mode = settings.mode
        self._listed = frozenset(settings.allowlist)
        self._failing: OrderedDict[str, Health] = OrderedDict()
        self._on_return: list[Callable[[str], None]] = []

    def change(self, settings: Federation) -> None:
        """Take over a new configuration."""
        self._mode, self._listed = settings.mode, frozenset(settings.allowlist)

    def permitted(self, server: str) -> bool:
        """Whether the mode lets this server talk with it."""
        return self._mode == "open" or (self._mode == "allowlist" and server in self._listed)

    @property
    def listed(self) -> frozenset[str]:
        """The servers that the admin named."""
        return self._listed

    @property
    def failing(self) -> int:
        """How many servers do not answer."""
        return len(self._failing)

    def allows(self, server: str) -> bool:
        """Whether it may be asked now."""
        health = self._failing.get(server)
        return health is None or health.retry_at <= self._runtime.now_ms()

    def health(self, server: str) -> Health:
        """How the server does; a value of its own when nothing bad is known."""
        return self._failing.get(server) or Health()

    def remember(self, server: str, health: Health) -> None:
        """Take up what was known before a restart."""
        self._failing[server] = health

    def failed(self, server: str, reason: str = "") -> None:
        """It did not answer, or not well: it is left alone twice as long as the last time."""
        now = self._runtime.now_ms()
        health = self._failing.setdefault(server, Health(failing_since=now))
        if now < health.retry_at:
            return  # asked before the last failure was known
        health.interval_ms = min(max(health.interval_ms * 2, FIRST_MS), LONGEST_MS)
        spread = 1.0 + JITTER * (2.0 * self._runtime.random.random() - 1.0)
        health.retry_at = now + int(health.interval_ms * spread)
        health.last_error = reason
        while len(self._failing) > REMEMBERED:  # users can name any server
            self._failing.popitem(last=False)

    def succeeded(self, server: str) -> None:
        """It answered, or sent something signed: it is there."""
        if self._failing.pop(server, None) is not None:
            for told in self._on_return:
                told(server)

    def on_return(self, told: Callable[[str], None]) -> None:
        """Have `told(server)` called when a server that failed is there again."""
        self._on_return.append(told)
