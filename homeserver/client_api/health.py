# SPDX-License-Identifier: Apache-2.0
"""Whether the process lives and can serve, for load balancers, and its metrics for Prometheus."""

from collections.abc import Callable

from homeserver.http.endpoint import Answer, Anyone, endpoint

PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


class Health:
    """`live`: the process answers. `ready`: it can serve clients, which `unready` says by its reason or None."""

    def __init__(self, unready: Callable[[], str | None]) -> None:
        self._unready = unready

    @endpoint("GET", "/health", also=["/health/ready"], limit=None)
    async def ready(self, caller: Anyone) -> Answer:
        reason = self._unready()
        if reason is not None:
            return Answer(503, {"status": "unready", "reason": reason})
        return Answer(200, {"status": "ready"})

    @endpoint("GET", "/health/live", limit=None)
    async def live(self, caller: Anyone) -> Answer:
        return Answer(200, {"status": "live"})


class MetricsPage:
    """The page that Prometheus reads; only on listeners that serve `metrics`."""

    def __init__(self, text: Callable[[], bytes]) -> None:
        self._text = text

    @endpoint("GET", "/metrics", limit=None)
    async def metrics(self, caller: Anyone) -> Answer:
        return Answer(200, self._text(), {"Content-Type": PROMETHEUS})
