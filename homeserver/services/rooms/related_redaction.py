# SPDX-License-Identifier: Apache-2.0
"""Knows how a redaction takes with it what relates to the redacted event (MSC3912)."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from homeserver.protocol.errors import MatrixError, bad_json
from homeserver.protocol.events import Draft
from homeserver.protocol.relations import relation_of
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.send import Sender
from storage import events, related
from storage.txn import Txn

KEYS = ("with_rel_types", "org.matrix.msc3912.with_relations")
EVERY = "*"
REDACTION = "m.room.redaction"

Background = Callable[[str, Coroutine[Deferred[Any], Any, object]], None]


class RelatedRedactions:
    """Redacts, after an event, those that relate to it in ways that the sender named and may redact."""

    def __init__(self, db: Database, sender: Sender, background: Background) -> None:
        self._db = db
        self._sender = sender
        self._background = background

    def wanted(self, body: dict[str, Any]) -> Sequence[str]:
        """The relation types that a redaction's body names, taken out of it. Raises M_BAD_JSON for what are none."""
        named: list[str] = []
        for key in KEYS:
            given = body.pop(key, None)
            if given is not None and (not isinstance(given, list) or not all(isinstance(one, str) for one in given)):
                raise bad_json(f"{key} must be a list of relation types")
            named += given or []
        return named

    def follow(self, user: User, room_id: str, event_id: str, rel_types: Sequence[str], reason: object) -> None:
        """Redact what relates to an event in one of these ways, behind the answer."""
        if rel_types:
            self._background("redacting relations", self._redact(user, room_id, event_id, rel_types, reason))

    async def _redact(self, user: User, room_id: str, event_id: str, rel_types: Sequence[str], reason: object) -> None:
        content: dict[str, Any] = {"reason": reason} if isinstance(reason, str) else {}
        for child in await self._db.read(_children, event_id, rel_types):
            draft = Draft(REDACTION, content, user.user_id, None, child)
            try:
                await self._sender.send(user, room_id, draft)
            except MatrixError:
                # "If the user is not permitted to redact a related event, that event is left as it is."
                continue


def _children(txn: Txn, event_id: str, rel_types: Sequence[str]) -> list[str]:
    """The ids of the events that relate to one in one of these ways."""
    parent = events.nid_of(txn, event_id)
    if parent is None:
        return []
    found = events.by_nids(txn, related.children(txn, [parent], None))
    chosen = []
    for event in found.values():
        relation = relation_of(orjson.loads(event.content))
        if relation is not None and (EVERY in rel_types or relation.rel_type in rel_types):
            chosen.append(event.event_id)
    return chosen
