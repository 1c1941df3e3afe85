# SPDX-License-Identifier: Apache-2.0
"""How far each application service has been told of the stream, and the reads by which it is found what to tell.

A service has one row, whatever happens: a cursor, and the transaction under way until it is acknowledged.
"""

from collections.abc import Callable, Collection, Sequence

import attrs
import orjson

from storage import names, receipts, to_device
from storage.device_lists import EVERYBODY, JoinChange
from storage.events import LIVE_MASK, ORD_SHIFT, OUTLIER
from storage.membership import JOIN
from storage.receipts import Receipt
from storage.timeline import NOT_SHOWN
from storage.txn import Record, Txn

MEMBER = "m.room.member"
LINE = "e.nid, e.room, e.etype, e.skey, e.ord"


@attrs.frozen(slots=True)
class Pending:
    """A transaction that is not acknowledged: `devices` are those whose messages to devices end with it."""

    txn: str
    upto: int
    body: bytes
    devices: tuple[int, ...] = ()


@attrs.frozen(slots=True)
class Cursor:
    """Everything up to `position` is acknowledged."""

    position: int
    pending: Pending | None = None


@attrs.frozen(slots=True)
class Line:
    """What decides whether an event is told, no more. `pos` is when it got its place in the room.

    `state_key` is given for memberships only.
    """

    nid: int
    pos: int
    room: int
    state_key: str | None


@attrs.frozen(slots=True)
class Message:
    """A message to a device as it waits for it."""

    pos: int
    device: int
    message: bytes


@attrs.frozen(slots=True)
class Owned:
    """A device with the names that others know it by."""

    device: int
    usr: int
    user_id: str
    device_id: str


# ---- cursors ----


def begin(txn: Txn, ids: Sequence[str], position: int) -> dict[str, Cursor]:
    """The cursors of these services, by id. A new one starts at `position`; those of other services are forgotten."""
    known = {
        bytes(row[0]).decode(): row for row in txn.all("SELECT id, position, txn, upto, body, devices FROM appservice")
    }
    for gone in known.keys() - set(ids):
        txn.run("DELETE FROM appservice WHERE id = ?", (gone.encode(),))
    cursors = {}
    for one in ids:
        row = known.get(one)
        if row is None:
            txn.run("INSERT INTO appservice (id, position, upto) VALUES (?, ?, 0)", (one.encode(), position))
            cursors[one] = Cursor(position)
            continue
        pending = None
        if row[2] is not None:
            pending = Pending(bytes(row[2]).decode(), row[3], bytes(row[4]), tuple(orjson.loads(row[5])))
        cursors[one] = Cursor(row[1], pending)
    return cursors


def has_any(txn: Txn) -> bool:
    """Whether any service is known."""
    return txn.one("SELECT 1 FROM appservice LIMIT 1") is not None


def hold(txn: Txn, service: str, position: int, pending: Pending, arrived: Pending | None) -> None:
    """Everything up to `position` is acknowledged, by `arrived`, and `pending` is what goes out next."""
    _drop_messages(txn, arrived)
    txn.run(
        "UPDATE appservice SET position = ?, txn = ?, upto = ?, body = ?, devices = ? WHERE id = ?",
        (position, pending.txn.encode(), pending.upto, pending.body, orjson.dumps(pending.devices), service.encode()),
    )


def advance(txn: Txn, service: str, position: int) -> None:
    """Everything up to `position` is told, and nothing is under way."""
    txn.run(
        "UPDATE appservice SET position = ?, txn = NULL, body = NULL, devices = NULL WHERE id = ?",
        (position, service.encode()),
    )


def acknowledge(txn: Txn, service: str, position: int, arrived: Pending) -> None:
    """The transaction arrived, and nothing is under way."""
    _drop_messages(txn, arrived)
    advance(txn, service, position)


def _drop_messages(txn: Txn, arrived: Pending | None) -> None:
    """Messages to devices are delivered; those of the service's users that it alone reads need not be kept."""
    if arrived is not None:
        for device in arrived.devices:
            to_device.acknowledge(txn, device, arrived.upto)


# ---- users and rooms ----


