# SPDX-License-Identifier: Apache-2.0
"""Where time, chance, threads and the reactor come from; nothing else reads them."""

import logging
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorCore, IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


class Runtime:
    """The outside world as one argument.

    `clock` is the reactor, or a `twisted.internet.task.Clock` in tests, whose time then rules `now_ms` too; `reactor`
    is always the real one, for threads and sockets.
    """

    def __init__(
        self, reactor: Any, *, clock: Any = None, seed: int | None = None, epoch_ms: int | None = None
    ) -> None:
        self.reactor = reactor
        self.clock: IReactorTime = clock if clock is not None else reactor
        self.random: random.Random = random.Random(seed) if seed is not None else secrets.SystemRandom()
        self._epoch_ms = epoch_ms
        self._pools: dict[str, ThreadPool] = {}

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        if self._epoch_ms is not None:
            return self._epoch_ms + int(self.clock.seconds() * 1000)
        return int(time.time() * 1000)

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        if self._epoch_ms is not None:
            return float(self.clock.seconds())
        return time.monotonic()

    def token(self, nbytes: int = 24) -> str:
        """A random text of URL-safe characters that holds at least `nbytes` bytes of chance."""
        length = (nbytes * 8 * 100 + 582) // 583
        if isinstance(self.random, secrets.SystemRandom):
            return "".join([secrets.choice(_ALPHABET) for _ in range(length)])
        return "".join(self.random.choices(_ALPHABET, k=length))

    def call_later(self, seconds: float, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> IDelayedCall:
        return self.clock.callLater(seconds, fn, *args, **kwargs)

    def soon(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `fn` in the next turn of the reactor, whatever the clock says."""
        cast(IReactorTime, self.reactor).callLater(0, fn, *args, **kwargs)

    def call_from_thread(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run `fn` on the reactor thread soon; safe from any thread."""
        cast(IReactorThreads, self.reactor).callFromThread(fn, *args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        done: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.clock.callLater(seconds, done.callback, None)
        await done

    def background(self, name: str, work: Coroutine[Deferred[Any], Any, object]) -> None:
        """Run `work` without anybody waiting for it; what it raises is logged under `name`."""
        running = Deferred.fromCoroutine(work)
        running.addErrback(lambda failure: _log.error("%s failed", name, exc_info=failure.value))

    async def in_thread(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the general pool of 4 threads."""
        return await self.in_pool("general", 4, fn, *args, **kwargs)

    async def in_pool(self, name: str, size: int, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the pool of that name, made with `size` threads when first used."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = ThreadPool(0, size, name)
            pool.start()
            cast(IReactorCore, self.reactor).addSystemEventTrigger("after", "shutdown", self.stop)
        deferred: Deferred[T] = deferToThreadPool(self.reactor, pool, fn, *args, **kwargs)
        return await deferred

    def stop(self) -> None:
        """End the pools' threads, waiting for what they are doing."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.stop()
