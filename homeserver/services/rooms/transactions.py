# SPDX-License-Identifier: Apache-2.0
"""Which requests were answered already: a transaction id means the same event for a day, also after a restart.

A transaction id belongs to a device and a path. The stored key is the device's number and a hash of the path and the
id; a caller without a device (an application service) has a scope of its own.
"""

import hashlib

import attrs
from twisted.internet.defer import Deferred

from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import events, txns
from storage.caches import Cache
from storage.txn import Txn


@attrs.frozen(slots=True)
class TxnScope:
    """A transaction id in its scope. `text` is the id as the client wrote it."""

    device: int
    key: bytes
    text: str


def scope_of(caller: User, path: str, txn_id: str) -> TxnScope:
    """The scope of a request; `path` is the path without the transaction id."""
    owner = f"{caller.usr}\n{caller.device}\n{caller.appservice_id or ''}"
    digest = hashlib.blake2b(f"{owner}\n{path}\n{txn_id}".encode("utf-8", "surrogatepass"), digest_size=16)
    return TxnScope(caller.device, digest.digest(), txn_id)


class Transactions:
    """Transaction ids used lately, in memory; older ones are found by their unique key in the database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._sent: Cache[tuple[int, bytes], str] = Cache("transactions", db.budget, lambda _key, _event: 350)
        self._echoes: Cache[str, tuple[int, str]] = Cache("local echoes", db.budget, lambda _event, _echo: 300)
        self._running: dict[tuple[int, bytes], list[Deferred[str]]] = {}

    def recall(self, scope: TxnScope) -> str | None:
        """The event sent under this id, as far as memory goes."""
        return self._sent.get((scope.device, scope.key))

    def begin(self, scope: TxnScope) -> "Deferred[str] | None":
        """Marks the request as running; when it runs already, what will have its event id."""
        key = (scope.device, scope.key)
        running = self._running.get(key)
        if running is None:
            self._running[key] = []
            return None
        follower: Deferred[str] = Deferred()
        running.append(follower)
        return follower

    def succeed(self, scope: TxnScope, event_id: str) -> None:
        """The request's event is durable."""
        key = (scope.device, scope.key)
        self._sent.put(key, event_id)
        self._echoes.put(event_id, (scope.device, scope.text))
        for follower in self._running.pop(key, ()):
            follower.callback(event_id)

    def fail(self, scope: TxnScope, error: Exception) -> None:
        """The request came to nothing; the id may be used again."""
        for follower in self._running.pop((scope.device, scope.key), ()):
            follower.errback(error)

    async def find(self, scope: TxnScope) -> str | None:
        """The event sent under this id, from the database."""
        return await self._db.point(_find, scope.device, scope.key)

    def transaction_id(self, event_id: str, device: int) -> str | None:
        """The id under which this very device sent an event, for `unsigned.transaction_id`."""
        echo = self._echoes.get(event_id)
        return echo[1] if echo is not None and device and echo[0] == device else None


def _find(txn: Txn, device: int, key: bytes) -> str | None:
    nid = txns.event_of(txn, device, key)
    event = None if nid is None else events.by_nids(txn, [nid]).get(nid)
    return None if event is None else event.event_id