def local_users(txn: Txn, above: int) -> list[tuple[int, str]]:
    """This server's users with a number greater than `above`: (number, id)."""
    rows = txn.all("SELECT nid, id FROM usr WHERE nid > ? AND local = 1 ORDER BY nid", (above,))
    return [(nid, bytes(user_id).decode("utf-8", "surrogatepass")) for nid, user_id in rows]


def join_changes(txn: Txn, after: int, upto: int) -> list[JoinChange]:
    """Who began or ceased to be joined to a room in (after, upto], in that order."""
    rows = txn.all(
        "SELECT pos, usr, room, joined FROM join_change WHERE pos > ? AND pos <= ? ORDER BY pos", (after, upto)
    )
    return [JoinChange(pos, usr, room, bool(joined)) for pos, usr, room, joined in rows]


def join_changes_of(txn: Txn, room: int, after: int) -> list[JoinChange]:
    """The same for one room, up to now."""
    rows = txn.all("SELECT pos, usr, room, joined FROM join_change WHERE room = ? AND pos > ?", (room, after))
    return [JoinChange(pos, usr, room, bool(joined)) for pos, usr, room, joined in rows]


def aliases_of(txn: Txn, rooms: Collection[int]) -> dict[int, list[str]]:
    """The local aliases of these rooms."""
    condition, params = txn.any("room", list(rooms))
    found: dict[int, list[str]] = {}
    for room, name in txn.all(f"SELECT room, name FROM alias WHERE {condition}", params):  # noqa: S608
        found.setdefault(room, []).append(bytes(name).decode())
    return found


def without_account(txn: Txn, user_ids: Collection[str]) -> list[str]:
    """Those of these users that nobody has registered."""
    condition, params = txn.any("u.id", [one.encode() for one in user_ids])
    rows = txn.all(f"SELECT u.id FROM usr u JOIN account a ON a.usr = u.nid WHERE {condition}", params)  # noqa: S608
    registered = {bytes(row[0]).decode() for row in rows}
    return [one for one in user_ids if one not in registered]


# ---- the stream ----


def stretch(txn: Txn, after: int, upto: int, limit: int) -> list[Line]:
    """The first live events of (after, upto] in the order they came, but for `promoted` ones.

    With them what other servers say of our users' places in rooms that this one is not in.
    """
    elsewhere = (
        "SELECT 1 FROM membership m JOIN usr u ON u.nid = m.usr AND u.local = 1"
        f" WHERE m.room = e.room AND m.kind <> {JOIN} AND m.event = e.nid"
    )
    member = names.etype_nid(txn, MEMBER)
    rows = txn.all(
        f"SELECT {LINE} FROM event e WHERE e.nid > ? AND e.nid <= ?"  # noqa: S608
        f" AND ((e.flags & {NOT_SHOWN} = 0 AND e.ord = e.nid * {LIVE_MASK + 1})"
        f" OR (e.flags & {OUTLIER} <> 0 AND e.etype = ? AND EXISTS ({elsewhere})))"
        " ORDER BY e.nid LIMIT ?",
        (after, upto, member or 0, limit),
    )
    return _lines(txn, rows)


def promoted(txn: Txn, rooms: Collection[int], after: int, upto: int) -> list[Line]:
    """Events of these rooms that were known before they got their place in the room, which was in (after, upto]."""
    condition, params = txn.any("e.room", list(rooms))
    rows = txn.all(
        f"SELECT {LINE} FROM event e WHERE {condition} AND e.ord > ? AND e.ord <= ?"  # noqa: S608
        f" AND e.flags & {NOT_SHOWN} = 0 AND e.ord & {LIVE_MASK} = 0 AND e.ord <> e.nid * {LIVE_MASK + 1}",
        [*params, after << ORD_SHIFT | LIVE_MASK, upto << ORD_SHIFT],
    )
    return _lines(txn, rows)


def _lines(txn: Txn, rows: Sequence[Record]) -> list[Line]:
    member = names.etype_nid(txn, MEMBER)
    keys = names.skeys(txn, {row[3] for row in rows if row[2] == member and row[3] is not None})
    found = []
    for nid, room, etype, skey, ord_ in rows:
        state_key = keys[skey][1] if etype == member and skey in keys else None
        found.append(Line(nid, nid if ord_ is None else ord_ >> ORD_SHIFT, room, state_key))
    return found


