# SPDX-License-Identifier: Apache-2.0
"""What can be changed about an account: its password, its addresses, and whether it is still open."""

from homeserver.protocol.errors import MatrixError, forbidden, not_found
from homeserver.protocol.ids import parse_user_id
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.login import Login
from homeserver.services.passwords import Passwords
from homeserver.services.sessions import Sessions
from storage import account_removal, accounts
from storage.accounts import Account


class Accounts:
    """Local accounts after they were made."""

    def __init__(
        self,
        server_name: str,
        database: Database,
        passwords: Passwords,
        sessions: Sessions,
        login: Login,
    ) -> None:
        self._server_name = server_name
        self._database = database
        self._passwords = passwords
        self._sessions = sessions
        self._login = login

    async def find_local(self, user_id: str) -> Account:
        """The account of a user id; raises M_INVALID_PARAM for other servers' users and M_NOT_FOUND."""
        if parse_user_id(user_id).server != self._server_name:
            raise MatrixError(400, "M_INVALID_PARAM", f"{user_id} is not a user of this server")
        account = await self._database.point(accounts.find, user_id)
        if account is None:
            raise not_found("There is no such user")
        return account

    async def user_id(self, usr: int | None) -> str | None:
        """The user id of an account's number."""
        account = None if usr is None else await self._database.point(accounts.by_usr, usr)
        return None if account is None else account.user_id

    async def change_password(self, usr: int, password: str, *, keep_device: str | None, log_out: bool) -> None:
        """Set a password; with `log_out` every device but `keep_device` is signed out."""
        self._passwords.check_strength(password)
        hashed = await self._passwords.hash(password)
        await self._database.write(accounts.set_password, usr, hashed)
        if log_out:
            await self._login.log_out_everywhere(usr, keep_device)

    async def deactivate(self, account: Account, *, erase: bool) -> None:
        """Close an account for good: no device, no address, no way to sign in.

        `services.departures` follows these changes and takes the account out of its rooms.
        """
        if account.deactivated and (account.erased or not erase):
            return
        await self._database.write(account_removal.close, account.usr, erase)
        self._sessions.forget_user(account.usr)


class Moderation:
    """What administrators may do to accounts without closing them."""

    def __init__(self, database: Database, sessions: Sessions, local: Accounts) -> None:
        self._database = database
        self._sessions = sessions
        self._local = local

    async def target(self, admin: User, user_id: str, *, change: bool) -> Account:
        """The account that an administrator names; raises M_FORBIDDEN for others, and for changes to administrators.

        "The server administrator SHOULD NOT be able to lock or suspend their own account or another administrator's."
        """
        if not admin.is_admin:
            raise forbidden("You are not a server administrator")
        account = await self._local.find_local(user_id)
        if change and (account.admin or account.usr == admin.usr):
            raise forbidden("Administrators cannot be locked or suspended")
        if account.deactivated:
            raise not_found("The account has been deactivated")
        return account

    async def set_locked(self, account: Account, locked: bool) -> None:
        await self._database.write(accounts.set_locked, account.usr, locked)
        self._sessions.forget_user(account.usr)

    async def set_suspended(self, account: Account, suspended: bool) -> None:
        await self._database.write(accounts.set_suspended, account.usr, suspended)
        self._sessions.forget_user(account.usr)
