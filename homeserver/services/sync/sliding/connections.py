# SPDX-License-Identifier: Apache-2.0
"""Knows what each sliding sync connection was sent, so that the next answer holds what is new to it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import MatrixError
from homeserver.services.sync.sliding.request import RoomListFilter, SlidingRequest
from homeserver.services.sync.sliding.state_config import Interned, Pattern, RoomConfig, StateConfig
from homeserver.services.sync.tokens import SyncToken, parse_sync_token
from storage.sync_reads import Membership

PER_DEVICE = 10
#: How many rooms all connections together remember; a connection itself counts as some.
ROOMS_REMEMBERED = 500_000
CONNECTION_WEIGHT = 20

Key = tuple[int, int, str]


def unknown_pos() -> MatrixError:
    """The answer to a position that the connection does not have: the client starts over."""
    return MatrixError(400, "M_UNKNOWN_POS", "This position is not known any more; start again without one")


@attrs.frozen(slots=True)
class SentRoom:
    """What a connection has of a room: by which config, and as whom the user was standing to it (a membership kind)."""

    config: RoomConfig
    kind: int


@attrs.frozen(slots=True)
class Step:
    """What one answer adds to what its connection was sent.

    `stale` has rooms that were left behind, and since when; `direct` are the rooms known as direct chats then.
    """

    seq: int
    token: SyncToken
    sent: Mapping[int, SentRoom]
    stale: Mapping[int, int]
    fresh: frozenset[int]
    asked: object
    direct: frozenset[str] = frozenset()


@attrs.define(eq=False)
class Connection:
    """What one sync loop of one device was sent, up to the last position that it came back with.

    `step` is the answer that it may or may not have got. The rest are facts of now, kept from one request to the next.
    """

    key: Key
    nonce: str
    number: int
    seq: int = 0
    token: SyncToken | None = None
    sent: dict[int, SentRoom] = attrs.field(factory=dict)
    stale: dict[int, int] = attrs.field(factory=dict)
    asked: object = None
    direct: frozenset[str] = frozenset()
    step: Step | None = None
    turn: int = 0
    issued: int = 0
    standings: dict[int, Membership] | None = None
    standings_at: int = 0
    standings_changed: int = 0
    ordered: list[int] = attrs.field(factory=list)
    ordered_at: int = 0
    passing: dict[RoomListFilter, frozenset[int]] = attrs.field(factory=dict)
    leaving: set[int] = attrs.field(factory=set)
    recency: dict[int, int] = attrs.field(factory=dict)

    def arrive(self, seq: int) -> bool:
        """The client came with the position `seq`; false when that is not one it may have."""
        if self.step is not None and seq == self.step.seq:
            step, self.step = self.step, None
            self.seq, self.token, self.asked, self.direct = step.seq, step.token, step.asked, step.direct
            self.sent.update(step.sent)
            for room in step.fresh:
                self.stale.pop(room, None)
            for room, since in step.stale.items():
                self.stale.setdefault(room, since)
            return True
        if seq != self.seq:
            return False
        self.step = None
        return True

    def next_seq(self) -> int:
        """A number that no answer of this connection has had."""
        self.issued += 1
        return self.issued

    def pos(self, step: Step) -> str:
        return f"{step.token}.{self.nonce}.{step.seq}"


class Connections:
    """The connections that are known, the ones not heard of for longest forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Connection] = OrderedDict()
        self._names: dict[tuple[int, int], list[str]] = {}
        self._weights: dict[Key, int] = {}
        self._weight = 0
        self.configs = Interned()
        self._numbers = 0

    def open(self, usr: int, device: int, request: SlidingRequest, nonce: str) -> Connection:
        """The connection that a request is of, at the position that the request has; a new one where it has none."""
        key = (usr, device, request.connection)
        if request.pos is None:
            return self._new(key, nonce)
        connection = self._known.get(key)
        _, given_nonce, seq = read_pos(request.pos)
        if connection is None or connection.nonce != given_nonce or not connection.arrive(seq):
            raise unknown_pos()
        self._known.move_to_end(key)
        self._weigh(connection)
        return connection

    def knows(self, usr: int, device: int, name: str) -> bool:
        return (usr, device, name) in self._known

    def adopt(self, usr: int, device: int, name: str, document: bytes) -> None:
        """Take up a connection as it was saved."""
        self._numbers += 1
        connection = load(document, (usr, device, name), self._numbers, self.configs)
        self._keep(connection)

    def __len__(self) -> int:
        return len(self._known)

    def saved(self) -> list[tuple[int, int, str, bytes]]:
        """Every connection as (user, device, name, document), to be adopted after a restart."""
        return [(*key, dump(connection)) for key, connection in self._known.items()]

    def _new(self, key: Key, nonce: str) -> Connection:
        self._numbers += 1
        connection = Connection(key, nonce, self._numbers)
        self._keep(connection)
        return connection

    def _keep(self, connection: Connection) -> None:
        key = connection.key
        self._known[key] = connection
        self._known.move_to_end(key)
        names = self._names.setdefault(key[:2], [])
        if key[2] in names:
            names.remove(key[2])
        names.append(key[2])
        if len(names) > PER_DEVICE:
            self._drop((*key[:2], names[0]))
        self._weigh(connection)

    def _weigh(self, connection: Connection) -> None:
        """Take account of what a connection remembers now, and forget the oldest others where that is too much."""
        weight = CONNECTION_WEIGHT + len(connection.sent)
        self._weight += weight - self._weights.get(connection.key, 0)
        self._weights[connection.key] = weight
        while self._weight > ROOMS_REMEMBERED and len(self._known) > 1:
            self._drop(next(iter(self._known)))

    def _drop(self, key: Key) -> None:
        del self._known[key]
        self._weight -= self._weights.pop(key, 0)
        names = self._names[key[:2]]
        names.remove(key[2])
        if not names:
            del self._names[key[:2]]


