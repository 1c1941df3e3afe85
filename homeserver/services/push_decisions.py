# SPDX-License-Identifier: Apache-2.0
"""What a user's push rules say of stored events, with what they ask of the room looked up."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol.errors import Rejected
from homeserver.protocol.ignoring import IGNORED_USERS, ignored_users
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.push_rules import Evaluator, Occasion, Rule
from homeserver.protocol.room_versions import lookup
from storage import account_data, events, names, push_rules, state, unread_members
from storage.events import REDACTED, StoredEvent
from storage.txn import Txn

CREATE, POWER_LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")


@attrs.frozen(slots=True)
class Decided:
    """An event that notifies the user, and the rule that says so."""

    event: StoredEvent
    rule: Rule


def decide(txn: Txn, usr: int, nids: Sequence[int]) -> list[Decided]:
    """Those of the events that notify the user under the rules now in force, in the order given."""
    rules = push_rules.load(txn, usr)
    raw = account_data.get(txn, usr, account_data.ACCOUNT, IGNORED_USERS)
    ignored = ignored_users(None if raw is None else orjson.loads(raw))
    evaluator = Evaluator(rules)
    stored = events.by_nids(txn, nids)
    rooms: dict[int, _Room] = {}
    decided = []
    for nid in nids:
        event = stored.get(nid)
        if event is None or event.flags & REDACTED or event.sender in ignored or event.sender == rules.user_id:
            continue
        room = rooms.get(event.room)
        if room is None:
            room = rooms[event.room] = _Room(txn, event.room, usr, rules.user_id)
        rule = evaluator.decide(room.occasion(event), room.display_name())
        if rule is not None and rule.notifies:
            decided.append(Decided(event, rule))
    return decided


class _Room:
    """What rules ask of one room; each answer is looked up when first asked for."""

    def __init__(self, txn: Txn, room: int, usr: int, user_id: str) -> None:
        self._txn = txn
        self._room = room
        self._owner = (usr, user_id)
        self.room_id = names.room_id(txn, room)
        self.joined = unread_members.joined_count(txn, room)
        self._name: list[str | None] = []
        self._levels: list[PowerLevels | None] = []

    def occasion(self, event: StoredEvent) -> Occasion:
        fields: dict[str, Any] = {
            "type": event.type,
            "sender": event.sender,
            "content": orjson.loads(event.content),
            "origin_server_ts": event.ts,
        }
        if event.state_key is not None:
            fields["state_key"] = event.state_key
        return Occasion(fields, self.room_id, event.event_id, self.joined, self._may_notify(event.sender))

    def display_name(self) -> str | None:
        if not self._name:
            usr, _ = self._owner
            self._name.append(unread_members.display_names(self._txn, self._room, [self._owner]).get(usr))
        return self._name[0]

    def _may_notify(self, sender: str) -> Callable[[str], bool]:
        def may(kind: str) -> bool:
            if not self._levels:
                self._levels.append(self._load_levels())
            levels = self._levels[0]
            try:
                return levels is not None and levels.user(sender) >= levels.notification(kind)
            except Rejected:
                return False

        return may

    def _load_levels(self) -> PowerLevels | None:
        version = lookup(names.room_version(self._txn, self._room))
        nids = state.current(self._txn, self._room, (CREATE, POWER_LEVELS))
        loaded = events.load(self._txn, nids.values())
        if version is None or CREATE not in nids:
            return None
        levels = nids.get(POWER_LEVELS)
        return PowerLevels.of(version, loaded[nids[CREATE]], None if levels is None else loaded[levels])
