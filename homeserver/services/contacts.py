# SPDX-License-Identifier: Apache-2.0
"""How an e-mail address or phone number gets to an account, and why it does not while nothing can reach it."""

from homeserver.protocol.errors import MatrixError, invalid_param
from homeserver.services.database import Database
from storage import threepids
from storage.threepids import Threepid


class Contacts:
    """Addresses of accounts. No mail or text message provider is configured, so none can be proved."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_user(self, usr: int) -> list[Threepid]:
        return await self._database.read(threepids.of_user, usr)

    async def remove(self, usr: int, medium: str, address: str) -> None:
        """Take an address off the account; one that is not there is no error."""
        await self._database.write(threepids.delete, usr, medium, _canonical(medium, address))

    async def request_new(self, medium: str, address: str, id_server: str | None) -> dict[str, object]:
        """Ask for proof of an address that no account has yet; raises M_THREEPID_IN_USE or M_THREEPID_DENIED."""
        if await self._owner(medium, address, id_server) is not None:
            raise MatrixError(400, "M_THREEPID_IN_USE", "The address belongs to an account already")
        raise _denied(medium)

    async def request_known(self, medium: str, address: str, id_server: str | None) -> dict[str, object]:
        """Ask for proof of an account's address; raises M_THREEPID_NOT_FOUND or M_THREEPID_DENIED."""
        if await self._owner(medium, address, id_server) is None:
            raise MatrixError(400, "M_THREEPID_NOT_FOUND", "No account has this address")
        raise _denied(medium)

    async def _owner(self, medium: str, address: str, id_server: str | None) -> int | None:
        if id_server is not None:
            raise MatrixError(400, "M_SERVER_NOT_TRUSTED", "This server works with no identity server")
        return await self._database.point(threepids.owner, medium, _canonical(medium, address))

    def unverified(self) -> MatrixError:
        """The answer to a validation session that does not exist."""
        return MatrixError(403, "M_THREEPID_AUTH_FAILED", "The address could not be verified")


def _canonical(medium: str, address: str) -> str:
    """The form an address is kept in; raises M_INVALID_PARAM for what cannot be one."""
    if medium == "email":
        local, at, domain = address.rpartition("@")
        if not local or not at or not domain or any(c.isspace() or c == "\x00" for c in address) or len(address) > 500:
            raise invalid_param("This is not an e-mail address")
        return address.casefold()
    digits = "".join(c for c in address if c.isascii() and c.isdigit())
    if not 3 <= len(digits) <= 15:
        raise MatrixError(400, "M_INVALID_PARAM", "This is not a phone number")
    return digits


def _denied(medium: str) -> MatrixError:
    means = "mail" if medium == "email" else "text messages"
    return MatrixError(403, "M_THREEPID_DENIED", f"This server sends no {means}")
