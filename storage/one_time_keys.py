# SPDX-License-Identifier: Apache-2.0
"""How one-time and fallback keys are kept, and how one is handed out never to be handed out again."""

import hashlib
from collections.abc import Iterable, Sequence

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class Key:
    """A one-time or fallback key: its id is `algorithm:id`, `key` the JSON the device uploaded."""

    algorithm: str
    id: str
    key: bytes

    @property
    def name(self) -> str:
        return f"{self.algorithm}:{self.id}"


@attrs.frozen(slots=True)
class KeyCounts:
    """What a device has left: unclaimed one-time keys by algorithm, and the algorithms of unused fallback keys."""

    one_time: dict[str, int]
    unused_fallback: tuple[str, ...]


def digest(key: Key) -> bytes:
    """What a handed-out key is remembered by."""
    parts = (key.algorithm.encode(), key.id.encode(), key.key)
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).digest()[:16]


def stored(txn: Txn, device: int, keys: Iterable[Key]) -> dict[str, bytes]:
    """The unclaimed one-time keys of the device that have the id of one of `keys`: name → JSON."""
    found: dict[str, bytes] = {}
    by_algorithm: dict[str, list[str]] = {}
    for key in keys:
        by_algorithm.setdefault(key.algorithm, []).append(key.id)
    for algorithm, ids in by_algorithm.items():
        condition, params = txn.any("id", [i.encode() for i in ids])
        rows = txn.all(
            f"SELECT id, key FROM one_time_key WHERE device = ? AND algorithm = ? AND {condition}",
            (device, algorithm.encode(), *params),
        )
        found.update({f"{algorithm}:{row[0].decode()}": bytes(row[1]) for row in rows})
    return found


def add(txn: Txn, device: int, keys: Sequence[Key], pos: int) -> int:
    """Store those of `keys` that are neither stored nor spent, all with the place in line `pos`; how many were new."""
    by_digest = {digest(key): key for key in keys}
    condition, params = txn.any("digest", list(by_digest))
    for row in txn.all(f"SELECT digest FROM spent_key WHERE device = ? AND {condition}", (device, *params)):
        del by_digest[bytes(row[0])]
    present = stored(txn, device, by_digest.values())
    fresh = [key for key in by_digest.values() if key.name not in present]
    txn.many(
        "INSERT INTO one_time_key (device, algorithm, pos, id, key) VALUES (?, ?, ?, ?, ?)",
        [(device, key.algorithm.encode(), pos, key.id.encode(), key.key) for key in fresh],
    )
    return len(fresh)


def claim(txn: Txn, device: int, algorithm: str) -> Key | None:
    """Take the one-time key that has waited longest. It exists nowhere but in the answer afterwards."""
    name = algorithm.encode()
    while True:
        row = txn.one(
            "SELECT pos, id, key FROM one_time_key WHERE device = ? AND algorithm = ? ORDER BY pos, id LIMIT 1",
            (device, name),
        )
        if row is None:
            return None
        key = Key(algorithm, row[1].decode(), bytes(row[2]))
        # With several writers another one may have taken it between the two statements: then the next in line.
        taken = txn.run(
            "DELETE FROM one_time_key WHERE device = ? AND algorithm = ? AND pos = ? AND id = ?",
            (device, name, row[0], row[1]),
        )
        if taken:
            txn.put(
                "INSERT INTO spent_key (device, digest) VALUES (?, ?) ON CONFLICT DO NOTHING", (device, digest(key))
            )
            return key


def put_fallback(txn: Txn, device: int, key: Key) -> bool:
    """Store the fallback key of its algorithm, unused unless it is the very key stored already; whether it is new."""
    row = txn.one(
        "SELECT id, key FROM fallback_key WHERE device = ? AND algorithm = ?", (device, key.algorithm.encode())
    )
    if row is not None and row[0].decode() == key.id and bytes(row[1]) == key.key:
        return False
    txn.put(
        "INSERT INTO fallback_key (device, algorithm, id, key, used) VALUES (?, ?, ?, ?, 0)"
        " ON CONFLICT (device, algorithm) DO UPDATE SET id = excluded.id, key = excluded.key, used = 0",
        (device, key.algorithm.encode(), key.id.encode(), key.key),
    )
    return True


def use_fallback(txn: Txn, device: int, algorithm: str) -> tuple[Key, bool] | None:
    """The fallback key, marked used, and whether this was its first use; None when the device has none."""
    name = algorithm.encode()
    row = txn.one("SELECT id, key, used FROM fallback_key WHERE device = ? AND algorithm = ?", (device, name))
    if row is None:
        return None
    first = not row[2]
    if first:
        txn.put("UPDATE fallback_key SET used = 1 WHERE device = ? AND algorithm = ?", (device, name))
    return Key(algorithm, row[0].decode(), bytes(row[1])), first


def counts(txn: Txn, device: int) -> KeyCounts:
    """What the device has left, for sync and for the answer to an upload."""
    one_time = txn.all("SELECT algorithm, count(*) FROM one_time_key WHERE device = ? GROUP BY algorithm", (device,))
    unused = txn.all("SELECT algorithm FROM fallback_key WHERE device = ? AND used = 0 ORDER BY algorithm", (device,))
    return KeyCounts({row[0].decode(): row[1] for row in one_time}, tuple(row[0].decode() for row in unused))


def delete_one_time(txn: Txn, device: int) -> int:
    """Drop the device's one-time keys, because they may have been handed out where this database cannot know."""
    return txn.run("DELETE FROM one_time_key WHERE device = ?", (device,))


def delete_all_one_time(txn: Txn) -> list[tuple[int, int]]:
    """The same for every device, when this database is older than answers that were given; (user, device) of those."""
    rows = txn.all("SELECT DISTINCT d.usr, d.nid FROM one_time_key k JOIN device d ON d.nid = k.device")
    txn.run("DELETE FROM one_time_key")
    return [(row[0], row[1]) for row in rows]


def drop_unclaimed(txn: Txn, device: int) -> None:
    """Drop what the device published under identity keys that it has replaced."""
    txn.run("DELETE FROM one_time_key WHERE device = ?", (device,))
    txn.run("DELETE FROM fallback_key WHERE device = ?", (device,))


def delete(txn: Txn, device: int) -> None:
    """Forget all keys of a device that is gone."""
    for table in ("one_time_key", "fallback_key", "spent_key"):
        txn.run(f"DELETE FROM {table} WHERE device = ?", (device,))
