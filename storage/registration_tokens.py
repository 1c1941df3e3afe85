# SPDX-License-Identifier: Apache-2.0
"""Which tokens let people register, and how often each was used."""

import attrs

from storage.txn import Txn


@attrs.frozen(slots=True)
class RegistrationToken:
    """`uses_allowed` and `expires` are None where there is no limit."""

    token: str
    created: int
    uses_allowed: int | None
    completed: int
    expires: int | None

    def valid(self, now: int) -> bool:
        used_up = self.uses_allowed is not None and self.completed >= self.uses_allowed
        return not used_up and (self.expires is None or self.expires > now)


_SELECT = "SELECT token, created, uses_allowed, completed, expires FROM registration_token"


def _token(row: tuple[bytes, int, int | None, int, int | None]) -> RegistrationToken:
    return RegistrationToken(row[0].decode(), *row[1:])


def find(txn: Txn, token: str) -> RegistrationToken | None:
    row = txn.one(_SELECT + " WHERE token = ?", (token.encode(),))
    return None if row is None else _token(row)


def everything(txn: Txn) -> list[RegistrationToken]:
    return [_token(row) for row in txn.all(_SELECT + " ORDER BY created, token")]


def add(txn: Txn, token: str, now: int, uses_allowed: int | None, expires: int | None) -> bool:
    """Make a token; False when it exists."""
    made = txn.run(
        "INSERT INTO registration_token (token, created, uses_allowed, completed, expires) VALUES (?, ?, ?, 0, ?)"
        " ON CONFLICT (token) DO NOTHING",
        (token.encode(), now, uses_allowed, expires),
    )
    return made > 0


def use(txn: Txn, token: str, now: int) -> bool:
    """Count one registration; False when the token is unknown, expired or used up."""
    used = txn.run(
        "UPDATE registration_token SET completed = completed + 1 WHERE token = ?"
        " AND (uses_allowed IS NULL OR completed < uses_allowed) AND (expires IS NULL OR expires > ?)",
        (token.encode(), now),
    )
    return used > 0


def delete(txn: Txn, token: str) -> bool:
    return txn.run("DELETE FROM registration_token WHERE token = ?", (token.encode(),)) > 0
