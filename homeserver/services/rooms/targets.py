# SPDX-License-Identifier: Apache-2.0
"""What an event points at: the parent it relates to, the thread it is thereby in, the event it redacts."""

from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.events import Event
from homeserver.protocol.relations import (
    ANNOTATION,
    THREAD,
    Relation,
    check_thread_root,
    duplicate_annotation,
    relation_of,
)
from storage import events, names, relations
from storage.append import Redacting, Relating
from storage.events import REDACTED, StoredEvent
from storage.txn import Txn


@attrs.frozen(slots=True)
class Link:
    """A relation with what it means for the thread of the event (nid of the root, None: main timeline)."""

    relating: Relating
    thread: int | None


@attrs.frozen(slots=True)
class Target:
    """An event that is to be redacted: as clients see it, as the rules see it, and what it relates to."""

    stored: StoredEvent
    event: Event
    relation: tuple[int, int] | None

    def redacting(self) -> Redacting | None:
        """The write that redacts it; None when it is redacted already."""
        if self.stored.flags & REDACTED:
            return None
        pdu, span = encoded(self.event.redacted().pdu)
        return Redacting(self.stored.nid, pdu, span, self.stored.ord, self.relation)


def encoded(pdu: Mapping[str, Any]) -> tuple[bytes, tuple[int, int]]:
    """A PDU's canonical JSON and where the content lies in it."""
    content = canonical_json.encode(pdu["content"])
    before = canonical_json.encode({key: value for key, value in pdu.items() if key < "content"})
    start = len(before) - 1 + (1 if len(before) > 2 else 0) + len(b'"content":')
    return canonical_json.encode(pdu), (start, start + len(content))


def find_link(txn: Txn, room: int, content: Mapping[str, Any]) -> Link | None:
    """The relation of an event of this content; one to an event of another room counts for nothing."""
    relation = relation_of(content)
    if relation is None:
        return None
    kind = relations.kind_of(relation.rel_type)
    parent = events.by_id(txn, relation.event_id)
    if parent is None:
        return Link(Relating(kind, None, events.pack_id(relation.event_id)), None)
    if parent.room != room:
        return None
    thread = parent.nid if relation.rel_type == THREAD else parent.thread
    return Link(Relating(kind, parent.nid, events.pack_id(relation.event_id)), thread)


def check_relation(txn: Txn, sender: str, event_type: str, content: Mapping[str, Any]) -> None:
    """Raises what a local sender is told of a bad relation: a thread on a relation, the same annotation twice."""
    relation = relation_of(content)
    if relation is None or relation.rel_type not in (THREAD, ANNOTATION):
        return
    parent = events.by_id(txn, relation.event_id)
    if parent is None:
        return
    if relation.rel_type == THREAD:
        check_thread_root(orjson.loads(parent.content))
    elif _is_annotated(txn, parent.nid, sender, event_type, relation):
        raise duplicate_annotation()


def _is_annotated(txn: Txn, parent: int, sender: str, event_type: str, relation: Relation) -> bool:
    usr, kind = names.user_nid(txn, sender), names.etype_nid(txn, event_type)
    if usr is None or kind is None:
        return False
    contents = relations.annotations_by(txn, parent, usr, kind)
    others = (relation_of(orjson.loads(content)) for content in contents)
    return any(other is not None and other.key == relation.key for other in others)


def find_target(txn: Txn, room: int, event_id: str) -> Target | None:
    """The event of this room that a redaction names."""
    stored = events.by_id(txn, event_id, room)
    if stored is None:
        return None
    event = events.load(txn, [stored.nid])[stored.nid]
    link = find_link(txn, room, event.content)
    related = None
    if link is not None and link.relating.parent is not None:
        related = (link.relating.parent, link.relating.kind)
    return Target(stored, event, related)


def require_here(txn: Txn, room: int, event_id: str) -> None:
    """Raises what a local sender is told who redacts an event of another room."""
    found = events.by_id(txn, event_id)
    if found is not None and found.room != room:
        raise MatrixError(400, "M_INVALID_PARAM", "The event to redact is in another room")


def check_target(target: Target | None, sender: str, level: float, redact_level: int) -> None:
    """Raises what a local sender is told who may not redact this: 404 or 403."""
    if target is None:
        raise MatrixError(404, "M_NOT_FOUND", "The event to redact is not in this room")
    if target.event.type == "m.room.create":
        raise MatrixError(403, "M_FORBIDDEN", "The create event cannot be redacted")
    # "If the sender's power level is greater than or equal to the redact level" others' events may be redacted; that
    # of the same server may by the rules is for the server to decide, and this one lets nobody redact for another.
    if target.event.sender != sender and level < redact_level:
        raise MatrixError(403, "M_FORBIDDEN", "You may redact your own events only")
