# SPDX-License-Identifier: Apache-2.0
"""The list of what a user was notified of, page by page, newest first."""

from typing import Any

from homeserver.protocol.errors import invalid_param
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.push_decisions import Decided, decide
from homeserver.services.rooms.render import Renderer
from storage import notifications, unread
from storage.txn import Txn

USUAL, MOST = 20, 100
HIGHLIGHT = "highlight"
#: How many pages' worth of events are looked through for one page, where the user's rules sort most of them out.
ROUNDS = 20
END = 2**42


class Notifications:
    """`GET /notifications`."""

    def __init__(self, database: Database, renderer: Renderer) -> None:
        self._database = database
        self._renderer = renderer

    async def page(self, user: User, start: str | None, limit: int, only: str | None) -> dict[str, Any]:
        """One page. Raises M_INVALID_PARAM for a token that is not one of ours."""
        if start is not None and not (start.isascii() and start.isdecimal() and len(start) < 13):
            raise invalid_param("from is not a token of this server")
        before = END if start is None else int(start)
        limit = max(1, min(limit, MOST))
        found, following = await self._database.read(_find, user.usr, before, limit, only == HIGHLIGHT)
        rooms = sorted({one.event.room for one in found})
        floors = await self._database.read(unread.floors, user.usr, rooms)
        shown = await self._renderer.client_events([one.event for one in found], user)
        notified = []
        for one, event in zip(found, shown, strict=True):
            notified.append(
                {
                    "actions": list(one.rule.actions),
                    "event": {name: value for name, value in event.items() if name != "room_id"},
                    "read": _is_read(one, floors[one.event.room]),
                    "room_id": event["room_id"],
                    "ts": one.event.ts,
                }
            )
        page: dict[str, Any] = {"notifications": notified}
        if following is not None:
            page["next_token"] = str(following)
        return page


def _is_read(one: Decided, floors: unread.Floors) -> bool:
    thread = one.event.thread
    floor = floors.main if thread is None else max(floors.base, floors.threads.get(thread, 0))
    return one.event.ord is not None and one.event.ord <= floor


def _find(txn: Txn, usr: int, before: int, limit: int, highlights: bool) -> tuple[list[Decided], int | None]:
    """The events of a page, and the number that the next one starts before; None: there is no more."""
    found: list[Decided] = []
    for _ in range(ROUNDS):
        nids = notifications.notified_before(txn, usr, before, limit)
        for one in decide(txn, usr, nids):
            if one.rule.highlights or not highlights:
                found.append(one)
                if len(found) == limit:
                    return found, one.event.nid
        if len(nids) < limit:
            return found, None
        before = nids[-1]
    return found, before
