# SPDX-License-Identifier: Apache-2.0
"""The values that a sliding sync answer is made from."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from homeserver.protocol.filters import PASS_ALL
from homeserver.protocol.ignoring import InvitePolicy
from homeserver.services.callers import User
from homeserver.services.sync.news import News
from homeserver.services.sync.plan import Plan, Request
from homeserver.services.sync.rooms import Parts
from homeserver.services.sync.sight import Viewer
from homeserver.services.sync.sliding.connections import Connection, Connections
from homeserver.services.sync.sliding.facts import FactsOfRooms
from homeserver.services.sync.sliding.request import SlidingRequest
from homeserver.services.sync.sliding.state_config import RoomConfig
from homeserver.services.sync.tokens import SyncToken
from storage.sync_reads import Membership


@attrs.frozen(slots=True)
class Tools:
    """What building an answer needs besides the database."""

    parts: Parts
    facts: FactsOfRooms
    connections: Connections


@attrs.frozen(slots=True)
class Job:
    """One answer to make: for whom, to what, from where to where, and what may have happened in between."""

    user: User
    request: SlidingRequest
    connection: Connection
    upto: SyncToken
    news: News
    ignored: frozenset[str]
    invites: InvitePolicy
    typing: Mapping[int, list[str]]
    tools: Tools

    @property
    def since(self) -> SyncToken | None:
        return self.connection.token

    @property
    def after(self) -> int:
        """The position that the connection has come to; 0 when it starts."""
        return 0 if self.connection.token is None else self.connection.token.pos

    @property
    def wishes(self) -> object:
        """What the request asks of rooms: while that stays the same, only news can change an answer."""
        return self.request.lists, self.request.subscriptions

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.user.usr, self.user.user_id)

    @property
    def plan(self) -> Plan:
        """What rendering wants to know."""
        return Plan(
            request=Request(self.user, PASS_ALL),
            since=self.since,
            upto=self.upto,
            rooms=self.news.rooms,
            memberships=self.news.memberships,
            own=self.news.own,
            private_reads=self.news.private_reads,
            device_lists=self.news.device_lists,
            ignored=self.ignored,
            invites=self.invites,
            typing=self.typing,
            typing_changed=self.news.typing_changed,
            state_rooms=self.news.state_rooms,
            receipt_rooms=self.news.receipt_rooms,
        )


@attrs.frozen(slots=True)
class SlidingAsk:
    """One room of an answer. `since` is the position the client has of it, None: nothing (`initial`).

    `expanded`: the timeline is to be longer than before. `before` is the config of which the client has the state,
    where the present one wants more.
    """

    room: int
    room_id: str
    standing: Membership
    config: RoomConfig
    since: int | None
    expanded: bool = False
    before: RoomConfig | None = None
    lists: tuple[str, ...] = ()

    @property
    def initial(self) -> bool:
        return self.since is None
