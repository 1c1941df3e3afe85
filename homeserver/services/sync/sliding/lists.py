# SPDX-License-Identifier: Apache-2.0
"""Knows which rooms a connection's lists and subscriptions match right now, in order of recent activity."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from homeserver.services.sync.news import News
from homeserver.services.sync.sliding.connections import Connection
from homeserver.services.sync.sliding.facts import FactsOfRooms, Sieve
from homeserver.services.sync.sliding.request import ListRequest, RoomListFilter, SlidingRequest
from homeserver.services.sync.sliding.state_config import Interned, RoomConfig, combine
from storage import names
from storage.membership import BAN, INVITE, JOIN, KNOCK
from storage.rooms import last_positions
from storage.sync_reads import Membership, memberships, senders_of
from storage.txn import Txn

NO_FILTER = RoomListFilter()
PRESENT = (JOIN, INVITE, KNOCK)
FILTERS_KEPT = 20


@attrs.frozen(slots=True)
class ListResult:
    """A list: how many rooms are in it, the rooms in each of its windows, and all of these together."""

    count: int
    windows: tuple[tuple[tuple[int, int], tuple[int, ...]], ...]
    rooms: frozenset[int]


class Matched:
    """The rooms that a request matches. Configs are combined when one is asked for: most rooms have no news."""

    def __init__(
        self, request: SlidingRequest, lists: Mapping[str, ListResult], subscribed: Mapping[int, RoomConfig]
    ) -> None:
        self.lists = lists
        self.subscribed = subscribed
        self.rooms: frozenset[int] = frozenset(subscribed).union(*(result.rooms for result in lists.values()))
        self._request = request

    def lists_of(self, room: int) -> tuple[str, ...]:
        """The lists that have the room in a window."""
        return tuple(name for name, result in self.lists.items() if room in result.rooms)

    def config_of(self, room: int, interned: Interned) -> RoomConfig:
        """What all lists and subscriptions together want of the room."""
        wished = [self._request.lists[name].config for name in self.lists_of(room)]
        if room in self.subscribed:
            wished.append(self.subscribed[room])
        return interned.of(combine(wished) if len(wished) > 1 else wished[0])


def refresh(txn: Txn, connection: Connection, usr: int, upto: int, changed: frozenset[int] | None) -> None:
    """Bring what the connection knows of the user's rooms up to date; `changed` are rooms with news, None: unknown."""
    if connection.standings is None or changed is None:
        known = {one.room: one for one in memberships(txn, usr)}
        fresh = known
    else:
        known = connection.standings
        fresh = {one.room: one for one in memberships(txn, usr, connection.standings_at)}
        known.update(fresh)
    ended = [one for one in fresh.values() if one.kind not in PRESENT]
    senders = senders_of(txn, [one.event for one in ended])
    own = names.user_id(txn, usr)
    for one in ended:
        if one.forgotten:
            known.pop(one.room)
        elif one.kind != BAN and senders.get(one.event) == own:
            connection.leaving.add(one.room)
    told = _told_of_leaving(connection, known)
    for room in told:
        known.pop(room, None)
    connection.standings = known
    connection.standings_at = upto
    connection.standings_changed += bool(fresh or told)
    _refresh_recency(txn, connection, fresh, changed)


def _told_of_leaving(connection: Connection, known: Mapping[int, Membership]) -> list[int]:
    """Rooms that the user left, which leave the list once the client knows, or at once where it never had them.

    Rooms that the user was kicked or banned from stay, so that the user gets to see it.
    """
    told = []
    for room in list(connection.leaving):
        standing, sent = known.get(room), connection.sent.get(room)
        if standing is None or standing.kind in PRESENT:
            connection.leaving.discard(room)
        elif sent is None or sent.kind not in PRESENT:
            connection.leaving.discard(room)
            told.append(room)
    return told


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
    txn: Txn, usr: int, connection: Connection, request: SlidingRequest, facts: FactsOfRooms, news: News
) -> Matched:
    """The rooms that the request's lists and subscriptions match."""
    standings = connection.standings or {}
    ordered = _ordered(connection, standings)
    if news.own or news.memberships or news.state_rooms is None or not standings.keys().isdisjoint(news.state_rooms):
        connection.passing.clear()
    sieve = Sieve(txn, usr, facts, standings)
    lists = {name: _window(_passing(connection, sieve, ordered, one), one) for name, one in request.lists.items()}
    subscribed = {}
    for room_id, config in request.subscriptions.items():
        number = names.room_nid(txn, room_id)
        if number is not None and number in standings:
            subscribed[number] = config
    return Matched(request, lists, subscribed)


def _passing(connection: Connection, sieve: Sieve, ordered: list[int], one: ListRequest) -> list[int]:
    """The rooms that pass a list's filter, in order; which they are is kept until something may have changed that."""
    if one.filter == NO_FILTER:
        return ordered
    passing = connection.passing.get(one.filter)
    if passing is None:
        if len(connection.passing) >= FILTERS_KEPT:
            connection.passing.clear()
        passing = connection.passing[one.filter] = frozenset(sieve.passing(ordered, one.filter))
    return [room for room in ordered if room in passing]


def _ordered(connection: Connection, standings: Mapping[int, Membership]) -> list[int]:
    """The rooms by recent activity. Sorting what was sorted before costs little."""
    if len(connection.ordered) != len(standings) or connection.ordered_at != connection.standings_changed:
        connection.ordered = list(standings)
        connection.ordered_at = connection.standings_changed
    recency = connection.recency
    connection.ordered.sort(key=recency.__getitem__, reverse=True)
    return connection.ordered


def _window(rooms: list[int], one: ListRequest) -> ListResult:
    if one.windows is None:
        everything = tuple(rooms)
        return ListResult(len(rooms), (((0, max(len(rooms) - 1, 0)), everything),), frozenset(everything))
    windows = tuple(((first, last), tuple(rooms[first : last + 1])) for first, last in one.windows)
    return ListResult(len(rooms), windows, frozenset(room for _, part in windows for room in part))
