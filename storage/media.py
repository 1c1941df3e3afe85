# SPDX-License-Identifier: Apache-2.0
"""Which media ids exist, who made them, and which content each stands for."""

from collections.abc import Sequence
from typing import Literal

import attrs

from storage.txn import Change, Txn

LOCAL = ""


@attrs.frozen(slots=True)
class Content:
    """What was uploaded: `sha256` finds the bytes, `kind` and `name` are what the uploader said of them."""

    sha256: bytes
    size: int
    kind: str | None
    name: str | None


@attrs.frozen(slots=True)
class Media:
    """One media id. `content` is None until it is uploaded; `open` says that it is served without authentication."""

    nid: int
    usr: int
    created: int
    expires: int | None
    content: Content | None
    open: bool
    quarantined: bool


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def find(txn: Txn, origin: str, media_id: str) -> Media | None:
    """The media of a server; `origin` is LOCAL for this one."""
    row = txn.one(
        "SELECT nid, usr, created, expires, content, size, kind, name, open, quarantined FROM media"
        " WHERE origin = ? AND id = ?",
        (origin.encode(), media_id.encode()),
    )
    if row is None:
        return None
    content = None if row[4] is None else Content(bytes(row[4]), row[5], _text(row[6]), _text(row[7]))
    return Media(row[0], row[1], row[2], row[3], content, bool(row[8]), bool(row[9]))


def used(txn: Txn, usr: int) -> int:
    """How many bytes a user has uploaded."""
    row = txn.one("SELECT coalesce(sum(size), 0) FROM media WHERE usr = ?", (usr,))
    return 0 if row is None else int(row[0])


def add(
    txn: Txn, media_id: str, usr: int, now: int, content: Content, open_to_all: bool, most: int | None = None
) -> bool:
    """Keep an upload under a new id; False when the user would have more than `most` bytes."""
    if most is not None and used(txn, usr) + content.size > most:
        return False
    nid = txn.position()
    txn.put(
        "INSERT INTO media (nid, origin, id, usr, created, content, size, kind, name, open, quarantined)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            nid,
            LOCAL.encode(),
            media_id.encode(),
            usr,
            now,
            content.sha256,
            content.size,
            _bytes(content.kind),
            _bytes(content.name),
            int(open_to_all),
            int(is_quarantined(txn, content.sha256)),
        ),
    )
    return True


def add_remote(txn: Txn, origin: str, media_id: str, now: int, content: Content) -> None:
    """Keep what came from another server; the first copy stays."""
    txn.put(
        "INSERT INTO media (nid, origin, id, usr, created, content, size, kind, name, open, quarantined)"
        " VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
        (
            txn.position(),
            origin.encode(),
            media_id.encode(),
            now,
            content.sha256,
            content.size,
            _bytes(content.kind),
            _bytes(content.name),
            int(is_quarantined(txn, content.sha256)),
        ),
    )


def reserve(txn: Txn, media_id: str, usr: int, now: int, expires: int, most: int) -> bool:
    """Make an id whose content comes later; False when the user has `most` of those already."""
    row = txn.one("SELECT count(*) FROM media WHERE usr = ? AND content IS NULL AND expires > ?", (usr, now))
    if row is not None and row[0] >= most:
        return False
    txn.run("DELETE FROM media WHERE usr = ? AND content IS NULL AND expires <= ?", (usr, now))
    txn.put(
        "INSERT INTO media (nid, origin, id, usr, created, expires, size, open, quarantined)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0)",
        (txn.position(), LOCAL.encode(), media_id.encode(), usr, now, expires),
    )
    return True


