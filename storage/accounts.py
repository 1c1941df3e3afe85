# SPDX-License-Identifier: Apache-2.0
"""What the server knows of a local account: its kind, its password hash, and what administrators did to it."""

from collections.abc import Sequence

import attrs

from storage import names
from storage.txn import Txn

PERSON, GUEST, SERVICE_USER = 0, 1, 2


@attrs.frozen(slots=True)
class Account:
    """`kind` is PERSON, GUEST or SERVICE_USER; `password` the hash's text, None where no password opens the account."""

    usr: int
    user_id: str
    kind: int
    created: int
    admin: bool
    locked: bool
    suspended: bool
    deactivated: bool
    erased: bool
    password: str | None
    appservice: str | None


@attrs.frozen(slots=True)
class NewAccount:
    """What an account is made from."""

    user_id: str
    now: int
    kind: int = PERSON
    admin: bool = False
    password: str | None = None
    appservice: str | None = None


_SELECT = (
    "SELECT a.usr, u.id, a.kind, a.created, a.admin, a.locked, a.suspended, a.deactivated, a.erased, a.password,"
    " a.appservice FROM account a JOIN usr u ON u.nid = a.usr WHERE "
)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def find(txn: Txn, user_id: str) -> Account | None:
    return _account(txn, "u.id = ?", user_id.encode())


def by_usr(txn: Txn, usr: int) -> Account | None:
    return _account(txn, "a.usr = ?", usr)


def _account(txn: Txn, condition: str, key: object) -> Account | None:
    row = txn.one(_SELECT + condition, (key,))
    if row is None:
        return None
    return Account(
        usr=row[0],
        user_id=row[1].decode(),
        kind=row[2],
        created=row[3],
        admin=bool(row[4]),
        locked=bool(row[5]),
        suspended=bool(row[6]),
        deactivated=bool(row[7]),
        erased=bool(row[8]),
        password=_text(row[9]),
        appservice=_text(row[10]),
    )


def create(txn: Txn, new: NewAccount) -> int | None:
    """Make the account and return its number; None when the user id is taken, also by a deactivated account."""
    usr = names.intern_user(txn, new.user_id, True)
    made = txn.run(
        "INSERT INTO account"
        " (usr, created, kind, admin, locked, suspended, deactivated, erased, leaving, password, appservice)"
        " VALUES (?, ?, ?, ?, 0, 0, 0, 0, 0, ?, ?) ON CONFLICT (usr) DO NOTHING",
        (
            usr,
            new.now,
            new.kind,
            int(new.admin),
            None if new.password is None else new.password.encode(),
            None if new.appservice is None else new.appservice.encode(),
        ),
    )
    return usr if made else None


def set_password(txn: Txn, usr: int, password: str | None) -> None:
    txn.run("UPDATE account SET password = ? WHERE usr = ?", (None if password is None else password.encode(), usr))


def make_person(txn: Txn, usr: int, password: str) -> bool:
    """Make a guest a person with a password; False when there is no such guest."""
    made = txn.run(
        "UPDATE account SET kind = ?, password = ? WHERE usr = ? AND kind = ? AND deactivated = 0",
        (PERSON, password.encode(), usr, GUEST),
    )
    return made > 0


def replace_password(txn: Txn, usr: int, old: str, new: str) -> None:
    """Store the same password hashed anew, unless it was changed meanwhile."""
    txn.run("UPDATE account SET password = ? WHERE usr = ? AND password = ?", (new.encode(), usr, old.encode()))


def set_admin(txn: Txn, usr: int, admin: bool) -> None:
    txn.run("UPDATE account SET admin = ? WHERE usr = ?", (int(admin), usr))


def set_locked(txn: Txn, usr: int, locked: bool) -> None:
    txn.run("UPDATE account SET locked = ? WHERE usr = ?", (int(locked), usr))


def set_suspended(txn: Txn, usr: int, suspended: bool) -> None:
    txn.run("UPDATE account SET suspended = ? WHERE usr = ?", (int(suspended), usr))


def set_deactivated(txn: Txn, usr: int, erase: bool) -> None:
    """Close the account for good: no password opens it and its user id stays taken."""
    txn.run(
        "UPDATE account SET deactivated = 1, leaving = 1, admin = 0, password = NULL,"
        " erased = CASE WHEN ? = 1 THEN 1 ELSE erased END WHERE usr = ?",
        (int(erase), usr),
    )


def leaving(txn: Txn) -> list[tuple[int, str]]:
    """Numbers and ids of closed accounts that may still be in rooms."""
    rows = txn.all("SELECT a.usr, u.id FROM account a JOIN usr u ON u.nid = a.usr WHERE a.leaving = 1 ORDER BY a.usr")
    return [(row[0], row[1].decode()) for row in rows]


def set_left(txn: Txn, usr: int) -> None:
    """The closed account is out of all rooms."""
    txn.run("UPDATE account SET leaving = 0 WHERE usr = ?", (usr,))


def erased(txn: Txn, usrs: Sequence[int]) -> frozenset[int]:
    """Those of the users whose events are shown redacted to people who come later."""
    condition, params = txn.any("usr", usrs)
    rows = txn.all(f"SELECT usr FROM account WHERE erased = 1 AND {condition}", params)  # noqa: S608
    return frozenset(row[0] for row in rows)


def any_admin(txn: Txn) -> bool:
    return txn.one("SELECT 1 FROM account WHERE admin = 1 AND deactivated = 0 LIMIT 1") is not None


def highest_numbered(txn: Txn) -> int:
    """The greatest account number so far; the next generated name is looked for above it."""
    row = txn.one("SELECT coalesce(max(usr), 0) FROM account")
    return 0 if row is None else int(row[0])


def add_setup_token(txn: Txn, token_hash: bytes, expires: int) -> None:
    """Keep the token of a link that makes the first administrator; earlier ones end."""
    txn.run("DELETE FROM setup_token")
    txn.run("INSERT INTO setup_token (hash, expires) VALUES (?, ?)", (token_hash, expires))


def setup_token_valid(txn: Txn, token_hash: bytes, now: int) -> bool:
    return txn.one("SELECT 1 FROM setup_token WHERE hash = ? AND expires > ?", (token_hash, now)) is not None


def use_setup_token(txn: Txn, token_hash: bytes, now: int) -> bool:
    """True once for a token that has not expired."""
    return txn.run("DELETE FROM setup_token WHERE hash = ? AND expires > ?", (token_hash, now)) > 0
