# SPDX-License-Identifier: Apache-2.0
"""How often a user or an address may call, by token buckets in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Protocol

from homeserver.protocol.errors import limit_exceeded

KEYS_REMEMBERED = 20_000


class Rate(Protocol):
    """How fast a bucket fills, and how much it holds."""

    @property
    def per_second(self) -> float: ...
    @property
    def burst(self) -> int: ...


class Limits:
    """One bucket for each (limit, who). A bucket that is full again is forgotten; so are the longest unused.

    A limit without a rate of its own has that of `default`; with `rates` None nothing is limited.
    """

    def __init__(self, rates: Mapping[str, Rate] | None, remembered: int = KEYS_REMEMBERED) -> None:
        self._rates = rates
        self._remembered = remembered
        self._buckets: dict[str, OrderedDict[Hashable, tuple[float, float]]] = {}

    def change(self, rates: Mapping[str, Rate] | None) -> None:
        """Use other rates from now on."""
        self._rates = rates
        self._buckets.clear()

    def take(self, limit: str, who: Hashable, now: float) -> None:
        """Count one call at `now` (seconds, monotonic); raises M_LIMIT_EXCEEDED when the bucket is empty."""
        if self._rates is None:
            return
        rate = self._rates.get(limit) or self._rates["default"]
        buckets = self._buckets.get(limit)
        if buckets is None:
            buckets = self._buckets[limit] = OrderedDict()
        # A bucket is its content and when that was so.
        content, since = buckets.get(who, (float(rate.burst), now))
        content = min(float(rate.burst), content + (now - since) * rate.per_second)
        if content < 1.0:
            raise limit_exceeded(math.ceil((1.0 - content) / rate.per_second * 1000))
        buckets[who] = (content - 1.0, now)
        buckets.move_to_end(who)
        self._forget(buckets, rate, now)

    def _forget(self, buckets: "OrderedDict[Hashable, tuple[float, float]]", rate: Rate, now: float) -> None:
        for _ in range(2):
            oldest = next(iter(buckets))
            content, since = buckets[oldest]
            if len(buckets) <= self._remembered and content + (now - since) * rate.per_second < rate.burst:
                break
            if len(buckets) == 1:
                break
            del buckets[oldest]
