# SPDX-License-Identifier: Apache-2.0
"""Full text of messages, names and topics: which events hold which words, under the words of their newest edit."""

from collections.abc import Iterable, Sequence

import attrs

from storage.search_text import Term, fts5_query, tsquery, tsvector
from storage.txn import Txn

BODY, NAME, TOPIC = 1, 2, 3
RANKED = 5_000


@attrs.frozen(slots=True)
class Doc:
    """What one event is found by. `source` is the event that the words come from: itself or its newest edit."""

    event: int
    room: int
    sender: int
    kind: int
    source: int
    words: list[str]


@attrs.frozen(slots=True)
class Hit:
    """An event that was found; a greater `rank` fits better."""

    event: int
    room: int
    rank: float


def cursor(txn: Txn, reader: str) -> int:
    """The position up to which a reader of the event stream has read; 0 at the start."""
    row = txn.one("SELECT pos FROM stream_cursor WHERE reader = ?", (reader,))
    return row[0] if row else 0


def move_cursor(txn: Txn, reader: str, pos: int) -> None:
    txn.put(
        "INSERT INTO stream_cursor (reader, pos) VALUES (?, ?) ON CONFLICT (reader) DO UPDATE SET pos = excluded.pos",
        (reader, pos),
    )


def put_doc(txn: Txn, doc: Doc) -> None:
    """Have the event found by these words and no others."""
    drop_doc(txn, doc.event)
    add_docs(txn, [doc])


def add_docs(txn: Txn, docs: Iterable[Doc]) -> None:
    """Have events found that are not in the index."""
    postgresql = txn.dialect == "postgresql"
    rows = [
        (
            doc.event,
            doc.room,
            doc.sender,
            doc.kind,
            doc.source,
            tsvector(doc.words) if postgresql else " ".join(doc.words),
        )
        for doc in docs
        if doc.words
    ]
    cast = "?::tsvector" if postgresql else "?"
    txn.many(f"INSERT INTO search_doc (event, room, sender, kind, source, words) VALUES (?, ?, ?, ?, ?, {cast})", rows)
    if not postgresql:
        txn.many("INSERT INTO search_word (rowid, words) VALUES (?, ?)", [(row[0], row[5]) for row in rows])


def drop_doc(txn: Txn, event: int) -> None:
    """Have the event found no more. Does nothing for one that is not indexed."""
    if txn.dialect == "sqlite":
        row = txn.one("SELECT words FROM search_doc WHERE event = ?", (event,))
        if row is None:
            return
        txn.put("INSERT INTO search_word (search_word, rowid, words) VALUES ('delete', ?, ?)", (event, row[0]))
    txn.put("DELETE FROM search_doc WHERE event = ?", (event,))


def doc_source(txn: Txn, event: int) -> int | None:
    """The event whose words `event` is indexed under."""
    row = txn.one("SELECT source FROM search_doc WHERE event = ?", (event,))
    return row[0] if row else None


def docs_from(txn: Txn, source: int) -> list[int]:
    """The events that are indexed under the words of `source`."""
    return [event for (event,) in txn.all("SELECT event FROM search_doc WHERE source = ?", (source,))]


def find(
    txn: Txn,
    terms: list[Term],
    rooms: Sequence[int],
    kinds: Sequence[int],
    *,
    by_rank: bool,
    limit: int,
    skip: int,
) -> list[Hit]:
    """One page of the events that hold all terms, newest or best first; the best are those of the newest `RANKED`."""
    in_rooms, params = txn.any("d.room", rooms)
    of_kind = f"d.kind IN ({','.join(map(str, kinds))})"
    if txn.dialect == "postgresql":
        matching = (
            "SELECT d.event AS event, d.room AS room, ts_rank(d.words, ?::tsquery) AS fit FROM search_doc d "
            f"WHERE d.words @@ ?::tsquery AND {in_rooms} AND {of_kind} ORDER BY d.event DESC LIMIT ?"
        )
        arguments: list[object] = [tsquery(terms), tsquery(terms), *params]
    else:
        # FTS5 walks its own order backward, so that this stops at the limit.
        matching = (
            "SELECT d.event AS event, d.room AS room, -bm25(search_word) AS fit "
            "FROM search_word CROSS JOIN search_doc d "
            f"ON d.event = search_word.rowid WHERE search_word MATCH ? AND {in_rooms} AND {of_kind} "
            "ORDER BY search_word.rowid DESC LIMIT ?"
        )
        arguments = [fts5_query(terms), *params]
    if by_rank:
        sql = f"SELECT event, room, fit FROM ({matching}) AS newest ORDER BY fit DESC, event DESC LIMIT ? OFFSET ?"
        rows = txn.all(sql, [*arguments, RANKED, limit, skip])
    else:
        rows = txn.all(f"{matching} OFFSET ?", [*arguments, limit, skip])
    return [Hit(event, room, float(fit)) for event, room, fit in rows]


def count(txn: Txn, terms: list[Term], rooms: Sequence[int], kinds: Sequence[int], most: int) -> int:
    """How many events hold all terms, counted up to `most`."""
    in_rooms, params = txn.any("d.room", rooms)
    of_kind = f"d.kind IN ({','.join(map(str, kinds))})"
    if txn.dialect == "postgresql":
        inside = f"SELECT 1 FROM search_doc d WHERE d.words @@ ?::tsquery AND {in_rooms} AND {of_kind} LIMIT ?"
        query = tsquery(terms)
    else:
        inside = (
            "SELECT 1 FROM search_word JOIN search_doc d ON d.event = search_word.rowid "
            f"WHERE search_word MATCH ? AND {in_rooms} AND {of_kind} LIMIT ?"
        )
        query = fts5_query(terms)
    row = txn.one(f"SELECT count(*) FROM ({inside}) AS found", [query, *params, most])
    return row[0] if row else 0
