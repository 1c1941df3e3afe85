# SPDX-License-Identifier: Apache-2.0
"""What has still to be sent to which server: a cursor over the stream, and the servers that are behind it."""

from collections.abc import Iterable, Sequence

import attrs
import orjson

from storage import events, membership, names
from storage.events import LIVE_MASK
from storage.txn import Change, Txn

NOT_SENT = events.REJECTED | events.SOFT_FAILED | events.OUTLIER
MEMBER = "m.room.member"


@attrs.frozen(slots=True)
class Item:
    """An event to be sent: at which position it became so, its number, its room, whom it is about."""

    pos: int
    nid: int
    room: int
    target: str | None = None
    """The user whom it removes from the room: their server is to hear of it, too."""


@attrs.frozen(slots=True)
class Behind:
    """A server that has not got everything."""

    server: str
    position: int
    failing_since: int
    retry_at: int
    interval_ms: int


# ---- cursors ----


def cursor(txn: Txn) -> int | None:
    """Up to where everything was handed to the destinations; None before the first time."""
    row = txn.one("SELECT position FROM federation_cursor WHERE one = 1")
    return None if row is None else int(row[0])


def move(txn: Txn, position: int, behind: Sequence[Behind]) -> None:
    """Moves the cursor, and keeps where those are who have not got everything up to there.

    What was passed on and everybody has is forgotten.
    """
    oldest = min([position, *(one.position for one in behind)])
    txn.put("DELETE FROM relayed_event WHERE pos <= ?", (oldest,))
    txn.put(
        "INSERT INTO federation_cursor (one, position) VALUES (1, ?) "
        "ON CONFLICT (one) DO UPDATE SET position = excluded.position",
        (position,),
    )
    for one in behind:
        keep(txn, one)


def keep(txn: Txn, behind: Behind) -> None:
    """Remembers that a server is behind."""
    txn.put(
        "INSERT INTO destination (server, position, failing_since, retry_at, interval_ms) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (server) DO UPDATE SET position = excluded.position, failing_since = excluded.failing_since, "
        "retry_at = excluded.retry_at, interval_ms = excluded.interval_ms",
        (behind.server.encode(), behind.position, behind.failing_since, behind.retry_at, behind.interval_ms),
    )


def caught_up(txn: Txn, server: str) -> None:
    """The server has everything."""
    txn.put("DELETE FROM destination WHERE server = ?", (server.encode(),))


def all_behind(txn: Txn) -> list[Behind]:
    """Every server that is behind."""
    rows = txn.all("SELECT server, position, failing_since, retry_at, interval_ms FROM destination")
    return [Behind(server.decode(), *rest) for server, *rest in rows]


# ---- what is to be sent ----


def relay(txn: Txn, event_id: str) -> None:
    """Has an event of another server's user sent to the servers in its room. Announces "relay"."""
    nid = events.nid_of(txn, event_id)
    if nid is not None:
        pos = txn.position()
        txn.put("INSERT INTO relayed_event (pos, event) VALUES (?, ?)", (pos, nid))
        txn.announce(Change(pos, "relay"))


def items(txn: Txn, after: int, up_to: int, limit: int = 5_000) -> list[Item]:
    """What became to be sent at after < position <= up_to, in order."""
    rows = txn.all(
        "SELECT e.nid, e.nid, e.room, e.skey FROM event e JOIN usr u ON u.nid = e.sender "
        f"WHERE e.nid > ? AND e.nid <= ? AND u.local = 1 AND e.flags & {NOT_SENT} = 0 AND e.ord & {LIVE_MASK} = 0 "
        "ORDER BY e.nid LIMIT ?",
        (after, up_to, limit),
    )
    last = rows[-1][0] if len(rows) == limit else up_to
    rows += txn.all(
        "SELECT r.pos, e.nid, e.room, e.skey FROM relayed_event r JOIN event e ON e.nid = r.event "
        "WHERE r.pos > ? AND r.pos <= ? ORDER BY r.pos",
        (after, last),
    )
    keys = names.skeys(txn, (row[3] for row in rows if row[3] is not None))
    members = {row[1]: keys[row[3]][1] for row in rows if row[3] is not None and keys[row[3]][0] == MEMBER}
    removed = _removing(txn, list(members))
    return [Item(pos, nid, room, members[nid] if nid in removed else None) for pos, nid, room, _ in sorted(rows)]


def _removing(txn: Txn, nids: Sequence[int]) -> set[int]:
    """Those of the membership events that end somebody's being in the room, or being invited."""
    if not nids:
        return set()
    condition, params = txn.any("nid", nids)
    rows = txn.all(f"SELECT nid, content FROM event WHERE {condition}", params)
    return {nid for nid, content in rows if orjson.loads(content).get("membership") in ("leave", "ban")}


def servers_of(txn: Txn, rooms: Iterable[int], own: str) -> dict[int, frozenset[str]]:
    """Room → the other servers whose users are joined to it."""
    return {room: frozenset(membership.servers_of_room(txn, room)) - {own} for room in rooms}


def missed(txn: Txn, server: str, own: str, after: int, up_to: int, most: int, most_each: int) -> list[Item]:
    """What a server has missed: of each room that its users are in, the last events, the newest `most` of all."""
    kept: dict[int, list[Item]] = {}
    at = after
    members: dict[int, int | None] = {}
    while at < up_to:
        found = items(txn, at, up_to)
        for item in found:
            if item.room not in members:
                members[item.room] = _since(txn, item.room, server)
            since = members[item.room]
            # What was before the server's users came is not for it.
            if since is not None and item.nid > since:
                of_room = kept.setdefault(item.room, [])
                of_room.append(item)
                del of_room[:-most_each]
        at = found[-1].pos if len(found) >= 5_000 else up_to
    return sorted((item for many in kept.values() for item in many), key=lambda one: one.pos)[-most:]


def _since(txn: Txn, room: int, server: str) -> int | None:
    """The position from which a server's users have been in the room; None when none is."""
    rows = membership.of_room(txn, room)
    ids = names.user_ids(txn, (row.usr for row in rows))
    return min((row.since for row in rows if ids[row.usr].endswith(":" + server)), default=None)


def servers_sharing_with(txn: Txn, usr: int, own: str) -> set[str]:
    """The other servers with users in rooms that the user is in."""
    found = names.user_ids(txn, membership.sharing_users(txn, usr)).values()
    return {user_id.partition(":")[2] for user_id in found} - {own}
