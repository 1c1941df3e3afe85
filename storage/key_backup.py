# SPDX-License-Identifier: Apache-2.0
"""How encrypted copies of room keys are kept, and which of two copies of the same key stays."""

from collections.abc import Sequence

import attrs

from storage.txn import Change, Txn


@attrs.frozen(slots=True)
class Backup:
    """One version of a user's backup: `auth_data` is JSON, `etag` changes with the keys, `count` is their number."""

    version: int
    algorithm: str
    auth_data: bytes
    etag: int
    count: int


@attrs.frozen(slots=True)
class SessionKey:
    """The copy of one session's key; `data` is the JSON of `session_data`."""

    room: str
    session: str
    first_index: int
    forwarded: int
    verified: bool
    data: bytes

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Of two copies the one with the smaller rank is kept; with equal ranks the stored one.

        "if the keys have different values for is_verified, then it will keep the key that has is_verified set to true;
        if they have the same values for is_verified, then it will keep the key with a lower first_message_index; and
        finally […] the key with a lower forwarded_count" (v1.19, Server-side key backups)
        """
        return not self.verified, self.first_index, self.forwarded


_VERSION = "version, algorithm, auth_data, etag, count"
_KEY = "room, session, first_index, forwarded, verified, data"


def _backup(row: Sequence[object]) -> Backup:
    version, algorithm, auth_data, etag, count = row
    assert isinstance(version, int) and isinstance(algorithm, bytes) and isinstance(auth_data, bytes)
    assert isinstance(etag, int) and isinstance(count, int)
    return Backup(version, algorithm.decode(), auth_data, etag, count)


def current(txn: Txn, usr: int) -> Backup | None:
    """The newest version that is not deleted."""
    row = txn.one(
        f"SELECT {_VERSION} FROM backup_version WHERE usr = ? AND deleted = 0 ORDER BY version DESC LIMIT 1", (usr,)
    )
    return None if row is None else _backup(row)


def find(txn: Txn, usr: int, version: int) -> Backup | None:
    row = txn.one(
        f"SELECT {_VERSION} FROM backup_version WHERE usr = ? AND version = ? AND deleted = 0", (usr, version)
    )
    return None if row is None else _backup(row)


def was_deleted(txn: Txn, usr: int, version: int) -> bool:
    row = txn.one("SELECT deleted FROM backup_version WHERE usr = ? AND version = ?", (usr, version))
    return row is not None and bool(row[0])


def create(txn: Txn, usr: int, algorithm: str, auth_data: bytes) -> int:
    """Start a new version, which is the current one from now on; version numbers are never given twice."""
    row = txn.one("SELECT max(version) FROM backup_version WHERE usr = ?", (usr,))
    version = 1 if row is None or row[0] is None else int(row[0]) + 1
    txn.put(
        "INSERT INTO backup_version (usr, version, algorithm, auth_data, etag, count, deleted)"
        " VALUES (?, ?, ?, ?, 0, 0, 0)",
        (usr, version, algorithm.encode(), auth_data),
    )
    txn.announce(Change(txn.position(), "keys", user=usr))
    return version


def set_auth_data(txn: Txn, usr: int, version: int, auth_data: bytes) -> bool:
    """Whether there was such a version."""
    changed = txn.run(
        "UPDATE backup_version SET auth_data = ? WHERE usr = ? AND version = ? AND deleted = 0",
        (auth_data, usr, version),
    )
    return changed > 0


def delete_version(txn: Txn, usr: int, version: int) -> None:
    txn.run("DELETE FROM backup_key WHERE usr = ? AND version = ?", (usr, version))
    txn.run(
        "UPDATE backup_version SET deleted = 1, auth_data = ?, count = 0 WHERE usr = ? AND version = ?",
        (b"", usr, version),
    )


def delete_user(txn: Txn, usr: int) -> None:
    """Forget all backups of an account that is gone."""
    txn.run("DELETE FROM backup_key WHERE usr = ?", (usr,))
    txn.run("DELETE FROM backup_version WHERE usr = ?", (usr,))


def keys(txn: Txn, usr: int, version: int, room: str | None = None, session: str | None = None) -> list[SessionKey]:
    """The keys of a version, of one room of it, or one session's, in the order of rooms and sessions."""
    where, params = _where(usr, version, room, session)
    rows = txn.all(f"SELECT {_KEY} FROM backup_key WHERE {where} ORDER BY room, session", params)
    return [_session_key(row) for row in rows]


