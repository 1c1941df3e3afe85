# SPDX-License-Identifier: Apache-2.0
"""Whose password it is: finding the account that an identifier means, and checking what was given for it."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Protocol

from homeserver.protocol.errors import MatrixError, bad_json, forbidden, limit_exceeded, missing_param
from homeserver.protocol.ids import is_user_id, parse_user_id
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.passwords import Passwords
from storage import accounts, threepids
from storage.accounts import Account
from storage.txn import Txn

REMEMBERED = 10_000


class FailureLimits(Protocol):
    """How often a wrong password may be given for one account."""

    def take(self, limit: str, who: Hashable, now: float) -> None:
        """Count one; raises M_LIMIT_EXCEEDED when there were too many."""


def user_deactivated() -> MatrixError:
    return MatrixError(403, "M_USER_DEACTIVATED", "This account has been deactivated")


class Credentials:
    """Passwords and identifiers of local accounts."""

    def __init__(
        self, server_name: str, database: Database, runtime: Runtime, passwords: Passwords, limits: FailureLimits
    ) -> None:
        self._server_name = server_name
        self._database = database
        self._runtime = runtime
        self._passwords = passwords
        self._limits = limits
        self._barred: OrderedDict[str, float] = OrderedDict()

    def full_user_id(self, user: str) -> str:
        """The user id of this server that a user id or local part means; raises M_FORBIDDEN for others."""
        if user.startswith("@") and ":" in user:
            if not is_user_id(user) or parse_user_id(user).server != self._server_name:
                raise forbidden("Invalid username or password")
            return user
        return f"@{user}:{self._server_name}"

    async def find(self, source: Mapping[str, object]) -> tuple[str, Account | None]:
        """What an identifier names, for counting attempts, and the account if there is one.

        `source` holds "identifier", or the deprecated keys "user" or "medium" and "address".
        """
        identifier = source.get("identifier")
        if identifier is None:
            identifier = _from_deprecated(source)
        if not isinstance(identifier, dict):
            raise bad_json("identifier must be an object")
        kind = identifier.get("type", "m.id.thirdparty" if "medium" in identifier else None)
        if kind == "m.id.user":
            user = identifier.get("user")
            if not isinstance(user, str):
                raise missing_param("identifier.user must be a string")
            user_id = self.full_user_id(user)
            account = await self._database.point(accounts.find, user_id)
            if account is None and user_id != user_id.lower():
                account = await self._database.point(accounts.find, user_id.lower())
            return user_id.lower(), account
        medium: object
        address: object
        if kind == "m.id.phone":
            medium, address = "msisdn", _digits(identifier)
        elif kind == "m.id.thirdparty":
            medium, address = identifier.get("medium"), identifier.get("address")
        else:
            raise MatrixError(400, "M_UNKNOWN", "Unknown identifier type")
        if not isinstance(medium, str) or not isinstance(address, str):
            raise missing_param("identifier.medium and identifier.address must be strings")
        if medium == "email":
            address = address.casefold()
        return f"{medium}:{address}", await self._database.point(_by_threepid, medium, address)

    async def check(self, source: Mapping[str, object]) -> Account:
        """The account whose identifier and password are given; raises M_FORBIDDEN, and counts the attempt."""
        password = source.get("password")
        if not isinstance(password, str):
            raise missing_param("password must be a string")
        named, account = await self.find(source)
        self._require_not_barred(named)
        stored = None if account is None or account.deactivated else account.password
        good = await self._passwords.verify(stored, password)
        if account is not None and account.deactivated:
            raise user_deactivated()
        if not good or account is None or stored is None:
            self._count_failure(named)
            raise forbidden("Invalid username or password")
        if self._passwords.is_outdated(stored):
            fresh = await self._passwords.hash(password)
            await self._database.write(accounts.replace_password, account.usr, stored, fresh)
        return account

    def _count_failure(self, named: str) -> None:
        """Raise M_LIMIT_EXCEEDED after too many failures; until then is over, the right password is refused too."""
        now = self._runtime.monotonic()
        try:
            self._limits.take("login_failures", named, now)
        except MatrixError as error:
            self._barred[named] = now + (error.retry_after_ms or 0) / 1000
            self._barred.move_to_end(named)
            if len(self._barred) > REMEMBERED:
                self._barred.popitem(last=False)
            raise

    def _require_not_barred(self, named: str) -> None:
        until, now = self._barred.get(named, 0.0), self._runtime.monotonic()
        if until > now:
            raise limit_exceeded(math.ceil((until - now) * 1000))
        self._barred.pop(named, None)

    async def has_password(self, usr: int) -> bool:
        account = await self._database.point(accounts.by_usr, usr)
        return account is not None and account.password is not None


def _by_threepid(txn: Txn, medium: str, address: str) -> Account | None:
    usr = threepids.owner(txn, medium, address)
    return None if usr is None else accounts.by_usr(txn, usr)


def _from_deprecated(source: Mapping[str, object]) -> dict[str, object]:
    if "user" in source:
        return {"type": "m.id.user", "user": source["user"]}
    if "medium" in source and "address" in source:
        return {"type": "m.id.thirdparty", "medium": source["medium"], "address": source["address"]}
    raise missing_param("Missing identifier")


def _digits(identifier: Mapping[str, object]) -> str:
    """A phone number as digits, without what people write between them; the country is not guessed from."""
    phone = identifier.get("phone", identifier.get("number"))
    if not isinstance(phone, str):
        raise missing_param("identifier.phone must be a string")
    return "".join(c for c in phone if c.isascii() and c.isdigit())
