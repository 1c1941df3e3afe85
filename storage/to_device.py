# SPDX-License-Identifier: Apache-2.0
"""How messages between devices wait for their device, in the order in which they arrived."""

from collections.abc import Sequence

import attrs

from storage.txn import Change, Txn

#: "100 messages is recommended as a reasonable limit." (v1.19, Send-to-Device messaging)
BATCH = 100


@attrs.frozen(slots=True)
class Addressed:
    """A message for one device; `message` is the JSON of {"content", "sender", "type"}."""

    usr: int
    device: int
    message: bytes


def queue(txn: Txn, messages: Sequence[Addressed]) -> int:
    """Keep the messages until their devices have acknowledged them; returns their position (0: there were none).

    Messages for one device arrive in the order of `messages`. Announces stream "to_device" with user and device.
    """
    if not messages:
        return 0
    pos = txn.position()
    txn.many(
        "INSERT INTO to_device_message (device, pos, n, message) VALUES (?, ?, ?, ?)",
        [(message.device, pos, n, message.message) for n, message in enumerate(messages)],
    )
    for usr, device in {(message.usr, message.device) for message in messages}:
        txn.announce(Change(pos, "to_device", user=usr, device=device))
    return pos


def for_sync(txn: Txn, device: int, since: int, upto: int, limit: int = BATCH) -> tuple[list[bytes], int]:
    """The messages of positions in (since, upto], oldest first, and the position that acknowledges them.

    That position is `upto`, or less when there are more than about `limit` of them: the client's next token must carry
    it. Messages of one position are never parted.
    """
    rows = txn.all(
        "SELECT pos, message FROM to_device_message WHERE device = ? AND pos > ? AND pos <= ? ORDER BY pos, n LIMIT ?",
        (device, since, upto, limit + 1),
    )
    if len(rows) <= limit:
        return [bytes(row[1]) for row in rows], upto
    cut = rows[-1][0]
    kept = [bytes(row[1]) for row in rows if row[0] < cut]
    if kept:
        return kept, max(row[0] for row in rows if row[0] < cut)
    same = txn.all("SELECT message FROM to_device_message WHERE device = ? AND pos = ? ORDER BY n", (device, cut))
    return [bytes(row[0]) for row in same], cut


def has_acknowledged(txn: Txn, device: int, upto: int) -> bool:
    """Whether there is something for `acknowledge` to delete."""
    row = txn.one("SELECT 1 FROM to_device_message WHERE device = ? AND pos <= ? LIMIT 1", (device, upto))
    return row is not None


def acknowledge(txn: Txn, device: int, upto: int) -> int:
    """The device has everything up to `upto`: delete it; how many messages that were."""
    return txn.run("DELETE FROM to_device_message WHERE device = ? AND pos <= ?", (device, upto))


def is_new_transaction(txn: Txn, device: int, scope: bytes, now: int) -> bool:
    """Remember a transaction id for 24 hours; False when it is remembered already, so its messages are on their way.

    `scope` is a digest of all that the id is scoped to besides the device, and of the id.
    """
    txn.run("DELETE FROM to_device_txn WHERE ts < ?", (now - 86_400_000,))
    added = txn.run(
        "INSERT INTO to_device_txn (device, scope, ts) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (device, scope, now)
    )
    return added > 0


def delete(txn: Txn, device: int) -> None:
    """Forget what waits for a device that is gone, and its transaction ids."""
    txn.run("DELETE FROM to_device_message WHERE device = ?", (device,))
    txn.run("DELETE FROM to_device_txn WHERE device = ?", (device,))
