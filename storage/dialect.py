# SPDX-License-Identifier: Apache-2.0
"""What differs between the SQL of SQLite and of PostgreSQL.

Statements are written once, with ``?`` placeholders; migrations are written once, with these tokens:

=============  =======================  ==============================  =======================================
token          SQLite                   PostgreSQL                      use
=============  =======================  ==============================  =======================================
``{blob}``     BLOB                     bytea                           bytes; strings that users or servers chose
``{bigint}``   INTEGER                  bigint                          positions, ords, milliseconds
``{int}``      INTEGER                  integer                         small numbers of rooms, users, devices
``{small}``    INTEGER                  smallint                        kinds, flags, booleans as 0 and 1
``{text}``     TEXT                     text                            words that only this program chooses
``{real}``     REAL                     double precision                floats
``{bigpk}``    INTEGER PRIMARY KEY      bigint PRIMARY KEY              a numbered table (a rowid table)
``{pk}``       INTEGER PRIMARY KEY      integer PRIMARY KEY             the same with small numbers
``{compact}``  WITHOUT ROWID            (nothing)                       after the ``)`` of a table without a ``{pk}``
``{hot}``      (nothing)                WITH (fillfactor = 70)          after the ``)``; its rows change often
=============  =======================  ==============================  =======================================

A statement with a line ``--@sqlite`` or ``--@postgresql`` above it runs on that database only.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

Dialect = Literal["sqlite", "postgresql"]
Params = Sequence[object]
Row = tuple[object, ...]

_TOKENS: dict[str, tuple[str, str]] = {
    "blob": ("BLOB", "bytea"),
    "bigint": ("INTEGER", "bigint"),
    "int": ("INTEGER", "integer"),
    "small": ("INTEGER", "smallint"),
    "text": ("TEXT", "text"),
    "real": ("REAL", "double precision"),
    "bigpk": ("INTEGER PRIMARY KEY", "bigint PRIMARY KEY"),
    "pk": ("INTEGER PRIMARY KEY", "integer PRIMARY KEY"),
    "compact": ("WITHOUT ROWID", ""),
    "hot": ("", "WITH (fillfactor = 70)"),
}
_TOKEN = re.compile(r"\{(\w+)\}")
_ONLY = re.compile(r"^--@(\w+)\s*$", re.MULTILINE)
_END = re.compile(r";[ \t]*(?:--[^\n]*)?(?:\n|\Z)")


def statements(dialect: Dialect, text: str) -> list[str]:
    """The statements of a migration file for one database, tokens filled in. A statement ends with ``;`` at a line's
    end.
    """
    column = 0 if dialect == "sqlite" else 1
    found = []
    for part in _END.split(text):
        body = part.strip()
        only = _ONLY.search(body)
        if only and only.group(1) != dialect:
            continue
        if all(not line.strip() or line.lstrip().startswith("--") for line in body.splitlines()):
            continue
        found.append(_TOKEN.sub(lambda token: _fill(token.group(1), column), body))
    return found


def _fill(token: str, column: int) -> str:
    try:
        return _TOKENS[token][column]
    except KeyError:
        raise ValueError(f"unknown token {{{token}}} in a migration") from None


def to_postgresql(sql: str) -> str:
    """``?`` placeholders as psycopg2 wants them. No statement of ours has a ``?`` in a literal."""
    return sql.replace("%", "%%").replace("?", "%s")


def any_of(dialect: Dialect, expression: str, values: Sequence[object]) -> tuple[str, list[object]]:
    """A condition that is true where ``expression`` is one of ``values``, and its parameters; values are all ints or
    all bytes.
    """
    if dialect == "postgresql":
        return f"{expression} = ANY(?)", [list(values)]
    if values and all(type(value) is int for value in values):
        return f"{expression} IN (SELECT value FROM json_each(?))", [f"[{','.join(map(str, values))}]"]
    return f"{expression} IN ({','.join('?' * len(values))})", list(values)  # noqa: S608 - marks only


@lru_cache(maxsize=512)
def with_rows(sql: str, columns: int, rows: int) -> str:
    """A statement whose ``{rows}`` are filled with that many rows of marks."""
    row = f"({','.join('?' * columns)})"
    return sql.replace("{rows}", ",".join([row] * rows))
