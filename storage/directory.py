# SPDX-License-Identifier: Apache-2.0
"""Which rooms are published, and what the current state of rooms says about them to those who look from outside."""

from collections.abc import Iterable, Sequence

import attrs

from storage import names
from storage.txn import Change, Txn

JOINED = 1

#: The state that describes a room, by (type, state key).
DESCRIBING = (
    ("m.room.create", ""),
    ("m.room.name", ""),
    ("m.room.topic", ""),
    ("m.room.avatar", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.join_rules", ""),
    ("m.room.guest_access", ""),
    ("m.room.history_visibility", ""),
    ("m.room.encryption", ""),
)


@attrs.frozen(slots=True)
class RoomState:
    """Where a room's current state stands: `state` changes whenever the state does."""

    room: int
    room_id: str
    version: str
    state: int
    joined: int


@attrs.frozen(slots=True)
class ChildRow:
    """One `m.space.child` of a space's current state."""

    child: str
    content: bytes
    sender: str
    ts: int


def publish(txn: Txn, room: int, network: str, listed: bool) -> None:
    """List the room, or take it off the list. Announces stream "directory" with the room."""
    if listed:
        txn.run("INSERT INTO published (network, room) VALUES (?, ?) ON CONFLICT DO NOTHING", (network.encode(), room))
    else:
        txn.run("DELETE FROM published WHERE network = ? AND room = ?", (network.encode(), room))
    txn.announce(Change(txn.position(), "directory", room=room))


def is_published(txn: Txn, room: int) -> bool:
    """Whether the room is on this server's own list."""
    return txn.one("SELECT 1 FROM published WHERE room = ? AND network = ?", (room, b"")) is not None


def published_rooms(txn: Txn, network: str | None) -> list[RoomState]:
    """The rooms of one network's list, or of all; the greatest first."""
    where, params = ("", ()) if network is None else (" WHERE network = ?", (network.encode(),))
    rooms = [room for (room,) in txn.all(f"SELECT DISTINCT room FROM published{where}", params)]
    found = states_of(txn, rooms)
    return sorted(found.values(), key=lambda one: (-one.joined, one.room_id))


def states_of(txn: Txn, rooms: Sequence[int]) -> dict[int, RoomState]:
    """Where each room's state stands, and how many have joined it."""
    if not rooms:
        return {}
    condition, params = txn.any("room", rooms)
    counts: dict[int, int] = dict(
        txn.all(
            f"SELECT room, count(*) FROM membership WHERE {condition} AND kind = ? GROUP BY room", [*params, JOINED]
        )
    )
    condition, params = txn.any("nid", rooms)
    return {
        nid: RoomState(nid, raw.decode("utf-8", "surrogatepass"), version, state, counts.get(nid, 0))
        for nid, raw, version, state in txn.all(f"SELECT nid, id, version, state FROM room WHERE {condition}", params)
    }


def describing_state(txn: Txn, rooms: Sequence[int]) -> dict[int, dict[str, bytes]]:
    """The contents of the state that describes each room, by event type."""
    keys = {names.skey_nid(txn, event_type, key): event_type for event_type, key in DESCRIBING}
    keys.pop(None, None)
    found: dict[int, dict[str, bytes]] = {room: {} for room in rooms}
    if not rooms or not keys:
        return found
    in_rooms, room_params = txn.any("s.room", rooms)
    of_keys, key_params = txn.any("s.skey", [key for key in keys if key is not None])
    rows = txn.all(
        f"SELECT s.room, s.skey, e.content FROM state_now s JOIN event e ON e.nid = s.event "
        f"WHERE {in_rooms} AND {of_keys}",
        [*room_params, *key_params],
    )
    for room, key, content in rows:
        found[room][keys[key]] = bytes(content)
    return found


def children(txn: Txn, room: int) -> list[ChildRow]:
    """The `m.space.child` events of a room's current state."""
    kind = names.etype_nid(txn, "m.space.child")
    if kind is None:
        return []
    rows = txn.all(
        "SELECT s.skey, e.content, e.sender, e.ts FROM state_now s JOIN event e ON e.nid = s.event "
        "WHERE s.room = ? AND e.etype = ?",
        (room, kind),
    )
    keys = names.skeys(txn, [row[0] for row in rows])
    senders = names.user_ids(txn, [row[2] for row in rows])
    return [ChildRow(keys[key][1], bytes(content), senders[sender], ts) for key, content, sender, ts in rows]


def rooms_with(txn: Txn, key: tuple[str, str]) -> list[tuple[str, bytes]]:
    """The ids of the rooms whose current state has something at a key, with its content."""
    skey = names.skey_nid(txn, *key)
    if skey is None:
        return []
    rows = txn.all(
        "SELECT s.room, e.content FROM state_now s JOIN event e ON e.nid = s.event WHERE s.skey = ?", (skey,)
    )
    return [(names.room_id(txn, room), bytes(content)) for room, content in rows]


def memberships_of(txn: Txn, usr: int, rooms: Iterable[int]) -> dict[int, int]:
    """The kind of the user's membership in each of the rooms where there is one."""
    wanted = list(rooms)
    if not wanted:
        return {}
    condition, params = txn.any("room", wanted)
    return dict(txn.all(f"SELECT room, kind FROM membership WHERE usr = ? AND {condition}", [usr, *params]))
