# SPDX-License-Identifier: Apache-2.0
"""Which small number stands for which user, room, event type and (type, state key).

Readers ask with the plain functions (None or KeyError when unknown); writers use the `intern_*` ones. All answers are
cached, see `storage.caches.Names`, so a warm look-up costs a dict access and no query.
"""

from collections.abc import Iterable

from storage.txn import Txn


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


# ---- users ----


def user_nid(txn: Txn, user_id: str) -> int | None:
    """The number of a user this server has ever seen, local or not; None for others."""
    found = txn.fresh.users.get(user_id) or txn.names.users.get(user_id)
    if found is None:
        row = txn.one("SELECT nid FROM usr WHERE id = ?", (_bytes(user_id),))
        if row is None:
            return None
        found = _learn_user(txn, user_id, row[0])
    return found


def intern_user(txn: Txn, user_id: str, local: bool) -> int:
    """The user's number, given now when there was none."""
    found = user_nid(txn, user_id)
    if found is None:
        found = _next(txn, "usr")
        txn.put("INSERT INTO usr (nid, id, local) VALUES (?, ?, ?)", (found, _bytes(user_id), int(local)))
        _learn_user(txn, user_id, found)
    return found


def user_id(txn: Txn, nid: int) -> str:
    """The id of a user's number."""
    found = txn.names.user_ids.get(nid) or txn.fresh.user_ids.get(nid)
    if found is None:
        row = txn.one("SELECT id FROM usr WHERE nid = ?", (nid,))
        if row is None:
            raise KeyError(nid)
        found = _text(row[0])
        _learn_user(txn, found, nid)
    return found


def user_ids(txn: Txn, nids: Iterable[int]) -> dict[int, str]:
    """The ids of many users in at most one query."""
    wanted = set(nids)
    known = txn.names.user_ids
    found = {nid: known[nid] for nid in wanted if nid in known}
    missing = [nid for nid in wanted if nid not in found]
    if missing:
        condition, params = txn.any("nid", missing)
        for nid, raw in txn.all(f"SELECT nid, id FROM usr WHERE {condition}", params):  # noqa: S608
            found[nid] = _text(raw)
            _learn_user(txn, found[nid], nid)
    return found


def user_nids(txn: Txn, ids: Iterable[str]) -> dict[str, int]:
    """The numbers of many users in few queries, mostly one; unknown users are left out."""
    wanted = set(ids)
    known = txn.names.users
    found = {one: known[one] for one in wanted if one in known}
    missing = [_bytes(one) for one in wanted if one not in found]
    for start in range(0, len(missing), 10_000):
        condition, params = txn.any("id", missing[start : start + 10_000])
        for nid, raw in txn.all(f"SELECT nid, id FROM usr WHERE {condition}", params):  # noqa: S608
            found[_text(raw)] = nid
            _learn_user(txn, _text(raw), nid)
    return found


def is_local(txn: Txn, nid: int) -> bool:
    """Whether the user belongs to this server."""
    row = txn.one("SELECT local FROM usr WHERE nid = ?", (nid,))
    return bool(row and row[0])


def _learn_user(txn: Txn, user: str, nid: int) -> int:
    txn.fresh.users[user] = nid
    txn.fresh.user_ids[nid] = user
    return nid


# ---- rooms ----


def room_nid(txn: Txn, room: str) -> int | None:
    """The number of a room this server has ever seen; None for others."""
    found = txn.fresh.rooms.get(room) or txn.names.rooms.get(room)
    if found is None:
        row = txn.one("SELECT nid, version FROM room WHERE id = ?", (_bytes(room),))
        if row is None:
            return None
        found = learn_room(txn, room, row[1], row[0])
    return found


def room_id(txn: Txn, nid: int) -> str:
    """The id of a room's number."""
    return _room(txn, nid)[0]


def room_version(txn: Txn, nid: int) -> str:
    """The version of a room, as its create event names it."""
    return _room(txn, nid)[1]


def next_room(txn: Txn) -> int:
    """A number for a new room; `storage.rooms` alone makes the row."""
    return _next(txn, "room")


def _room(txn: Txn, nid: int) -> tuple[str, str]:
    found = txn.names.room_ids.get(nid) or txn.fresh.room_ids.get(nid)
    if found is None:
        row = txn.one("SELECT id, version FROM room WHERE nid = ?", (nid,))
        if row is None:
            raise KeyError(nid)
        found = (_text(row[0]), row[1])
        learn_room(txn, found[0], found[1], nid)
    return found


