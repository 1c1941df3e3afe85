# SPDX-License-Identifier: Apache-2.0
"""What the server counts and measures, and how Prometheus reads it."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from homeserver.http.stats import BOUNDS, Stats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Read = Callable[[], float]


class Histogram:
    """Counts of values in buckets with the given upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def record(self, value: float) -> None:
        at = 0
        for bound in self.bounds:
            if value <= bound:
                break
            at += 1
        self.counts[at] += 1
        self.total += value


class Metrics:
    """Everything that is measured. Nothing is computed until it is asked for."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._gauges: dict[str, tuple[str, Read]] = {}
        self._counters: dict[str, tuple[str, Read]] = {}
        self._labelled: dict[str, tuple[str, str, Callable[[], Mapping[str, float]]]] = {}
        self._histograms: dict[str, tuple[str, Histogram]] = {}
        self.gauge("parley_long_polls", "Requests that wait for news", lambda: stats.waiting)

    def gauge(self, name: str, doc: str, read: Read) -> None:
        """A value that goes up and down, read when Prometheus asks."""
        self._gauges[name] = (doc, read)

    def gauges(self, name: str, doc: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Several values of one kind, told apart by a label."""
        self._labelled[name] = (doc, label, read)

    def counter(self, name: str, doc: str, read: Read) -> None:
        """A value that only grows, read when Prometheus asks."""
        self._counters[name] = (doc, read)

    def histogram(self, name: str, doc: str, bounds: tuple[float, ...]) -> Histogram:
        """Counts by size; `record` what is measured."""
        histogram = Histogram(bounds)
        self._histograms[name] = (doc, histogram)
        return histogram

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
        from prometheus_client.exposition import generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> "Iterator[Metric]":
        """What prometheus_client asks a collector for."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, (doc, read) in self._gauges.items():
            yield GaugeMetricFamily(name, doc, value=read())
        for name, (doc, label, read_all) in self._labelled.items():
            several = GaugeMetricFamily(name, doc, labels=[label])
            for value_of, value in read_all().items():
                several.add_metric([value_of], value)
            yield several
        for name, (doc, read) in self._counters.items():
            yield CounterMetricFamily(name, doc, value=read())
        for name, (doc, histogram) in self._histograms.items():
            family = HistogramMetricFamily(name, doc)
            family.add_metric([], _buckets(histogram.bounds, histogram.counts), histogram.total)
            yield family
        yield from self._requests()

    def _requests(self) -> "Iterator[Metric]":
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("parley_http_requests", "Answered requests", labels=["method", "path", "status"])
        times = HistogramMetricFamily("parley_http_seconds", "Time to the answer", labels=["method", "path"])
        for one in self._stats.all():
            for status, count in one.statuses.items():
                requests.add_metric([one.method, one.path, str(status)], count)
            if one.statuses:
                times.add_metric([one.method, one.path], _buckets(BOUNDS, one.times), one.seconds)
        yield requests
        yield times


def _buckets(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    """Cumulative counts as Prometheus wants them."""
    total, buckets = 0, []
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return buckets
