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

    A limit without a rate of its own has that of `default`; with `rates` None nothing is limited. `factors` says how
    much faster than others a user may call, by user id; 0 for one who is not limited.
    """

    def __init__(
        self,
        rates: Mapping[str, Rate] | None,
        remembered: int = KEYS_REMEMBERED,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        self._rates = rates
        self._factors = factors or {}
        self._remembered = remembered
        self._buckets: dict[str, OrderedDict[Hashable, tuple[float, float]]] = {}

    def change(self, rates: Mapping[str, Rate] | None, factors: Mapping[str, float] | None = None) -> None:
        """Use other rates from now on."""
        self._rates = rates
        self._factors = factors or {}
        self._buckets.clear()

    def take_of_user(self, limit: str, usr: int, user_id: str, now: float) -> None:
        """`take` for a user, who may have a factor of their own."""
        factor = self._factors.get(user_id, 1.0) if self._factors else 1.0
        if factor:
            self.take(limit, usr, now, 1.0 / factor)

    def take(self, limit: str, who: Hashable, now: float, cost: float = 1.0) -> None:
        """Count one call at `now` (seconds, monotonic); raises M_LIMIT_EXCEEDED when the bucket holds less."""
        if self._rates is None:
            return
        rate = self._rates.get(limit) or self._rates["default"]
        cost = min(cost, rate.burst)
        buckets = self._buckets.get(limit)
        if buckets is None:
            buckets = self._buckets[limit] = OrderedDict()
        # A bucket is its content and when that was so.
        content, since = buckets.get(who, (float(rate.burst), now))
        content = min(float(rate.burst), content + (now - since) * rate.per_second)
        if content < cost:
            raise limit_exceeded(math.ceil((cost - content) / rate.per_second * 1000))
        buckets[who] = (content - cost, now)
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
