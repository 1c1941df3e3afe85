# SPDX-License-Identifier: Apache-2.0
"""Which devices an account has, and when each was last seen."""

from collections.abc import Sequence

import attrs

from homeserver.protocol.errors import forbidden
from storage import cross_signing, device_lists
from storage.txn import Txn


@attrs.frozen(slots=True)
class Device:
    """`device` is the number by which transaction ids, keys and to-device messages know it; never used twice."""

    device: int
    usr: int
    device_id: str
    name: str | None
    created: int
    seen_ts: int | None
    seen_ip: str | None
    seen_agent: str | None


@attrs.frozen(slots=True)
class Seen:
    """When and from where a device last made a request."""

    device: int
    ts: int
    ip: str
    agent: str


_COLUMNS = "nid, usr, id, name, created, seen_ts, seen_ip, seen_agent"


def _text(value: object) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _device(row: Sequence[object]) -> Device:
    nid, usr, device_id, name, created, seen_ts, seen_ip, seen_agent = row
    assert isinstance(nid, int) and isinstance(usr, int) and isinstance(created, int)
    return Device(
        nid,
        usr,
        _text(device_id) or "",
        _text(name),
        created,
        seen_ts if isinstance(seen_ts, int) else None,
        _text(seen_ip),
        _text(seen_agent),
    )


def find(txn: Txn, usr: int, device_id: str) -> Device | None:
    row = txn.one(f"SELECT {_COLUMNS} FROM device WHERE usr = ? AND id = ?", (usr, device_id.encode()))  # noqa: S608
    return None if row is None else _device(row)


def of_user(txn: Txn, usr: int) -> list[Device]:
    """All devices of the account, oldest first."""
    rows = txn.all(f"SELECT {_COLUMNS} FROM device WHERE usr = ? ORDER BY nid", (usr,))  # noqa: S608
    return [_device(row) for row in rows]


def add(txn: Txn, usr: int, device_id: str, name: str | None, now: int) -> int:
    """Make a device that does not exist yet; returns its number. Raises M_FORBIDDEN for an id that is a public key.

    "Servers therefore must ensure that device IDs will not collide with cross-signing public keys." (v1.19)
    """
    if cross_signing.is_public_key(txn, usr, device_id):
        raise forbidden("This device id is one of your cross-signing keys")
    txn.run("UPDATE device_number SET next = next + 1 WHERE one = 1")
    row = txn.one("SELECT next - 1 FROM device_number WHERE one = 1")
    assert row is not None
    nid = int(row[0])
    txn.put(
        "INSERT INTO device (nid, usr, id, name, created) VALUES (?, ?, ?, ?, ?)",
        (nid, usr, device_id.encode(), None if name is None else name.encode(), now),
    )
    return nid


def rename(txn: Txn, usr: int, device: int, name: str) -> None:
    """Give a device another name, which others may see with its keys."""
    if txn.run("UPDATE device SET name = ? WHERE nid = ?", (name.encode(), device)):
        device_lists.record(txn, usr)


def delete_row(txn: Txn, device: int) -> None:
    """Delete the device's own row; `storage.device_removal` deletes all that belongs to it."""
    txn.run("DELETE FROM device WHERE nid = ?", (device,))


def record_seen(txn: Txn, seen: Sequence[Seen]) -> None:
    """Keep when devices were last seen; not a change that anybody waits for."""
    txn.many(
        "UPDATE device SET seen_ts = ?, seen_ip = ?, seen_agent = ? WHERE nid = ?",
        [(one.ts, one.ip.encode("utf-8", "replace"), one.agent.encode("utf-8", "replace"), one.device) for one in seen],
    )
