# SPDX-License-Identifier: Apache-2.0
"""How the filters that clients store are kept: numbered per user, the same one once."""

from __future__ import annotations

import hashlib

from storage.txn import Txn

MAX_PER_USER = 1_000


class TooManyFilters(Exception):
    """The user has stored as many different filters as there may be."""


def put_filter(txn: Txn, usr: int, body: bytes) -> int:
    """Store a filter and return its number; one stored before keeps the number it has."""
    digest = hashlib.sha256(body).digest()
    known = txn.one("SELECT number FROM filter WHERE usr = ? AND digest = ?", (usr, digest))
    if known is not None:
        return int(known[0])
    last = txn.one("SELECT max(number) FROM filter WHERE usr = ?", (usr,))
    number = 0 if last is None or last[0] is None else int(last[0]) + 1
    if number >= MAX_PER_USER:
        raise TooManyFilters
    txn.run("INSERT INTO filter (usr, number, digest, body) VALUES (?, ?, ?, ?)", (usr, number, digest, body))
    return number


def filter_body(txn: Txn, usr: int, number: int) -> bytes | None:
    """The JSON of one filter as it was stored."""
    row = txn.one("SELECT body FROM filter WHERE usr = ? AND number = ?", (usr, number))
    return None if row is None else bytes(row[0])
