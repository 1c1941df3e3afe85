# SPDX-License-Identifier: Apache-2.0
"""The one row of each room: its version, the last visible change, the resolved state's address, its heads."""

import struct
from collections.abc import Sequence

import attrs

from storage import names
from storage.txn import Txn

_HEAD = struct.Struct(">QQ")


@attrs.frozen(slots=True)
class Head:
    """An event that no other cites yet, and the tree address of the state after it."""

    event: int
    state_after: int


@attrs.frozen(slots=True)
class RoomRow:
    """A room as stored. `state` is the address of the current state; `last` the position of the last visible change."""

    nid: int
    room_id: str
    version: str
    last: int
    state: int
    next_row: int
    partial: bool
    heads: tuple[Head, ...]


def create(txn: Txn, room_id: str, version: str) -> int:
    """Makes a room's row, empty; gives its number. Raises `Duplicate` when it is there."""
    nid = names.next_room(txn)
    txn.put(
        "INSERT INTO room (nid, id, version, last, state, next_row, partial, heads) VALUES (?, ?, ?, 0, 0, 1, 0, ?)",
        (nid, room_id.encode("utf-8", "surrogatepass"), version, b""),
    )
    return names.learn_room(txn, room_id, version, nid)


def set_version(txn: Txn, nid: int, room_id: str, version: str) -> None:
    """Corrects the version of a room that was only heard of: what invites to it is not to be believed."""
    txn.put("UPDATE room SET version = ? WHERE nid = ?", (version, nid))
    names.learn_room(txn, room_id, version, nid)


def advance(txn: Txn, nid: int, *, last: int, state: int, next_row: int, heads: Sequence[Head]) -> None:
    """What an append leaves in the row."""
    # A room is in a batch once: its lock is held until the commit.
    txn.bulk(
        "UPDATE room SET last = v.column2, state = v.column3, next_row = v.column4, heads = v.column5 "
        "FROM (VALUES {rows}) AS v WHERE room.nid = v.column1",
        (nid, last, state, next_row, pack_heads(heads)),
    )


def keep_state(txn: Txn, nid: int, state: int, next_row: int) -> None:
    """Notes tree rows used, and a state, by an append that nobody sees in the timeline."""
    txn.put("UPDATE room SET state = ?, next_row = ? WHERE nid = ?", (state, next_row, nid))


def set_partial(txn: Txn, nid: int, partial: bool) -> None:
    """Whether the room's state is known only in part (a faster join under way)."""
    txn.put("UPDATE room SET partial = ? WHERE nid = ?", (int(partial), nid))


def get(txn: Txn, nid: int) -> RoomRow | None:
    """A room by number."""
    row = txn.one("SELECT id, version, last, state, next_row, partial, heads FROM room WHERE nid = ?", (nid,))
    if row is None:
        return None
    room_id, version, last, state, next_row, partial, heads = row
    text = room_id.decode("utf-8", "surrogatepass")
    return RoomRow(nid, text, version, last, state, next_row, bool(partial), unpack_heads(heads))


def last_positions(txn: Txn, nids: Sequence[int]) -> dict[int, int]:
    """Room -> position of its last visible change."""
    condition, params = txn.any("nid", nids)
    return dict(txn.all(f"SELECT nid, last FROM room WHERE {condition}", params))  # noqa: S608


def pack_heads(heads: Sequence[Head]) -> bytes:
    return b"".join(_HEAD.pack(head.event, head.state_after) for head in heads)


def unpack_heads(packed: bytes) -> tuple[Head, ...]:
    return tuple(Head(event, state) for event, state in _HEAD.iter_unpack(packed))