def put_keys(txn: Txn, usr: int, version: int, offered: Sequence[SessionKey]) -> Backup | None:
    """Store the keys that are better than those stored; the version afterwards, None when it is not the current one."""
    backup = current(txn, usr)
    if backup is None or backup.version != version:
        return None
    stored = _stored(txn, usr, version, offered)
    better = [key for key in offered if (old := stored.get((key.room, key.session))) is None or key.rank < old.rank]
    if not better:
        return backup
    txn.many(
        f"INSERT INTO backup_key (usr, version, {_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (usr, version, room, session) DO UPDATE SET first_index = excluded.first_index,"
        " forwarded = excluded.forwarded, verified = excluded.verified, data = excluded.data",
        [
            (usr, version, k.room.encode(), k.session.encode(), k.first_index, k.forwarded, int(k.verified), k.data)
            for k in better
        ],
    )
    added = sum((key.room, key.session) not in stored for key in better)
    return _changed(txn, usr, backup, added)


def delete_keys(txn: Txn, usr: int, version: int, room: str | None, session: str | None) -> Backup | None:
    """Delete the keys of a version, of one room, or one; the version afterwards, None when there is no such version."""
    backup = find(txn, usr, version)
    if backup is None:
        return None
    where, params = _where(usr, version, room, session)
    gone = txn.run(f"DELETE FROM backup_key WHERE {where}", params)
    return _changed(txn, usr, backup, -gone) if gone else backup


def _changed(txn: Txn, usr: int, backup: Backup, added: int) -> Backup:
    after = attrs.evolve(backup, etag=backup.etag + 1, count=backup.count + added)
    txn.put(
        "UPDATE backup_version SET etag = ?, count = ? WHERE usr = ? AND version = ?",
        (after.etag, after.count, usr, backup.version),
    )
    return after


def _stored(txn: Txn, usr: int, version: int, offered: Sequence[SessionKey]) -> dict[tuple[str, str], SessionKey]:
    by_room: dict[str, list[bytes]] = {}
    for key in offered:
        by_room.setdefault(key.room, []).append(key.session.encode())
    found = {}
    for room, sessions in by_room.items():
        for start in range(0, len(sessions), 500):
            condition, params = txn.any("session", sessions[start : start + 500])
            rows = txn.all(
                f"SELECT {_KEY} FROM backup_key WHERE usr = ? AND version = ? AND room = ? AND {condition}",
                (usr, version, room.encode(), *params),
            )
            for key in map(_session_key, rows):
                found[key.room, key.session] = key
    return found


def _where(usr: int, version: int, room: str | None, session: str | None) -> tuple[str, list[object]]:
    where, params = "usr = ? AND version = ?", [usr, version]
    names: list[object] = []
    if room is not None:
        where += " AND room = ?"
        names.append(room.encode())
    if session is not None:
        where += " AND session = ?"
        names.append(session.encode())
    return where, [*params, *names]


def _session_key(row: Sequence[object]) -> SessionKey:
    room, session, first_index, forwarded, verified, data = row
    assert isinstance(room, bytes) and isinstance(session, bytes) and isinstance(data, bytes)
    assert isinstance(first_index, int) and isinstance(forwarded, int)
    return SessionKey(room.decode(), session.decode(), first_index, forwarded, bool(verified), data)