def rooms_changed(txn: Txn, after: int) -> list[int]:
    """The rooms where something happened after a position; a scan of all rooms."""
    return [row[0] for row in txn.all("SELECT nid FROM room WHERE last > ?", (after,))]


def rooms_with_receipts(txn: Txn, after: int, upto: int) -> list[int]:
    """The rooms where somebody read in (after, upto]; a scan of all receipts."""
    rows = txn.all("SELECT DISTINCT room FROM receipt WHERE pos > ? AND pos <= ?", (after, upto))
    return [row[0] for row in rows]


def read_in(txn: Txn, rooms: Sequence[int], after: int, upto: int, private_of: Callable[[int], bool]) -> list[Receipt]:
    """Receipts changed in (after, upto] in these rooms: public ones, and private ones of some users."""
    found = receipts.for_rooms(txn, rooms, after, upto, 0)
    condition, params = txn.any("room", list(rooms))
    rows = txn.all(
        f"SELECT DISTINCT usr FROM receipt WHERE {condition} AND pos > ? AND pos <= ? AND kind = 2",  # noqa: S608
        [*params, after, upto],
    )
    for usr in (row[0] for row in rows if private_of(row[0])):
        found += [one for one in receipts.for_rooms(txn, rooms, after, upto, usr) if one.kind == receipts.PRIVATE]
    return found


def presence_changes(txn: Txn, after: int, upto: int) -> list[int]:
    """The users whose presence changed in (after, upto]."""
    return [
        row[0] for row in txn.all("SELECT usr FROM presence WHERE pos > ? AND pos <= ? ORDER BY pos", (after, upto))
    ]


def device_changes(txn: Txn, after: int, upto: int) -> list[int]:
    """The users whose devices changed in (after, upto] so that everybody may know."""
    rows = txn.all(
        "SELECT DISTINCT usr FROM device_list_change WHERE pos > ? AND pos <= ? AND viewer = ?",
        (after, upto, EVERYBODY),
    )
    return [row[0] for row in rows]


# ---- devices ----


def messages(txn: Txn, devices: Collection[int], after: int, upto: int, limit: int) -> list[Message]:
    """The first messages to these devices in (after, upto], in the order they arrived."""
    condition, params = txn.any("device", list(devices))
    rows = txn.all(
        "SELECT pos, device, message FROM to_device_message"  # noqa: S608
        f" WHERE {condition} AND pos > ? AND pos <= ? ORDER BY pos, n LIMIT ?",
        [*params, after, upto, limit],
    )
    return [Message(pos, device, bytes(message)) for pos, device, message in rows]


def waiting_devices(txn: Txn, after: int) -> list[tuple[int, int, int]]:
    """Every device with messages later than `after`: (user, device, position of the last)."""
    return [
        (usr, device, pos)
        for usr, device, pos in txn.all(
            "SELECT d.usr, m.device, max(m.pos) FROM to_device_message m JOIN device d ON d.nid = m.device"
            " WHERE m.pos > ? GROUP BY d.usr, m.device",
            (after,),
        )
    ]


def devices_of_service(txn: Txn, service: str) -> list[tuple[int, int]]:
    """The devices of the users that a service made: (user, device)."""
    rows = txn.all(
        "SELECT d.usr, d.nid FROM account a JOIN device d ON d.usr = a.usr WHERE a.appservice = ?", (service.encode(),)
    )
    return [(usr, device) for usr, device in rows]


def named(txn: Txn, devices: Collection[int]) -> dict[int, Owned]:
    """The names of these devices, by number; those that are gone are left out."""
    condition, params = txn.any("d.nid", list(devices))
    rows = txn.all(
        f"SELECT d.nid, d.usr, u.id, d.id FROM device d JOIN usr u ON u.nid = d.usr WHERE {condition}",  # noqa: S608
        params,
    )
    return {row[0]: Owned(row[0], row[1], bytes(row[2]).decode(), bytes(row[3]).decode()) for row in rows}


def with_keys(txn: Txn, devices: Collection[int]) -> set[int]:
    """Those of these devices that have published keys."""
    condition, params = txn.any("device", list(devices))
    return {row[0] for row in txn.all(f"SELECT device FROM device_key WHERE {condition}", params)}  # noqa: S608