def read_pos(text: str) -> tuple[SyncToken, str, int]:
    """The parts of a position; raises M_UNKNOWN_POS for what is none."""
    token, _, rest = text.partition(".")
    nonce, _, seq = rest.partition(".")
    if not (nonce and seq.isascii() and seq.isdecimal() and len(seq) < 16):
        raise unknown_pos()
    try:
        return parse_sync_token(token), nonce, int(seq)
    except MatrixError:
        raise unknown_pos() from None


# Saving over a restart


def dump(connection: Connection) -> bytes:
    """A connection as JSON: its base and the answer that is on its way."""
    configs: dict[RoomConfig, int] = {}

    def rooms(sent: Mapping[int, SentRoom]) -> list[tuple[int, int, int]]:
        return [(room, one.kind, configs.setdefault(one.config, len(configs))) for room, one in sent.items()]

    step = connection.step
    document: dict[str, Any] = {
        "nonce": connection.nonce,
        "seq": connection.seq,
        "issued": connection.issued,
        "token": None if connection.token is None else str(connection.token),
        "sent": rooms(connection.sent),
        "stale": list(connection.stale.items()),
        "direct": list(connection.direct),
        "step": None,
    }
    if step is not None:
        document["step"] = {
            "seq": step.seq,
            "token": str(step.token),
            "sent": rooms(step.sent),
            "stale": list(step.stale.items()),
            "fresh": list(step.fresh),
            "direct": list(step.direct),
        }
    document["configs"] = [_dump_config(config) for config in configs]
    return orjson.dumps(document)


def load(document: bytes, key: Key, number: int, interned: Interned) -> Connection:
    """The connection of a document."""
    saved = orjson.loads(document)
    configs = [interned.of(_load_config(config)) for config in saved["configs"]]

    def rooms(sent: list[tuple[int, int, int]]) -> dict[int, SentRoom]:
        return {room: SentRoom(configs[config], kind) for room, kind, config in sent}

    connection = Connection(
        key,
        saved["nonce"],
        number,
        seq=saved["seq"],
        issued=saved["issued"],
        token=None if saved["token"] is None else parse_sync_token(saved["token"]),
        sent=rooms(saved["sent"]),
        stale={room: since for room, since in saved["stale"]},
        direct=frozenset(saved["direct"]),
    )
    step = saved["step"]
    if step is not None:
        stale = {room: since for room, since in step["stale"]}
        token = parse_sync_token(step["token"])
        connection.step = Step(
            seq=step["seq"],
            token=token,
            sent=rooms(step["sent"]),
            stale=stale,
            fresh=frozenset(step["fresh"]),
            asked=None,
            direct=frozenset(step["direct"]),
        )
    return connection


def _dump_config(config: RoomConfig) -> list[Any]:
    states = [
        [[tuple(pattern) for pattern in part] for part in (one.include, one.exclude)] + [one.lazy]
        for one in config.states
    ]
    return [config.timeline_limit, states]


def _load_config(saved: list[Any]) -> RoomConfig:
    limit, states = saved
    first, *more = [
        StateConfig(
            frozenset(Pattern(*pair) for pair in include), frozenset(Pattern(*pair) for pair in exclude), bool(lazy)
        )
        for include, exclude, lazy in states
    ]
    return RoomConfig(limit, first, frozenset(more))
