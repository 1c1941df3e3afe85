# SPDX-License-Identifier: Apache-2.0
"""Knows which rooms a connection's lists and subscriptions match right now, in order of recent activity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from homeserver.services.sync.sliding.connections import Connection
from homeserver.services.sync.sliding.facts import FactsOfRooms, Sieve
from homeserver.services.sync.sliding.request import ListRequest, SlidingRequest
from homeserver.services.sync.sliding.state_config import Interned, RoomConfig, combine
from storage import names
from storage.membership import BAN, INVITE, JOIN, KNOCK
from storage.rooms import last_positions
from storage.sync_reads import Membership, memberships, senders_of
from storage.txn import Txn


@attrs.frozen(slots=True)
class ListResult:
    """A list: how many rooms are in it, and the rooms in each of its windows."""

    count: int
    windows: tuple[tuple[tuple[int, int], tuple[int, ...]], ...]

    def rooms(self) -> Iterable[int]:
        return (room for _, rooms in self.windows for room in rooms)


@attrs.frozen(slots=True)
class Matched:
    """Every room that a request matches, with its combined config and the names of the lists it is in."""

    lists: Mapping[str, ListResult]
    configs: Mapping[int, RoomConfig]
    in_lists: Mapping[int, tuple[str, ...]]


def refresh(txn: Txn, connection: Connection, usr: int, upto: int, changed: frozenset[int] | None) -> None:
    """Bring what the connection knows of the user's rooms up to date; `changed` are rooms with news, None: unknown."""
    if connection.standings is None or changed is None:
        known = {one.room: one for one in memberships(txn, usr)}
        fresh = known
    else:
        known = connection.standings
        fresh = {one.room: one for one in memberships(txn, usr, connection.standings_at)}
        known.update(fresh)
    own = names.user_id(txn, usr)
    ended = [one for one in fresh.values() if one.kind not in (JOIN, INVITE, KNOCK)]
    senders = senders_of(txn, [one.event for one in ended])
    for one in ended:
        sent = one.room in connection.sent or (connection.step is not None and one.room in connection.step.sent)
        if one.forgotten or (one.kind != BAN and senders.get(one.event) == own and not sent):
            known.pop(one.room)
    connection.standings = known
    connection.standings_at = upto
    _refresh_recency(txn, connection, fresh, changed)


def _refresh_recency(
    txn: Txn, connection: Connection, fresh: Mapping[int, Membership], changed: frozenset[int] | None
) -> None:
    known = connection.standings or {}
    moved = known.keys() if changed is None or not connection.recency else (changed | fresh.keys()) & known.keys()
    inside = [room for room in moved if known[room].kind == JOIN]
    connection.recency.update({room: known[room].since for room in moved})
    if inside:
        connection.recency.update(last_positions(txn, inside))


def match(
    txn: Txn, usr: int, connection: Connection, request: SlidingRequest, facts: FactsOfRooms, interned: Interned
) -> Matched:
    """The rooms that the request's lists and subscriptions match."""
    standings = connection.standings or {}
    recency = connection.recency
    ordered = sorted(standings, key=lambda room: (-recency.get(room, 0), room))
    sieve = Sieve(txn, usr, facts, standings)
    lists = {name: _window(sieve.passing(ordered, one.filter), one) for name, one in request.lists.items()}
    wishes: dict[int, list[RoomConfig]] = {}
    in_lists: dict[int, list[str]] = {}
    for name, result in lists.items():
        for room in result.rooms():
            wishes.setdefault(room, []).append(request.lists[name].config)
            in_lists.setdefault(room, []).append(name)
    for room_id, config in request.subscriptions.items():
        number = names.room_nid(txn, room_id)
        if number is not None and number in standings:
            wishes.setdefault(number, []).append(config)
    combined: dict[tuple[int, ...], RoomConfig] = {}
    configs = {}
    for room, wished in wishes.items():
        key = tuple(id(one) for one in wished)
        if key not in combined:
            combined[key] = interned.of(combine(wished) if len(wished) > 1 else wished[0])
        configs[room] = combined[key]
    return Matched(lists, configs, {room: tuple(found) for room, found in in_lists.items()})


def _window(rooms: list[int], one: ListRequest) -> ListResult:
    if one.windows is None:
        return ListResult(len(rooms), (((0, max(len(rooms) - 1, 0)), tuple(rooms)),))
    windows = tuple(((first, last), tuple(rooms[first : last + 1])) for first, last in one.windows)
    return ListResult(len(rooms), windows)
