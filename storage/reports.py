# SPDX-License-Identifier: Apache-2.0
"""What people reported to the server's administrators."""

import attrs

from storage.txn import Txn

EVENT, ROOM, USER = 0, 1, 2
OPEN, RESOLVED, DISMISSED = 0, 1, 2


@attrs.frozen(slots=True)
class Report:
    """`kind` is EVENT, ROOM or USER and says which of `room`, `event`, `target` are set."""

    reporter: int
    kind: int
    created: int
    reason: str
    room: str | None = None
    event: str | None = None
    target: str | None = None
    score: int | None = None
    state: int = OPEN


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def add(txn: Txn, report: Report) -> int:
    """Keep a report; returns its number."""
    nid = txn.position()
    txn.put(
        "INSERT INTO report (nid, reporter, kind, room, event, target, reason, score, created, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            nid,
            report.reporter,
            report.kind,
            _bytes(report.room),
            _bytes(report.event),
            _bytes(report.target),
            report.reason.encode(),
            report.score,
            report.created,
            report.state,
        ),
    )
    return nid


def newest(txn: Txn, state: int, before: int, limit: int) -> list[tuple[int, Report]]:
    """Reports in that state with numbers below `before`, newest first."""
    rows = txn.all(
        "SELECT nid, reporter, kind, created, reason, room, event, target, score, state FROM report"
        " WHERE state = ? AND nid < ? ORDER BY nid DESC LIMIT ?",
        (state, before, limit),
    )
    return [
        (r[0], Report(r[1], r[2], r[3], r[4].decode(), _text(r[5]), _text(r[6]), _text(r[7]), r[8], r[9])) for r in rows
    ]


def set_state(txn: Txn, nid: int, state: int) -> bool:
    return txn.run("UPDATE report SET state = ? WHERE nid = ?", (state, nid)) > 0
