# SPDX-License-Identifier: Apache-2.0
"""What a push gateway is told of an event, and of the number on the badge.

https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
"""

from typing import Any

import attrs
import orjson

from homeserver.services.push_decisions import Decided
from storage import names, state, sync_reads, unread, unread_members
from storage.events import StoredEvent
from storage.pushers import Pusher
from storage.txn import Txn

MEMBER, ENCRYPTED = "m.room.member", "m.room.encrypted"
NAME, ALIAS = ("m.room.name", ""), ("m.room.canonical_alias", "")
EVENT_ID_ONLY = "event_id_only"
#: MSC4076: the device counts for itself.
NO_BADGE = "org.matrix.msc4076.disable_badge_count"


@attrs.frozen(slots=True)
class Target:
    """The parts of a pusher that a request needs; `data` is what its client gave, the URL left out."""

    url: str
    app_id: str
    pushkey: str
    since: int
    data: dict[str, Any]

    @classmethod
    def of(cls, pusher: Pusher) -> "Target":
        data: dict[str, Any] = orjson.loads(pusher.body)["data"]
        kept = {name: value for name, value in data.items() if name != "url"}
        return cls(data["url"], pusher.app_id, pusher.pushkey, pusher.created // 1000, kept)

    @property
    def wants_badge(self) -> bool:
        return self.data.get(NO_BADGE) is not True


def unread_total(txn: Txn, usr: int, upto: int) -> int:
    """ "The number of unread messages a user has across all of the rooms they are a member of." """
    counted = unread.counts(txn, usr, sorted(sync_reads.joined_rooms(txn, usr)), upto)
    return sum(unread.total(room)[0] for room in counted.values())


def is_read(txn: Txn, usr: int, event: StoredEvent) -> bool:
    """Whether the user has read up to the event by now; an invite is not read while it stands."""
    floors = unread.floors(txn, usr, [event.room]).get(event.room)
    if floors is None or event.ord is None:
        return False
    thread = event.thread
    floor = floors.main if thread is None else max(floors.base, floors.threads.get(thread, 0))
    return event.ord <= floor


def event_body(txn: Txn, target: Target, decided: Decided, user_id: str, badge: int | None) -> bytes:
    """The request about an event."""
    event = decided.event
    tweaks = decided.rule.tweaks
    notification: dict[str, Any] = {"event_id": event.event_id, "room_id": names.room_id(txn, event.room)}
    if target.data.get("format") != EVENT_ID_ONLY:
        notification |= _description(txn, event, user_id)
    urgent = event.type == ENCRYPTED or bool(tweaks.get("highlight")) or "sound" in tweaks
    notification["prio"] = "high" if urgent else "low"
    return _body(notification, target, badge, tweaks)


def badge_body(target: Target, badge: int) -> bytes:
    """The request that only says how much is unread."""
    return _body({"prio": "low"}, target, badge, {})


def _body(notification: dict[str, Any], target: Target, badge: int | None, tweaks: dict[str, Any]) -> bytes:
    device: dict[str, Any] = {"app_id": target.app_id, "pushkey": target.pushkey, "pushkey_ts": target.since}
    device["data"] = target.data
    if tweaks:
        device["tweaks"] = tweaks
    # "Counts whose value is zero should be omitted."
    counts = {"unread": badge} if badge else {}
    return orjson.dumps({"notification": {**notification, "counts": counts, "devices": [device]}})


def _description(txn: Txn, event: StoredEvent, user_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": event.type,
        "sender": event.sender,
        "content": orjson.Fragment(event.content),
    }
    usr = names.user_nid(txn, event.sender)
    shown = unread_members.display_names(txn, event.room, [(usr or 0, event.sender)])
    if usr in shown:
        found["sender_display_name"] = shown[usr]
    for current in state.current_events(txn, event.room, (NAME, ALIAS)):
        content = orjson.loads(current.content)
        key, target = ("room_name", "name") if current.type == NAME[0] else ("room_alias", "alias")
        if isinstance(content.get(target), str) and content[target]:
            found[key] = content[target]
    if event.type == MEMBER and event.state_key is not None:
        found["user_is_target"] = event.state_key == user_id
    return found
