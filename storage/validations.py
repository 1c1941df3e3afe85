# SPDX-License-Identifier: Apache-2.0
"""Which addresses people are proving to be theirs, and which are proven."""

import attrs

from storage.txn import Txn

REGISTER, ADD, RESET = 1, 2, 3


@attrs.frozen(slots=True)
class Validation:
    """`purpose` is REGISTER, ADD or RESET; a proof for one is none for another. `token` is the mailed one's hash."""

    sid: str
    secret: str
    purpose: int
    medium: str
    address: str
    token: bytes
    attempt: int
    created: int
    validated: int | None = None
    next_link: str | None = None


_SELECT = "SELECT sid, secret, purpose, medium, address, token, attempt, created, validated, next_link FROM validation"


def _one(txn: Txn, condition: str, params: tuple[object, ...]) -> Validation | None:
    row = txn.one(f"{_SELECT} WHERE {condition}", params)
    if row is None:
        return None
    return Validation(
        row[0].decode(),
        row[1].decode(),
        row[2],
        row[3].decode(),
        row[4].decode(),
        bytes(row[5]),
        row[6],
        row[7],
        row[8],
        None if row[9] is None else row[9].decode(),
    )


def find(txn: Txn, sid: str) -> Validation | None:
    return _one(txn, "sid = ?", (sid.encode(),))


def begin(txn: Txn, wanted: Validation, forget_before: int) -> tuple[str, bool]:
    """Begin a proof, or go on with the client's earlier one; returns its id and whether a mail is to be sent.

    "The server will only send an email if the send_attempt is a number greater than the most recent one which it has
    seen, scoped to that email + client_secret pair."
    """
    txn.run("DELETE FROM validation WHERE created < ?", (forget_before,))
    known = _one(
        txn,
        "secret = ? AND purpose = ? AND medium = ? AND address = ?",
        (wanted.secret.encode(), wanted.purpose, wanted.medium.encode(), wanted.address.encode()),
    )
    link = None if wanted.next_link is None else wanted.next_link.encode()
    if known is not None:
        if wanted.attempt <= known.attempt or known.validated is not None:
            return known.sid, False
        txn.run(
            "UPDATE validation SET attempt = ?, token = ?, next_link = ? WHERE sid = ?",
            (wanted.attempt, wanted.token, link, known.sid.encode()),
        )
        return known.sid, True
    txn.put(
        "INSERT INTO validation (sid, secret, purpose, medium, address, token, attempt, created, next_link)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            wanted.sid.encode(),
            wanted.secret.encode(),
            wanted.purpose,
            wanted.medium.encode(),
            wanted.address.encode(),
            wanted.token,
            wanted.attempt,
            wanted.created,
            link,
        ),
    )
    return wanted.sid, True


def confirm(txn: Txn, sid: str, token: bytes, now: int, made_after: int) -> Validation | None:
    """The mailed token came back: the address is proven. None for a token that is wrong or too old."""
    found = find(txn, sid)
    if found is None or found.token != token or found.created < made_after:
        return None
    txn.run("UPDATE validation SET validated = coalesce(validated, ?) WHERE sid = ?", (now, sid.encode()))
    return found


def delete(txn: Txn, sid: str) -> None:
    """A proof was used."""
    txn.run("DELETE FROM validation WHERE sid = ?", (sid.encode(),))
