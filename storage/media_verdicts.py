# SPDX-License-Identifier: Apache-2.0
"""What a virus scanner said of contents, whoever uploaded them."""

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class Verdict:
    """`threat` is the name of what was found; None: nothing."""

    threat: str | None
    scanned: int


def find(txn: Txn, sha256: bytes) -> Verdict | None:
    """The verdict on a content that has been scanned."""
    row = txn.one("SELECT threat, scanned FROM media_verdict WHERE content = ?", (sha256,))
    return None if row is None else Verdict(None if row[0] is None else bytes(row[0]).decode(), row[1])


def put(txn: Txn, sha256: bytes, verdict: Verdict) -> None:
    threat = None if verdict.threat is None else verdict.threat.encode()
    txn.put(
        "INSERT INTO media_verdict (content, threat, scanned) VALUES (?, ?, ?)"
        " ON CONFLICT (content) DO UPDATE SET threat = excluded.threat, scanned = excluded.scanned",
        (sha256, threat, verdict.scanned),
    )
