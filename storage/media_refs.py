# SPDX-License-Identifier: Apache-2.0
"""Which events show which media of this server, and which media nothing shows any more.

A file goes when its uploader's own event that showed it is redacted or deleted and no other event shows it: an event of
somebody else's keeps it, but cannot make it go. A file that no readable event ever showed, such as an encrypted one,
stays.
"""

import re

from storage import media
from storage.txn import Txn

MARK = b"mxc://"
MOST = 100

_ADDRESS = re.compile(rb"mxc://[^/\"\\]{1,255}/([0-9A-Za-z_-]{1,255})")


def note(txn: Txn, event: int, content: bytes) -> None:
    """An event's content, in which MARK is, shows media."""
    for media_id in list(dict.fromkeys(_ADDRESS.findall(content)))[:MOST]:
        txn.put(
            "INSERT INTO media_ref (event, media) SELECT CAST(? AS bigint), nid FROM media WHERE origin = ? AND id = ?",
            (event, media.LOCAL.encode(), media_id),
        )


def drop(txn: Txn, event: int, content: bytes = b"") -> None:
    """An event is redacted, `content` is left of it; or it is deleted."""
    media.release_shown(txn, event)
    txn.put("DELETE FROM media_ref WHERE event = ?", (event,))
    if MARK in content:
        note(txn, event, content)


def is_shown(txn: Txn, nid: int) -> bool:
    """Whether an event shows a media."""
    return txn.one("SELECT 1 FROM media_ref WHERE media = ? LIMIT 1", (nid,)) is not None


def unused(txn: Txn, before: int, most: int) -> tuple[list[int], list[int]]:
    """Of media that were released before a time: those that nothing shows, and those that something still does."""
    free: list[int] = []
    held: list[int] = []
    for nid, usr, media_id in media.released(txn, before, most):
        (held if is_shown(txn, nid) or _kept_by(txn, usr, media_id) else free).append(nid)
    return free, held


def _kept_by(txn: Txn, usr: int, media_id: bytes) -> bool:
    """Whether the uploader's profile or account data name a media: an avatar, a pack of stickers."""
    values = txn.all("SELECT value FROM profile_field WHERE usr = ?", (usr,))
    values += txn.all("SELECT content FROM account_data WHERE usr = ?", (usr,))
    return any(media_id in bytes(row[0]) for row in values)


def delete_unused(txn: Txn, free: list[int], held: list[int]) -> int:
    """Forget media that nothing shows, unless something does since; returns how many."""
    for nid in held:
        media.hold(txn, nid)
    count = 0
    for nid in free:
        if is_shown(txn, nid):
            media.hold(txn, nid)
        else:
            media.delete(txn, nid)
            count += 1
    return count
