# SPDX-License-Identifier: Apache-2.0
"""Knows how the event stream becomes what can be searched: words of messages, names and topics, people in rooms."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import attrs
import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from homeserver.protocol.relations import REPLACE, relation_of
from homeserver.services.database import Database
from homeserver.services.rooms.bundles import bundles_of
from homeserver.services.rooms.summary import topic_of
from storage import events, names, profiles, search, timeline, user_directory
from storage.db import Change
from storage.events import StoredEvent
from storage.search import BODY, NAME, TOPIC, Doc
from storage.search_text import words_of
from storage.txn import Txn
from storage.user_directory import JOINABLE, READABLE, Person

READER = "search"
BATCH = 500
LATEST = 2**62
#: How long after a commit the index follows by itself, in seconds.
LAG = 2.0
TEXTS = {"m.room.message": BODY, "m.room.name": NAME, "m.room.topic": TOPIC}
REDACTION, MEMBER = "m.room.redaction", "m.room.member"
JOIN_RULES, VISIBILITY = "m.room.join_rules", "m.room.history_visibility"
INDEXED = (*TEXTS, REDACTION, MEMBER, JOIN_RULES, VISIBILITY)


class Background(Protocol):
    """The part of the runtime that the index needs."""

    def call_later(self, seconds: float, fn: Callable[..., object], /, *args: object) -> IDelayedCall: ...
    def background(self, name: str, work: Coroutine[Deferred[Any], Any, object]) -> None: ...


@attrs.frozen(slots=True)
class Plan:
    """What a stretch of the stream changes in the index, ready to be written."""

    up_to: int
    done: bool
    docs: tuple[Doc, ...]
    dropped: tuple[int, ...]
    people: tuple[tuple[Person, str], ...]
    open_rooms: tuple[tuple[int, int, bool], ...]


class SearchIndex:
    """Follows the stream of events. `catch_up` brings it to what is published now; sending never waits for it."""

    def __init__(self, db: Database, runtime: Background) -> None:
        self._db = db
        self._runtime = runtime
        self._timer: IDelayedCall | None = None
        self._following: list[Deferred[None]] | None = None
        self._stopped = False
        db.subscribe(self._published)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        if self._timer is None and not self._stopped and any(change.stream == "event" for change in changes):
            self._timer = self._runtime.call_later(LAG, self._follow)

    def _follow(self) -> None:
        self._timer = None
        self._runtime.background("search index", self.catch_up())

    async def catch_up(self) -> None:
        """Index everything published before the call. Callers that come meanwhile wait for the same work."""
        if self._following is not None:
            follower: Deferred[None] = Deferred()
            self._following.append(follower)
            return await follower
        self._following = []
        try:
            while True:
                plan = await self._db.read(_plan, self._db.published)
                if plan is None:
                    break
                await self._db.write(_apply, plan)
                if plan.done:
                    break
        finally:
            followers, self._following = self._following, None
            for one in followers:
                one.callback(None)
        return None


# ---- in one transaction ----


def _plan(txn: Txn, published: int) -> Plan | None:
    """What the next stretch of the stream means for the index; None when there is nothing new."""
    start = search.cursor(txn, READER)
    if start >= published:
        return None
    found = timeline.stretch(txn, start, published, INDEXED, BATCH)
    done = len(found) < BATCH
    docs, dropped = _texts(txn, found)
    return Plan(
        up_to=published if done else found[-1].nid,
        done=done,
        docs=tuple(docs),
        dropped=tuple(dropped),
        people=tuple(_people(txn, found)),
        open_rooms=tuple(_open_rooms(found)),
    )


def _texts(txn: Txn, found: Sequence[StoredEvent]) -> tuple[list[Doc], set[int]]:
    """The texts to index anew, and the events to drop. An edit counts for what it edits, as a redaction does."""
    touched = {event.nid: event for event in found if event.type in TEXTS and not _edits(event)}
    targets = {target for event in found if event.type in TEXTS and (target := _edits(event)) is not None}
    redactions = events.load(txn, [event.nid for event in found if event.type == REDACTION])
    targets |= {event.redacts for event in redactions.values() if event.redacts is not None}
    aimed_at = {event.nid: event for event in events.by_ids(txn, targets).values()} if targets else {}
    for nid in list(aimed_at):
        aimed_at.update(events.by_nids(txn, search.docs_from(txn, nid)))
    touched.update(aimed_at)
    editable = [event for event in touched.values() if event.type == "m.room.message" and not event.is_redacted]
    bundles, extras = bundles_of(txn, editable, "", frozenset(), LATEST)
    edits = {nid: extras[bundle.edit] for nid, bundle in bundles.items() if bundle.edit is not None}
    docs, dropped = [], set()
    for event in touched.values():
        doc = None if event.type not in TEXTS or event.is_redacted else _doc(txn, event, edits.get(event.nid))
        if doc is None or _edits(event) is not None:
            dropped.add(event.nid)
        else:
            docs.append(doc)
    return docs, dropped


def _edits(event: StoredEvent) -> str | None:
    """The id of the event that this one edits."""
    if b'"m.relates_to"' not in event.content:
        return None
    relation = relation_of(orjson.loads(event.content))
    edits = event.state_key is None and relation is not None and relation.rel_type == REPLACE
    return relation.event_id if edits and relation is not None else None


def _doc(txn: Txn, event: StoredEvent, edit: StoredEvent | None) -> Doc | None:
    sender = names.user_nid(txn, event.sender)
    content = orjson.loads(event.content)
    if edit is not None:
        content = orjson.loads(edit.content).get("m.new_content")
    text = text_of(event.type, content)
    if text is None or sender is None:
        return None
    source = event.nid if edit is None else edit.nid
    return Doc(event.nid, event.room, sender, TEXTS[event.type], source, words_of(text))


def text_of(event_type: str, content: object) -> str | None:
    """What is searched of an event: `body`, `name`, or both forms of the topic."""
    if not isinstance(content, dict):
        return None
    if event_type == "m.room.topic":
        plain, rich = content.get("topic"), topic_of(content)
        texts = [text for text in (plain, rich if rich != plain else None) if isinstance(text, str)]
        return "\n".join(texts) or None
    text = content.get("body" if event_type == "m.room.message" else "name")
    return text if isinstance(text, str) else None


def _people(txn: Txn, found: Sequence[StoredEvent]) -> list[tuple[Person, str]]:
    """The newest name and avatar of everybody who joined or changed them.

    Those of local people come from their profile: a name for one room is nobody else's business.
    """
    people: dict[int, tuple[Person, str]] = {}
    for event in found:
        if event.type != MEMBER or event.state_key is None or event.is_redacted:
            continue
        content, usr = orjson.loads(event.content), names.user_nid(txn, event.state_key)
        if content.get("membership") == "join" and usr is not None:
            name, avatar = content.get("displayname"), content.get("avatar_url")
            shown = Person(usr, name if isinstance(name, str) else None, avatar if isinstance(avatar, str) else None)
            people[usr] = (shown, event.state_key)
    local = [usr for usr in people if names.is_local(txn, usr)]
    own = profiles.fields_of(txn, local, ("displayname", "avatar_url"))
    for usr in local:
        fields = own.get(usr, {})
        name, avatar = (orjson.loads(fields[key]) if key in fields else None for key in ("displayname", "avatar_url"))
        people[usr] = (Person(usr, name, avatar), people[usr][1])
    return list(people.values())


def _open_rooms(found: Sequence[StoredEvent]) -> list[tuple[int, int, bool]]:
    changes = []
    for event in found:
        if event.state_key == "" and event.type == JOIN_RULES:
            is_open = orjson.loads(event.content).get("join_rule") == "public"
            changes.append((event.room, JOINABLE, is_open))
        elif event.state_key == "" and event.type == VISIBILITY:
            is_open = orjson.loads(event.content).get("history_visibility") == "world_readable"
            changes.append((event.room, READABLE, is_open))
    return changes


def _apply(txn: Txn, plan: Plan) -> None:
    for event in plan.dropped:
        search.drop_doc(txn, event)
    # What the cursor had passed before may be in the index already.
    passed = search.cursor(txn, READER)
    for doc in plan.docs:
        if doc.event <= passed:
            search.drop_doc(txn, doc.event)
    search.add_docs(txn, plan.docs)
    for person, user_id in plan.people:
        put_person(txn, person, user_id)
    for room, reason, is_open in plan.open_rooms:
        user_directory.open_room(txn, room, reason, is_open)
    search.move_cursor(txn, READER, plan.up_to)


def put_person(txn: Txn, person: Person, user_id: str) -> None:
    """Have a user found by their display name and their id."""
    localpart = user_id[1:].partition(":")[0]
    user_directory.put_person(txn, person, words_of(f"{person.name or ''} {localpart} {user_id}"))
