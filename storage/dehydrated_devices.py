# SPDX-License-Identifier: Apache-2.0
"""Which device of a user is the dehydrated one: kept, encrypted, for the user's next login (MSC3814)."""

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class DehydratedDevice:
    """`data` is the JSON that the client encrypted."""

    device: int
    device_id: str
    data: bytes


def find(txn: Txn, usr: int) -> DehydratedDevice | None:
    row = txn.one(
        "SELECT x.device, d.id, x.data FROM dehydrated_device x JOIN device d ON d.nid = x.device WHERE x.usr = ?",
        (usr,),
    )
    return None if row is None else DehydratedDevice(row[0], row[1].decode(), bytes(row[2]))


def put(txn: Txn, usr: int, device: int, data: bytes) -> None:
    """The user's dehydrated device is `device` now."""
    txn.put(
        "INSERT INTO dehydrated_device (usr, device, data) VALUES (?, ?, ?)"
        " ON CONFLICT (usr) DO UPDATE SET device = excluded.device, data = excluded.data",
        (usr, device, data),
    )


def delete(txn: Txn, usr: int, device: int) -> None:
    """The device is gone; the user has no dehydrated device if it was that one."""
    txn.run("DELETE FROM dehydrated_device WHERE usr = ? AND device = ?", (usr, device))