def learn_room(txn: Txn, room: str, version: str, nid: int) -> int:
    """Remembers a room's number."""
    txn.fresh.rooms[room] = nid
    txn.fresh.room_ids[nid] = (room, version)
    return nid


# ---- event types ----


def etype_nid(txn: Txn, name: str) -> int | None:
    """The number of an event type that was ever stored."""
    found = txn.fresh.types.get(name) or txn.names.types.get(name)
    if found is None:
        row = txn.one("SELECT nid FROM etype WHERE name = ?", (_bytes(name),))
        if row is None:
            return None
        found = _learn_type(txn, name, row[0])
    return found


def intern_etype(txn: Txn, name: str) -> int:
    """The type's number, given now when there was none."""
    found = etype_nid(txn, name)
    if found is None:
        found = _next(txn, "etype")
        txn.put("INSERT INTO etype (nid, name) VALUES (?, ?)", (found, _bytes(name)))
        _learn_type(txn, name, found)
    return found


def etype(txn: Txn, nid: int) -> str:
    """The name of a type's number."""
    found = txn.names.type_names.get(nid) or txn.fresh.type_names.get(nid)
    if found is None:
        row = txn.one("SELECT name FROM etype WHERE nid = ?", (nid,))
        if row is None:
            raise KeyError(nid)
        found = _text(row[0])
        _learn_type(txn, found, nid)
    return found


def _learn_type(txn: Txn, name: str, nid: int) -> int:
    txn.fresh.types[name] = nid
    txn.fresh.type_names[nid] = name
    return nid


# ---- (type, state key) pairs ----


def skey_nid(txn: Txn, event_type: str, state_key: str) -> int | None:
    """The number of a (type, state key) pair that some room's state ever had."""
    pair = (event_type, state_key)
    found = txn.fresh.keys.get(pair) or txn.names.keys.get(pair)
    if found is None:
        kind = etype_nid(txn, event_type)
        if kind is None:
            return None
        row = txn.one("SELECT nid FROM skey WHERE etype = ? AND key = ?", (kind, _bytes(state_key)))
        if row is None:
            return None
        found = _learn_key(txn, pair, row[0])
    return found


def intern_skey(txn: Txn, event_type: str, state_key: str) -> int:
    """The pair's number, given now when there was none."""
    found = skey_nid(txn, event_type, state_key)
    if found is None:
        kind = intern_etype(txn, event_type)
        found = _next(txn, "skey")
        txn.put("INSERT INTO skey (nid, etype, key) VALUES (?, ?, ?)", (found, kind, _bytes(state_key)))
        _learn_key(txn, (event_type, state_key), found)
    return found


def skey(txn: Txn, nid: int) -> tuple[str, str]:
    """The (type, state key) of a number."""
    found = txn.names.key_names.get(nid) or txn.fresh.key_names.get(nid)
    if found is None:
        return skeys(txn, [nid])[nid]
    return found


def skeys(txn: Txn, nids: Iterable[int]) -> dict[int, tuple[str, str]]:
    """The (type, state key) of many numbers in at most one query."""
    wanted = set(nids)
    known, fresh = txn.names.key_names, txn.fresh.key_names
    found = {nid: known[nid] if nid in known else fresh[nid] for nid in wanted if nid in known or nid in fresh}
    missing = [nid for nid in wanted if nid not in found]
    if missing:
        condition, params = txn.any("nid", missing)
        for nid, kind, raw in txn.all(f"SELECT nid, etype, key FROM skey WHERE {condition}", params):  # noqa: S608
            found[nid] = (etype(txn, kind), _text(raw))
            _learn_key(txn, found[nid], nid)
    return found


def skeys_of_type(txn: Txn, event_type: str) -> list[int]:
    """The numbers of every state key of a type, in any room. Unbounded: not for members."""
    kind = etype_nid(txn, event_type)
    return [] if kind is None else [row[0] for row in txn.all("SELECT nid FROM skey WHERE etype = ?", (kind,))]


def _learn_key(txn: Txn, pair: tuple[str, str], nid: int) -> int:
    txn.fresh.keys[pair] = nid
    txn.fresh.key_names[nid] = pair
    return nid


_LAST = {table: f"SELECT coalesce(max(nid), 0) FROM {table}" for table in ("usr", "room", "etype", "skey")}  # noqa: S608


def _next(txn: Txn, table: str) -> int:
    last = txn.fresh.counters.get(table)
    if last is None:
        last = txn.names.counters.get(table)
    if last is None:
        row = txn.one(_LAST[table])
        assert row is not None
        last = int(row[0])
    txn.fresh.counters[table] = last + 1
    return last + 1
