# SPDX-License-Identifier: Apache-2.0
"""Which e-mail addresses and phone numbers belong to which account."""

import attrs

from storage import validations
from storage.txn import Txn
from storage.validations import Validation


@attrs.frozen(slots=True)
class Threepid:
    medium: str
    address: str
    validated: int
    added: int


def of_user(txn: Txn, usr: int) -> list[Threepid]:
    rows = txn.all(
        "SELECT medium, address, validated, added FROM threepid WHERE usr = ? ORDER BY added, medium, address", (usr,)
    )
    return [Threepid(row[0].decode(), row[1].decode(), row[2], row[3]) for row in rows]


def owner(txn: Txn, medium: str, address: str) -> int | None:
    """The number of the account that has the address."""
    row = txn.one("SELECT usr FROM threepid WHERE medium = ? AND address = ?", (medium.encode(), address.encode()))
    return None if row is None else int(row[0])


def add(txn: Txn, usr: int, threepid: Threepid) -> bool:
    """Give the account an address; False when another account has it."""
    added = txn.run(
        "INSERT INTO threepid (medium, address, usr, validated, added) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (medium, address) DO NOTHING",
        (threepid.medium.encode(), threepid.address.encode(), usr, threepid.validated, threepid.added),
    )
    return added > 0 or owner(txn, threepid.medium, threepid.address) == usr


def add_proven(txn: Txn, usr: int, proof: Validation, now: int) -> bool:
    """Give the account the address of a proof, which is used up then; False when another account has it."""
    added = add(txn, usr, Threepid(proof.medium, proof.address, proof.validated or now, now))
    if added:
        validations.delete(txn, proof.sid)
    return added


def delete(txn: Txn, usr: int, medium: str, address: str) -> bool:
    gone = txn.run(
        "DELETE FROM threepid WHERE usr = ? AND medium = ? AND address = ?", (usr, medium.encode(), address.encode())
    )
    return gone > 0


def delete_of_user(txn: Txn, usr: int) -> None:
    txn.run("DELETE FROM threepid WHERE usr = ?", (usr,))
