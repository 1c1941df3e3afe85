# SPDX-License-Identifier: Apache-2.0
"""How much memory cached values may take: one budget in bytes, shared by every cache."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
TreeRow = tuple[int, int]
TreeNodes = tuple[Any, ...]


class Budget:
    """A number of bytes that caches share. When it is exceeded the largest cache gives up its oldest entries first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.lock = Lock()
        self._caches: list[Cache[Any, Any]] = []

    def join(self, cache: "Cache[Any, Any]") -> None:
        """Makes a cache one of those that share."""
        self._caches.append(cache)

    def report(self) -> dict[str, tuple[int, int]]:
        """Name of each cache with its entries and bytes."""
        return {cache.name: (len(cache), cache.bytes) for cache in self._caches}

    def shrink(self) -> None:
        """Evicts until the sum is within the limit. The caller holds the lock."""
        while self.used > self.limit:
            cache = max(self._caches, key=lambda one: one.bytes)
            if not cache.evict(self.used - self.limit):
                return


class Cache(Generic[K, V]):
    """The most recently used values, counted in bytes by `weigh`. Reading and writing from several threads is safe."""

    def __init__(self, name: str, budget: Budget, weigh: Callable[[K, V], int]) -> None:
        self.name = name
        self.bytes = 0
        self._budget = budget
        self._weigh = weigh
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        budget.join(self)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which is now the one used last."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            self._entries.move_to_end(key)
        except KeyError:  # evicted by another thread meanwhile
            pass
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Keeps a value, and evicts what is too much."""
        weight = self._weigh(key, value)
        budget = self._budget
        with budget.lock:
            old = self._entries.pop(key, None)
            self._entries[key] = (value, weight)
            change = weight if old is None else weight - old[1]
            self.bytes += change
            budget.used += change
            if budget.used > budget.limit:
                budget.shrink()

    def drop(self, key: K) -> None:
        """Forgets one value."""
        with self._budget.lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self.bytes -= old[1]
                self._budget.used -= old[1]

    def clear(self) -> None:
        """Forgets everything."""
        with self._budget.lock:
            self._entries.clear()
            self._budget.used -= self.bytes
            self.bytes = 0

    def evict(self, wanted: int) -> int:
        """Forgets oldest entries until `wanted` bytes are free or nothing is left; the caller holds the lock."""
        freed = 0
        while freed < wanted and self._entries:
            _, (_, weight) = self._entries.popitem(last=False)
            freed += weight
        self.bytes -= freed
        self._budget.used -= freed
        return freed


class Names:
    """Numbers of users, rooms, event types and state keys, both ways, and rows of state trees.

    What is committed never changes, so any thread may read.

    Emptied as a whole when it has grown over its bound: a miss only costs a look-up by key.
    """

    def __init__(self, node_cache: "Cache[TreeRow, TreeNodes] | None" = None, bound: int = 200_000) -> None:
        self._bound = bound
        self.node_cache = node_cache
        self.nodes: dict[TreeRow, TreeNodes] = {}
        self.counters: dict[str, int] = {}
        """Table -> the last number given in it."""
        self.users: dict[str, int] = {}
        self.user_ids: dict[int, str] = {}
        self.rooms: dict[str, int] = {}
        self.room_ids: dict[int, tuple[str, str]] = {}
        self.types: dict[str, int] = {}
        self.type_names: dict[int, str] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.key_names: dict[int, tuple[str, str]] = {}

    def _tables(self) -> tuple[dict[object, object], ...]:
        return (
            self.users,
            self.user_ids,
            self.rooms,
            self.room_ids,
            self.types,
            self.type_names,
            self.keys,
            self.key_names,
        )  # type: ignore[return-value]

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables())

    @property
    def bytes(self) -> int:
        """An estimate: names are mostly 30 to 60 characters, kept once and indexed twice."""
        return 180 * len(self)

    def absorb(self, fresh: "Names") -> None:
        """Takes over what a transaction learned, after its commit."""
        if len(self) > self._bound:
            self.clear()
        for mine, theirs in zip(self._tables(), fresh._tables(), strict=True):
            mine.update(theirs)
        self.counters.update(fresh.counters)
        if self.node_cache is not None:
            for key, nodes in fresh.nodes.items():
                self.node_cache.put(key, nodes)

    def clear(self) -> None:
        for table in self._tables():
            table.clear()
