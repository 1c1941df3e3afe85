# SPDX-License-Identifier: Apache-2.0
"""How an event relates to another one, and which relations are summed up on the parent.

https://spec.matrix.org/v1.18/client-server-api/#forming-relationships-between-events
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from homeserver.protocol.errors import MatrixError

ANNOTATION: Final = "m.annotation"
REFERENCE: Final = "m.reference"
REPLACE: Final = "m.replace"
THREAD: Final = "m.thread"

# "m.annotation relationships are not aggregated by the server."
AGGREGATED: Final = frozenset((REFERENCE, REPLACE, THREAD))


@attrs.frozen
class Relation:
    """A typed relation to a parent event. `key` is that of annotations."""

    rel_type: str
    event_id: str
    key: str | None = None

    @property
    def is_aggregated(self) -> bool:
        """Whether the parent carries a summary of its relations of this type."""
        return self.rel_type in AGGREGATED


def relation_of(content: Mapping[str, Any]) -> Relation | None:
    """The relation with a `rel_type` that a content states; a malformed one counts as none."""
    relates_to = content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    rel_type, event_id = relates_to.get("rel_type"), relates_to.get("event_id")
    if not isinstance(rel_type, str) or not isinstance(event_id, str):
        return None
    key = relates_to.get("key") if rel_type == ANNOTATION else None
    return Relation(rel_type, event_id, key if isinstance(key, str) else None)


def reply_target(content: Mapping[str, Any]) -> str | None:
    """The event that a rich reply answers; the fallback of threads for other clients is none."""
    relates_to = content.get("m.relates_to")
    if not isinstance(relates_to, dict):
        return None
    # "is_falling_back ... defaults to false when not provided, which also allows a threaded message to contain a reply"
    if relates_to.get("rel_type") == THREAD and relates_to.get("is_falling_back") is True:
        return None
    target = relates_to.get("m.in_reply_to")
    event_id = target.get("event_id") if isinstance(target, dict) else None
    return event_id if isinstance(event_id, str) else None


def thread_root(content: Mapping[str, Any]) -> str | None:
    """The root of the thread that an event is in by its own relation."""
    relation = relation_of(content)
    return relation.event_id if relation is not None and relation.rel_type == THREAD else None


def check_thread_root(root_content: Mapping[str, Any]) -> None:
    """Raise 400 M_UNKNOWN when an event cannot be a thread's root."""
    # "It is not possible to create a thread from an event which itself is the child of an event relationship (i.e., one
    # with an m.relates_to property with a rel_type property)."
    if relation_of(root_content) is not None:
        raise MatrixError(400, "M_UNKNOWN", "A thread cannot start from an event that relates to another one")


def duplicate_annotation() -> MatrixError:
    """400 M_DUPLICATE_ANNOTATION: a second annotation with the same event type and key by the same sender."""
    return MatrixError(400, "M_DUPLICATE_ANNOTATION", "You have annotated this event in this way already")


def may_be_annotated(parent_content: Mapping[str, Any]) -> bool:
    """Whether annotations of an event count: not those of annotations and of edits."""
    relation = relation_of(parent_content)
    return relation is None or relation.rel_type not in (ANNOTATION, REPLACE)


@attrs.frozen
class Side:
    """What an edit's validity depends on, of the original or the replacement. Both are of one room."""

    event_type: str
    sender: str
    is_state: bool
    content: Mapping[str, Any]


def is_valid_edit(original: Side, replacement: Side) -> bool:
    """Whether a replacement counts.

    https://spec.matrix.org/v1.18/client-server-api/#validity-of-replacement-events
    """
    # "The original event and replacement event must have the same sender", "the same type"
    if original.sender != replacement.sender or original.event_type != replacement.event_type:
        return False
    # "The replacement and original events must not have a state_key property"
    if original.is_state or replacement.is_state:
        return False
    # "The original event must not, itself, have a rel_type of m.replace"
    relation = relation_of(original.content)
    if relation is not None and relation.rel_type == REPLACE:
        return False
    # "The replacement event (once decrypted, if appropriate) must have an m.new_content property."
    return replacement.event_type == "m.room.encrypted" or isinstance(replacement.content.get("m.new_content"), dict)


def edit_rank(origin_server_ts: int, event_id: str) -> tuple[int, str]:
    """The greatest rank is the most recent replacement."""
    # "The most recent event is determined by comparing origin_server_ts; if two or more replacement events have
    # identical origin_server_ts, the event with the lexicographically largest event_id is treated as more recent."
    return (origin_server_ts, event_id)


def edited_content(original: Mapping[str, Any], replacement: Mapping[str, Any]) -> dict[str, Any]:
    """The original's content with a valid replacement applied."""
    # "the content of the original event is treated as being overwritten entirely by m.new_content, with the exception
    # of m.relates_to, which is left unchanged. Any m.relates_to property within m.new_content is ignored."
    new_content = replacement.get("m.new_content")
    if not isinstance(new_content, dict):
        return dict(original)
    edited = {key: value for key, value in new_content.items() if key != "m.relates_to"}
    if "m.relates_to" in original:
        edited["m.relates_to"] = original["m.relates_to"]
    return edited
