# SPDX-License-Identifier: Apache-2.0
"""Events that wait to be sent, and what became of those that no longer wait."""

import attrs

from storage.txn import Change, Txn

SCHEDULED, SENT, CANCELLED, FAILED = range(4)


@attrs.frozen(slots=True)
class Delayed:
    """One delayed event. Times are milliseconds; `detail` is the event's id when sent, the error when failed."""

    id: str
    usr: int
    device: int
    scope: bytes
    room_id: str
    type: str
    state_key: str | None
    content: bytes
    delay: int
    since: int
    outcome: int = SCHEDULED
    detail: str | None = None
    ended: int | None = None

    @property
    def fires(self) -> int:
        return self.since + self.delay


_COLUMNS = "id, usr, device, scope, room, etype, skey, content, delay, since, outcome, detail, ended"


def _row(row: tuple[object, ...]) -> Delayed:
    def text(value: object) -> str | None:
        return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else None

    id_, usr, device, scope, room, etype, skey, content, delay, since, outcome, detail, ended = row
    return Delayed(
        id=text(id_) or "",
        usr=int(str(usr)),
        device=int(str(device)),
        scope=bytes(scope) if isinstance(scope, bytes) else b"",
        room_id=text(room) or "",
        type=text(etype) or "",
        state_key=text(skey),
        content=content if isinstance(content, bytes) else b"{}",
        delay=int(str(delay)),
        since=int(str(since)),
        outcome=int(str(outcome)),
        detail=text(detail),
        ended=None if ended is None else int(str(ended)),
    )


def add(txn: Txn, delayed: Delayed, most: int) -> Delayed | None:
    """Schedule an event; the one scheduled before under the same scope; None when the user has `most` waiting."""
    same = txn.one(
        f"SELECT {_COLUMNS} FROM delayed_event WHERE usr = ? AND device = ? AND scope = ?",
        (delayed.usr, delayed.device, delayed.scope),
    )
    if same is not None:
        return _row(same)
    waiting = txn.one("SELECT count(*) FROM delayed_event WHERE usr = ? AND outcome = 0", (delayed.usr,))
    if waiting is not None and waiting[0] >= most:
        return None
    skey = None if delayed.state_key is None else delayed.state_key.encode("utf-8", "surrogatepass")
    txn.put(
        f"INSERT INTO delayed_event ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            delayed.id.encode(),
            delayed.usr,
            delayed.device,
            delayed.scope,
            delayed.room_id.encode(),
            delayed.type.encode("utf-8", "surrogatepass"),
            skey,
            delayed.content,
            delayed.delay,
            delayed.since,
            SCHEDULED,
            None,
            None,
        ),
    )
    txn.announce(Change(txn.position(), "delayed", user=delayed.usr))
    return delayed


def find(txn: Txn, delay_id: str) -> Delayed | None:
    row = txn.one(f"SELECT {_COLUMNS} FROM delayed_event WHERE id = ?", (delay_id.encode("utf-8", "surrogatepass"),))
    return _row(row) if row else None


def of_user(txn: Txn, usr: int) -> list[Delayed]:
    """All that the server remembers of a user's delayed events, those due first at the front."""
    rows = txn.all(f"SELECT {_COLUMNS} FROM delayed_event WHERE usr = ? ORDER BY since + delay", (usr,))
    return [_row(row) for row in rows]


def scheduled(txn: Txn) -> list[Delayed]:
    """Everything that waits, those due first at the front."""
    rows = txn.all(f"SELECT {_COLUMNS} FROM delayed_event WHERE outcome = 0 ORDER BY since + delay")
    return [_row(row) for row in rows]


def restart(txn: Txn, delay_id: str, now: int) -> bool:
    """Begin the delay anew; False when the event no longer waits."""
    return bool(txn.run("UPDATE delayed_event SET since = ? WHERE id = ? AND outcome = 0", (now, delay_id.encode())))


def end(txn: Txn, delay_id: str, outcome: int, detail: str | None, now: int) -> bool:
    """Record what became of a waiting event; False when that is settled already."""
    return bool(
        txn.run(
            "UPDATE delayed_event SET outcome = ?, detail = ?, ended = ? WHERE id = ? AND outcome = 0",
            (outcome, None if detail is None else detail.encode("utf-8", "replace"), now, delay_id.encode()),
        )
    )


def prune(txn: Txn, before: int) -> int:
    """Forget what ended before a time; returns how many."""
    return txn.run("DELETE FROM delayed_event WHERE outcome > 0 AND ended < ?", (before,))
