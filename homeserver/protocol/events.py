# SPDX-License-Identifier: Apache-2.0
"""An event as a value, and how a new one is assembled, hashed and signed.

https://spec.matrix.org/v1.18/server-server-api/#signing-events
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import attrs
import orjson

from homeserver.protocol import canonical_json, hashing
from homeserver.protocol.errors import too_large
from homeserver.protocol.event_format import MAX_EVENT_BYTES, check_draft
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import Signer

StateKey = tuple[str, str]


class Event:
    """An event that has passed the format checks. Immutable; equal to every event with the same id."""

    __slots__ = (
        "auth_event_ids",
        "content",
        "event_id",
        "pdu",
        "prev_event_ids",
        "room_id",
        "sender",
        "state_key",
        "type",
        "version",
    )

    def __init__(self, version: RoomVersion, pdu: dict[str, Any], event_id: str) -> None:
        self.version: Final = version
        self.pdu: Final = pdu
        self.event_id: Final = event_id
        self.type: Final[str] = pdu["type"]
        self.state_key: Final[str | None] = pdu.get("state_key")
        self.sender: Final[str] = pdu["sender"]
        self.content: Final[dict[str, Any]] = pdu["content"]
        prev, auth = pdu["prev_events"], pdu["auth_events"]
        if version.references_carry_hashes:
            self.prev_event_ids: Final[tuple[str, ...]] = tuple(pair[0] for pair in prev)
            self.auth_event_ids: Final[tuple[str, ...]] = tuple(pair[0] for pair in auth)
        else:
            self.prev_event_ids = tuple(prev)  # type: ignore[misc]
            self.auth_event_ids = tuple(auth)  # type: ignore[misc]
        if version.room_id_is_create_hash and self.type == "m.room.create" and self.state_key == "":
            # "The room ID is the event ID of the event with sigil `!` instead of `$`."
            self.room_id: Final[str] = "!" + event_id[1:]
        else:
            self.room_id = pdu["room_id"]  # type: ignore[misc]

    @classmethod
    def from_pdu(cls, version: RoomVersion, pdu: dict[str, Any], event_id: str | None = None) -> "Event":
        """The event of a PDU of good format; the id is computed when it is not given."""
        return cls(version, pdu, event_id if event_id is not None else hashing.event_id(version, pdu))

    @property
    def is_state(self) -> bool:
        """Whether this is a state event."""
        return self.state_key is not None

    @property
    def key(self) -> StateKey | None:
        """(type, state key) of a state event."""
        return None if self.state_key is None else (self.type, self.state_key)

    @property
    def depth(self) -> int:
        """The depth its sender gave it."""
        return int(self.pdu["depth"])

    @property
    def origin_server_ts(self) -> int:
        """Milliseconds since the epoch by the sender's clock."""
        return int(self.pdu["origin_server_ts"])

    @property
    def redacts(self) -> str | None:
        """The id of the event that this one redacts."""
        if self.type != "m.room.redaction":
            return None
        target = (self.content if self.version.redacts_in_content else self.pdu).get("redacts")
        return target if isinstance(target, str) else None

    @property
    def sender_server(self) -> str:
        """The sender's server name."""
        return self.sender.partition(":")[2]

    def reference_hash(self) -> bytes:
        """SHA-256 of the redacted event."""
        return hashing.reference_hash(self.version, self.pdu)

    def ref(self) -> "PrevRef":
        """How another event refers to this one."""
        return PrevRef(self.event_id, self.reference_hash() if self.version.references_carry_hashes else None)

    def redacted(self) -> "Event":
        """The event without what redaction removes; the id stays."""
        return Event(self.version, redact(self.version, self.pdu), self.event_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.event_id == other.event_id

    def __hash__(self) -> int:
        return hash(self.event_id)

    def __repr__(self) -> str:
        return f"<Event {self.event_id} {self.type}>"


@attrs.frozen
class PrevRef:
    """A reference to an event. Room versions 1 and 2 need its reference hash."""

    event_id: str
    reference_hash: bytes | None = None


@attrs.frozen
class Draft:
    """What a sender wants to say, before it has a place in the room."""

    type: str
    content: dict[str, Any]
    sender: str
    state_key: str | None = None
    redacts: str | None = None
    origin_server_ts: int | None = None
    unsigned: dict[str, Any] | None = None

    @property
    def key(self) -> StateKey | None:
        """(type, state key) of a state event."""
        return None if self.state_key is None else (self.type, self.state_key)


@attrs.frozen
class Built:
    """A finished event: `pdu_bytes` is its canonical JSON, `content_span` where the content lies in it."""

    event: Event
    pdu_bytes: bytes
    content_bytes: bytes
    content_span: tuple[int, int]


def build(
    version: RoomVersion,
    draft: Draft,
    *,
    room_id: str | None,
    prev_events: Sequence[PrevRef],
    auth_events: Sequence[PrevRef],
    depth: int,
    ts: int,
    signer: Signer,
    event_id: str | None = None,
) -> Built:
    """Assemble, hash and sign an event. `room_id` is None for the create event of room version 12 only.

    `event_id` is given in room versions 1 and 2 only (`$opaque:server`). `ts` is used where the draft has no time
    of its own. Raises M_BAD_JSON and M_TOO_LARGE, and ValueError when the id or room id is missing.
    """
    content = draft.content
    if version.redacts_in_content and draft.redacts is not None:
        content = {**content, "redacts": draft.redacts}
    content_bytes = (canonical_json.encode_strict if version.strict_json else canonical_json.encode)(content)
    pdu = _assemble(version, draft, content, room_id, event_id)
    pdu["auth_events"] = _references(version, auth_events)
    pdu["prev_events"] = _references(version, prev_events)
    pdu["depth"] = min(depth, version.max_depth)
    pdu["origin_server_ts"] = ts if draft.origin_server_ts is None else draft.origin_server_ts
    check_draft(pdu)

    fragment = orjson.Fragment(content_bytes)
    digest = hashlib.sha256(_encode({**pdu, "content": fragment})).digest()
    pdu["hashes"] = {"sha256": hashing.unpadded(digest)}
    # The redacted bytes are signed, and hashed for the event's id.
    redacted = (_encode if version.strict_json else canonical_json.encode)(redact(version, pdu))
    pdu["signatures"] = {signer.server_name: {signer.key.key_id: signer.sign(redacted)}}
    if event_id is None:
        event_id = hashing.id_of_hash(version, hashlib.sha256(redacted).digest())
    if draft.unsigned:
        pdu["unsigned"] = draft.unsigned
    pdu_bytes = _encode({**pdu, "content": fragment})
    if len(pdu_bytes) > MAX_EVENT_BYTES:
        raise too_large(f"The event has {len(pdu_bytes)} bytes, {MAX_EVENT_BYTES} are allowed")
    # Only "auth_events" sorts before "content".
    start = len(b'{"auth_events":,"content":') + len(orjson.dumps(pdu["auth_events"]))
    return Built(Event(version, pdu, event_id), pdu_bytes, content_bytes, (start, start + len(content_bytes)))


def _assemble(
    version: RoomVersion, draft: Draft, content: dict[str, Any], room_id: str | None, event_id: str | None
) -> dict[str, Any]:
    pdu: dict[str, Any] = {"type": draft.type, "sender": draft.sender, "content": content}
    if draft.state_key is not None:
        pdu["state_key"] = draft.state_key
    if version.sends_event_id != (event_id is not None):
        raise ValueError("an event id is given in room versions 1 and 2, and only there")
    if event_id is not None:
        pdu["event_id"] = event_id
    if room_id is not None:
        pdu["room_id"] = room_id
    elif not (version.room_id_is_create_hash and draft.type == "m.room.create"):
        raise ValueError("only a create event of room version 12 has no room id")
    if draft.redacts is not None and not version.redacts_in_content:
        pdu["redacts"] = draft.redacts
    return pdu


def _references(version: RoomVersion, references: Sequence[PrevRef]) -> list[Any]:
    if not version.references_carry_hashes:
        return [reference.event_id for reference in references]
    pairs: list[Any] = []
    for reference in references:
        if reference.reference_hash is None:
            raise ValueError("room versions 1 and 2 need the reference hash")
        pairs.append([reference.event_id, {"sha256": hashing.unpadded(reference.reference_hash)}])
    return pairs


def _encode(value: dict[str, Any]) -> bytes:
    """Canonical JSON of what is known to hold strings, safe integers and, as fragments, canonical content."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return canonical_json.encode(value)
