# SPDX-License-Identifier: Apache-2.0
"""Whom the user directory finds: names and avatars of users, and the rooms whose members everybody may find."""

import attrs

from storage.search_text import Term, fts5_query, tsquery, tsvector
from storage.txn import Txn

JOINABLE, READABLE = 1, 2


@attrs.frozen(slots=True)
class Person:
    """One user as the directory shows them."""

    usr: int
    name: str | None
    avatar: str | None


def put_person(txn: Txn, person: Person, words: list[str]) -> None:
    """Have the user found by these words and no others."""
    old = txn.one("SELECT words FROM directory_user WHERE usr = ?", (person.usr,)) if txn.dialect == "sqlite" else None
    if old is not None:
        txn.put(
            "INSERT INTO directory_word (directory_word, rowid, words) VALUES ('delete', ?, ?)", (person.usr, old[0])
        )
    text = tsvector(words) if txn.dialect == "postgresql" else " ".join(words)
    cast = "?::tsvector" if txn.dialect == "postgresql" else "?"
    name = None if person.name is None else person.name.encode("utf-8", "surrogatepass")
    avatar = None if person.avatar is None else person.avatar.encode("utf-8", "surrogatepass")
    txn.put(
        f"INSERT INTO directory_user (usr, name, avatar, words) VALUES (?, ?, ?, {cast}) "
        "ON CONFLICT (usr) DO UPDATE SET name = excluded.name, avatar = excluded.avatar, words = excluded.words",
        (person.usr, name, avatar, text),
    )
    if txn.dialect == "sqlite":
        txn.put("INSERT INTO directory_word (rowid, words) VALUES (?, ?)", (person.usr, text))


def drop_person(txn: Txn, usr: int) -> None:
    """Have the user found no more (erased or deactivated)."""
    if txn.dialect == "sqlite":
        old = txn.one("SELECT words FROM directory_user WHERE usr = ?", (usr,))
        if old is not None:
            txn.put("INSERT INTO directory_word (directory_word, rowid, words) VALUES ('delete', ?, ?)", (usr, old[0]))
    txn.put("DELETE FROM directory_user WHERE usr = ?", (usr,))


def unlisted_accounts(txn: Txn, most: int) -> list[int]:
    """People with an account here whom the directory does not know yet."""
    rows = txn.all(
        "SELECT a.usr FROM account a LEFT JOIN directory_user d ON d.usr = a.usr "
        "WHERE d.usr IS NULL AND a.kind = 0 AND a.deactivated = 0 LIMIT ?",
        (most,),
    )
    return [usr for (usr,) in rows]


def open_room(txn: Txn, room: int, reason: int, is_open: bool) -> None:
    """Note that everybody may join (JOINABLE) or read (READABLE) the room, or no longer."""
    if is_open:
        txn.put("INSERT INTO open_room (room, reason) VALUES (?, ?) ON CONFLICT DO NOTHING", (room, reason))
    else:
        txn.put("DELETE FROM open_room WHERE room = ? AND reason = ?", (room, reason))


def find(txn: Txn, terms: list[Term], viewer: int, limit: int, everybody: bool) -> list[Person]:
    """Users that match all terms and that the viewer may find: who shares a room with them, or is in an open room."""
    if txn.dialect == "postgresql":
        matching = (
            "SELECT usr, name, avatar, ts_rank(words, ?::tsquery) AS fit "
            "FROM directory_user d WHERE words @@ ?::tsquery"
        )
        arguments: list[object] = [tsquery(terms), tsquery(terms)]
    else:
        matching = (
            "SELECT d.usr AS usr, d.name AS name, d.avatar AS avatar, -bm25(directory_word) AS fit "
            "FROM directory_word JOIN directory_user d ON d.usr = directory_word.rowid WHERE directory_word MATCH ?"
        )
        arguments = [fts5_query(terms)]
    if not everybody:
        matching += (
            " AND (d.usr = ? OR EXISTS (SELECT 1 FROM membership a JOIN membership b ON b.room = a.room AND b.kind = 1 "
            "WHERE a.usr = d.usr AND a.kind = 1 AND b.usr = ?) OR EXISTS (SELECT 1 FROM membership a JOIN open_room o "
            "ON o.room = a.room WHERE a.usr = d.usr AND a.kind = 1))"
        )
        arguments += [viewer, viewer]
    rows = txn.all(f"{matching} ORDER BY fit DESC, usr LIMIT ?", [*arguments, limit])
    return [Person(usr, _text(name), _text(avatar)) for usr, name, avatar, _ in rows]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
