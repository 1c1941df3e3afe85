# SPDX-License-Identifier: Apache-2.0
"""How many requests each endpoint answered, with which status and how fast: plain counters that metrics read."""

from bisect import bisect_left

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class EndpointStats:
    """Counts of one endpoint: requests by status, and by time in the buckets of BOUNDS (the last is "longer")."""

    __slots__ = ("method", "path", "statuses", "times", "seconds")

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path
        self.statuses: dict[int, int] = {}
        self.times = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def record(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.times[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Stats:
    """The counts of all endpoints of one process; `waiting` is the number of open long polls."""

    def __init__(self) -> None:
        self.unknown = EndpointStats("", "unknown")
        self.waiting = 0
        self._endpoints: dict[tuple[str, str], EndpointStats] = {}

    def of(self, method: str, path: str) -> EndpointStats:
        """The counts of one endpoint; the same when asked again."""
        return self._endpoints.setdefault((method, path), EndpointStats(method, path))

    def all(self) -> list[EndpointStats]:
        return [*self._endpoints.values(), self.unknown]
