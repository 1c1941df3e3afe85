# SPDX-License-Identifier: Apache-2.0
"""How the identity keys that devices publish are kept."""

from collections.abc import Sequence

import attrs

from storage.txn import Txn

#: So many names go into one statement; databases limit its parameters.
CHUNK = 500


@attrs.frozen(slots=True)
class PublishedKeys:
    """The identity keys of one device: `keys` is the JSON the device uploaded, `name` the device's display name."""

    device: int
    usr: int
    device_id: str
    keys: bytes
    name: str | None


def publish(txn: Txn, usr: int, device: int, keys: bytes) -> None:
    """Publish `keys` (JSON) for the device, replacing what it published before. The caller records the change."""
    pos = txn.position()
    txn.put(
        "INSERT INTO device_key (device, usr, pos, keys) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (device) DO UPDATE SET keys = excluded.keys, pos = excluded.pos",
        (device, usr, pos, keys),
    )


def of_device(txn: Txn, device: int) -> bytes | None:
    row = txn.one("SELECT keys FROM device_key WHERE device = ?", (device,))
    return None if row is None else bytes(row[0])


def of_users(txn: Txn, usrs: Sequence[int]) -> list[PublishedKeys]:
    """The keys of every device of `usrs` that has published some, in the order of the devices' ids."""
    if not usrs:
        return []
    condition, params = txn.any("k.usr", usrs)
    rows = txn.all(
        "SELECT k.device, k.usr, d.id, k.keys, d.name FROM device_key k JOIN device d ON d.nid = k.device"
        f" WHERE {condition} ORDER BY k.usr, d.id",
        params,
    )
    return [
        PublishedKeys(row[0], row[1], row[2].decode(), bytes(row[3]), None if row[4] is None else row[4].decode())
        for row in rows
    ]


def device_numbers(txn: Txn, usr: int, device_ids: Sequence[str]) -> dict[str, int]:
    """The numbers of the user's devices among `device_ids`, whether or not they have published keys."""
    found: dict[str, int] = {}
    for start in range(0, len(device_ids), CHUNK):
        condition, params = txn.any("id", [device_id.encode() for device_id in device_ids[start : start + CHUNK]])
        rows = txn.all(f"SELECT id, nid FROM device WHERE usr = ? AND {condition}", (usr, *params))
        found.update({row[0].decode(): row[1] for row in rows})
    return found


def delete(txn: Txn, device: int) -> bool:
    """Forget the device's identity keys; whether there were any. The caller records the change."""
    return txn.run("DELETE FROM device_key WHERE device = ?", (device,)) > 0
