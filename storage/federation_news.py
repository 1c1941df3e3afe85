# SPDX-License-Identifier: Apache-2.0
"""What of people here is told to other servers: their public receipts, and that their devices changed."""

from collections.abc import Iterable, Sequence

import attrs

from storage import device_keys, edu_outbox, events, names, receipts
from storage.txn import Txn


@attrs.frozen(slots=True)
class Told:
    """A receipt with everything by its id."""

    room: int
    room_id: str
    user_id: str
    event_id: str
    thread_id: str | None
    ts: int


def receipts_of(txn: Txn, after: int, up_to: int) -> list[Told]:
    """Public receipts of local users that changed at after < position <= up_to."""
    found = []
    for room, usr, thread, ord_, ts in receipts.public_since(txn, True, after, up_to):
        row = txn.one("SELECT nid FROM event WHERE room = ? AND ord = ?", (room, ord_))
        wanted = [nid for nid in (row[0] if row else 0, thread) if nid > 0]
        shown = events.by_nids(txn, wanted)
        if row is None or row[0] not in shown:
            continue
        thread_id = "main" if thread == receipts.MAIN else shown[thread].event_id if thread in shown else None
        room_id, user_id = names.room_id(txn, room), names.user_id(txn, usr)
        found.append(Told(room, room_id, user_id, shown[row[0]].event_id, thread_id, ts))
    return found


def local_users(txn: Txn, usrs: Iterable[int]) -> dict[int, str]:
    """Number → id, of those who are of this server."""
    return {usr: names.user_id(txn, usr) for usr in usrs if names.is_local(txn, usr)}


def queue_device_list(txn: Txn, usr: int, user_id: str, servers: Sequence[str], position: int) -> None:
    """Has servers told that a user's devices changed. They ask for the list: nothing they have seen came before it."""
    published = device_keys.of_users(txn, [usr])
    device_id = published[0].device_id if published else ""
    content = {"user_id": user_id, "device_id": device_id, "stream_id": position, "prev_id": [0]}
    for server in servers:
        edu_outbox.add(txn, server, "m.device_list_update", content)
