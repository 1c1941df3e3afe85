# SPDX-License-Identifier: Apache-2.0
"""Rooms drawn by hand for tests of the rules: unsigned events of any version, cited as the selection demands."""

from collections.abc import Mapping, Sequence
from typing import Any

from homeserver.protocol import hashing
from homeserver.protocol.auth_selection import auth_keys
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.hashing import unpadded
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

ALICE = "@alice:a.org"
BOB = "@bob:b.org"
CAROL = "@carol:c.org"
DAVE = "@dave:a.org"

State = dict[StateKey, Event]
ALL = list(ROOM_VERSIONS.values())


def versions(**switches: object) -> list[RoomVersion]:
    """The room versions with these switches."""
    return [v for v in ALL if all(getattr(v, name) == value for name, value in switches.items())]


class Room:
    """A room under construction. Time and depth count up; every event made is in `events`."""

    def __init__(
        self, version: RoomVersion, create_content: Mapping[str, Any] | None = None, creator: str = ALICE
    ) -> None:
        self.version = version
        self.events: dict[str, Event] = {}
        self.clock = 0
        self.room_id: str | None = None if version.room_id_is_create_hash else "!room:a.org"
        content = {"room_version": version.id, **({"creator": creator} if version.creator_in_content else {})}
        self.create = self.event("m.room.create", {**content, **(create_content or {})}, creator, "", {}, prev=())
        self.room_id = self.create.room_id

    def event(
        self,
        event_type: str,
        content: dict[str, Any],
        sender: str = ALICE,
        state_key: str | None = None,
        state: Mapping[StateKey, Event] | None = None,
        *,
        prev: Sequence[Event] | None = None,
        auth: Sequence[Event] | None = None,
        ts: int | None = None,
        depth: int | None = None,
        **extra: Any,
    ) -> Event:
        """An event after `prev` (by default the create event) that cites what `state` has for it."""
        self.clock += 1
        if prev is None:
            prev = (self.create,)
        if auth is None:
            keys = auth_keys(self.version, event_type, sender, state_key, content)
            auth = [found for found in ((state or {}).get(key) for key in keys) if found is not None]
        pdu: dict[str, Any] = {
            "type": event_type,
            "content": content,
            "sender": sender,
            "depth": self.clock if depth is None else depth,
            "origin_server_ts": self.clock if ts is None else ts,
            "prev_events": [self._reference(event) for event in prev],
            "auth_events": [self._reference(event) for event in auth],
            "hashes": {"sha256": ""},
            "signatures": {},
            **extra,
        }
        if state_key is not None:
            pdu["state_key"] = state_key
        if self.room_id is not None:
            pdu["room_id"] = self.room_id
        if self.version.sends_event_id:
            pdu.setdefault("event_id", f"${self.clock}:{sender.partition(':')[2]}")
        pdu["hashes"] = {"sha256": hashing.content_hash(pdu)}
        event = Event.from_pdu(self.version, pdu)
        self.events[event.event_id] = event
        return event

    def member(self, user: str, membership: str, state: State, sender: str | None = None, **extra: Any) -> Event:
        """A membership event."""
        content = {"membership": membership, **extra.pop("content", {})}
        return self.event("m.room.member", content, sender or user, user, state, **extra)

    def state(self, *events: Event) -> State:
        """A state of the create event and these."""
        return {event.key: event for event in (self.create, *events) if event.key is not None}

    def open(
        self, levels: Mapping[str, Any] | None = None, join_rule: str = "public", members: Sequence[str] = ()
    ) -> State:
        """A usual beginning: the creator joins, levels and join rule are set, members join."""
        state = self.state()
        state[("m.room.member", self.create.sender)] = self.member(self.create.sender, "join", state)
        listed = {} if self.version.creators_are_privileged else {"users": {self.create.sender: 100}}
        self.put(state, "m.room.power_levels", {**listed, **(levels or {})})
        self.put(state, "m.room.join_rules", {"join_rule": "public"})
        for user in members:
            state[("m.room.member", user)] = self.member(user, "join", state)
        if join_rule != "public":
            self.put(state, "m.room.join_rules", {"join_rule": join_rule})
        return state

    def put(self, state: State, event_type: str, content: dict[str, Any], state_key: str = "", **extra: Any) -> Event:
        """A state event by the creator or `sender`, put into `state`."""
        event = self.event(event_type, content, extra.pop("sender", self.create.sender), state_key, state, **extra)
        state[(event_type, state_key)] = event
        return event

    def _reference(self, event: Event) -> Any:
        if not self.version.references_carry_hashes:
            return event.event_id
        return [event.event_id, {"sha256": unpadded(event.reference_hash())}]


def ids(state: Mapping[StateKey, Event]) -> dict[StateKey, str]:
    """The event ids of a state."""
    return {key: event.event_id for key, event in state.items()}