def fill(
    txn: Txn, nid: int, usr: int, content: Content, open_to_all: bool, most: int | None = None
) -> Literal["filled", "taken", "full"]:
    """Give a reserved id its content.

    "taken": it has one already or is gone; "full": the user would have more than `most` bytes.
    """
    if most is not None and used(txn, usr) + content.size > most:
        return "full"
    filled = txn.run(
        "UPDATE media SET content = ?, size = ?, kind = ?, name = ?, open = ?, expires = NULL, quarantined = ?"
        " WHERE nid = ? AND content IS NULL",
        (
            content.sha256,
            content.size,
            _bytes(content.kind),
            _bytes(content.name),
            int(open_to_all),
            int(is_quarantined(txn, content.sha256)),
            nid,
        ),
    )
    if not filled:
        return "taken"
    txn.announce(Change(txn.position(), "media"))
    return "filled"


def is_held(txn: Txn, sha256: bytes) -> bool:
    """Whether any media id stands for a content."""
    return txn.one("SELECT 1 FROM media WHERE content = ? LIMIT 1", (sha256,)) is not None


def set_quarantined(txn: Txn, nid: int, quarantined: bool) -> int:
    """Keep everybody from a media and from all others of the same content, or let them in again; returns how many."""
    return txn.run(
        "UPDATE media SET quarantined = ? WHERE nid = ? OR content = (SELECT content FROM media WHERE nid = ?)",
        (int(quarantined), nid, nid),
    )


def quarantine_of(txn: Txn, usr: int) -> int:
    """Keep everybody from all contents that a user uploaded; returns how many media that are."""
    return txn.run(
        "UPDATE media SET quarantined = 1 WHERE usr = ? AND content IS NOT NULL"
        " OR content IN (SELECT content FROM media WHERE usr = ? AND content IS NOT NULL)",
        (usr, usr),
    )


def is_quarantined(txn: Txn, sha256: bytes) -> bool:
    """Whether a content is kept from everybody."""
    return txn.one("SELECT 1 FROM media WHERE content = ? AND quarantined = 1 LIMIT 1", (sha256,)) is not None


def delete(txn: Txn, nid: int) -> None:
    """Forget a media."""
    row = txn.one("SELECT content FROM media WHERE nid = ?", (nid,))
    txn.run("DELETE FROM media WHERE nid = ?", (nid,))
    if row is not None and row[0] is not None:
        doom(txn, bytes(row[0]))


def doom(txn: Txn, sha256: bytes) -> None:
    """A content's file may go, unless some media has it."""
    if not is_held(txn, sha256):
        txn.run("INSERT INTO media_doomed (content) VALUES (?) ON CONFLICT (content) DO NOTHING", (sha256,))


def release_shown(txn: Txn, event: int) -> None:
    """An event shows its media no more: note those that its sender uploaded, or that only others kept showing."""
    txn.put(
        "UPDATE media SET released = 0 WHERE nid IN (SELECT media FROM media_ref WHERE event = ?)"
        " AND (released = -1 OR usr = (SELECT sender FROM event WHERE nid = ?))",
        (event, event),
    )


def time_releases(txn: Txn, now: int) -> None:
    """What has been released since the last time was so now."""
    txn.run("UPDATE media SET released = ? WHERE released = 0", (now,))


def released(txn: Txn, before: int, most: int) -> list[tuple[int, int, bytes]]:
    """Number, uploader and id of media that were released before a time."""
    rows = txn.all(
        "SELECT nid, usr, id FROM media WHERE released >= 0 AND released > 0 AND released <= ? LIMIT ?", (before, most)
    )
    return [(row[0], row[1], bytes(row[2])) for row in rows]


def hold(txn: Txn, nid: int) -> None:
    """Others show a media that its uploader released."""
    txn.run("UPDATE media SET released = -1 WHERE nid = ? AND released >= 0", (nid,))


def doomed(txn: Txn, most: int) -> list[bytes]:
    """Contents that no media has any more, and whose files may go."""
    txn.run("DELETE FROM media_doomed WHERE content IN (SELECT content FROM media WHERE content IS NOT NULL)")
    return [bytes(row[0]) for row in txn.all("SELECT content FROM media_doomed LIMIT ?", (most,))]


def gone(txn: Txn, contents: Sequence[bytes]) -> None:
    """The files of contents are deleted."""
    for sha256 in contents:
        txn.run("DELETE FROM media_doomed WHERE content = ?", (sha256,))
