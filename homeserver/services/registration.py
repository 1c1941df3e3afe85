# SPDX-License-Identifier: Apache-2.0
"""Who may have which user name, and how an account comes to be."""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

import attrs

from homeserver.config.model import Registration as Settings
from homeserver.protocol.errors import MatrixError, forbidden, invalid_param, missing_param, user_in_use
from homeserver.protocol.ids import MAX_ID_BYTES, is_valid_localpart_new
from homeserver.runtime import Runtime
from homeserver.services.begun_registrations import BegunRegistrations
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.login import Login, SignIn
from homeserver.services.passwords import Passwords
from homeserver.services.uia import DUMMY, EMAIL, REGISTRATION_TOKEN, Flow, UiaResult
from storage import accounts, registration_tokens, sign_in
from storage.accounts import GUEST, PERSON, SERVICE_USER, NewAccount
from storage.sign_in import AddressTaken, Registration, TokenUsedUp
from storage.tokens import digest
from storage.validations import Validation

NONCE_MS = 60_000
NONCES = 1_000
SETUP_MS = 24 * 60 * 60 * 1000


class Namespaces(Protocol):
    """Port to the application services: whose user ids are whose."""

    def exclusive_owner(self, user_id: str) -> str | None:
        """The id of the application service that alone may make this user."""

    def covers(self, appservice_id: str, user_id: str) -> bool:
        """Whether the user id lies in a namespace of that application service."""


@attrs.frozen
class NewUser:
    """What is known of an account to make, checked by `Registrar.check_name`."""

    localpart: str
    password: str | None
    admin: bool = False


class Registrar:
    """Makes accounts: for people who register, guests, application services and administrators."""

    def __init__(
        self,
        server_name: str,
        settings: Settings,
        database: Database,
        runtime: Runtime,
        passwords: Passwords,
        login: Login,
        namespaces: Namespaces,
    ) -> None:
        self._server_name = server_name
        self._settings = settings
        self._database = database
        self._runtime = runtime
        self._passwords = passwords
        self._login = login
        self._namespaces = namespaces
        self._nonces: OrderedDict[str, int] = OrderedDict()
        self.begun = BegunRegistrations(runtime)

    def flows(self, can_mail: bool) -> list[Flow]:
        """What a person may prove; the dummy stage tells a flow without an address from one with it."""
        first = [REGISTRATION_TOKEN] if self._settings.token_required else []
        if not can_mail:
            return [first or [DUMMY]]
        with_address = [*first, EMAIL]
        return [with_address] if self._settings.email_required else [with_address, [*first, DUMMY]]

    def require_open(self) -> None:
        if not self._settings.enabled:
            raise forbidden("Registration is disabled")

    async def check_name(self, localpart: str, appservice_id: str | None = None) -> None:
        """Raise M_INVALID_USERNAME, M_EXCLUSIVE or M_USER_IN_USE when nobody, or not this caller, may have the name."""
        user_id = f"@{localpart}:{self._server_name}"
        if not is_valid_localpart_new(localpart):
            raise _invalid_username("User names consist of a-z, 0-9 and the signs . _ = - / +")
        if len(user_id) > MAX_ID_BYTES:
            raise _invalid_username("The user name is too long")
        owner = self._namespaces.exclusive_owner(user_id)
        if appservice_id is not None and not self._namespaces.covers(appservice_id, user_id):
            raise _exclusive("The user name is outside of the application service's namespaces")
        if owner is not None and owner != appservice_id:
            raise _exclusive("The user name is reserved by an application service")
        if appservice_id is None and localpart.startswith("_"):
            raise _invalid_username("User names that start with _ are for application services")
        if await self._database.point(accounts.find, user_id) is not None:
            raise user_in_use()

    async def free_name(self) -> str:
        """A user name for somebody who did not choose one."""
        number = await self._database.point(accounts.highest_numbered) + 1
        return f"{number}.{self._runtime.token(4).lower()}"

    async def register(
        self, new: NewUser, sign_in_as: SignIn | None, result: UiaResult, address: Validation | None = None
    ) -> dict[str, object]:
        """Make a person's account after a completed flow, with the address that was proven; the answer of /register."""
        account = await self._account(new, PERSON)
        return await self._make(account, sign_in_as, result, address)

    async def register_guest(self, device_name: str | None) -> dict[str, object]:
        if not self._settings.guests:
            raise MatrixError(403, "M_GUEST_ACCESS_FORBIDDEN", "Guest accounts are disabled")
        account = await self._account(NewUser(await self.free_name(), None), GUEST)
        return await self._make(account, SignIn(None, device_name, False), UiaResult(None, {}))

    async def upgrade_guest(
        self, guest: User, password: str, sign_in_as: SignIn | None, result: UiaResult
    ) -> dict[str, object]:
        """Make a guest's account a person's, after a completed flow; the answer of /register."""
        hashed = await self._passwords.hash(password)
        prepared = None if sign_in_as is None else self._login.prepare(guest.user_id, sign_in_as)
        session = None if prepared is None else prepared.session
        if not await self._database.write(sign_in.upgrade, guest.usr, hashed, session, result.session):
            raise user_in_use()
        self._login.forget(guest.usr)
        return {"user_id": guest.user_id} if prepared is None else prepared.answer

    async def register_service_user(self, caller: User, localpart: str, sign_in_as: SignIn | None) -> dict[str, object]:
        """Make a user of the application service `caller`, which has no password."""
        await self.check_name(localpart, caller.appservice_id)
        account = NewAccount(
            f"@{localpart}:{self._server_name}",
            self._runtime.now_ms(),
            kind=SERVICE_USER,
            appservice=caller.appservice_id,
        )
        return await self._make(account, sign_in_as, UiaResult(None, {}))

    async def make_account(self, new: NewUser) -> str:
        """Make an account without signing in (command line, setup page); returns the user id."""
        await self.check_name(new.localpart)
        answer = await self._make(await self._account(new, PERSON), None, UiaResult(None, {}))
        return str(answer["user_id"])

    async def _account(self, new: NewUser, kind: int) -> NewAccount:
        password = None if new.password is None else await self._passwords.hash(new.password)
        return NewAccount(
            f"@{new.localpart}:{self._server_name}",
            self._runtime.now_ms(),
            kind=kind,
            admin=new.admin,
            password=password,
        )

    async def _make(
        self,
        account: NewAccount,
        sign_in_as: SignIn | None,
        result: UiaResult,
        address: Validation | None = None,
    ) -> dict[str, object]:
        prepared = None if sign_in_as is None else self._login.prepare(account.user_id, sign_in_as)
        session = None if prepared is None else prepared.session
        registration = Registration(account, session, result.registration_token, address, result.session)
        try:
            usr = await self._database.write(sign_in.register, registration)
        except TokenUsedUp:
            raise MatrixError(401, "M_UNAUTHORIZED", "The registration token can no longer be used") from None
        except AddressTaken:
            raise MatrixError(400, "M_THREEPID_IN_USE", "The address belongs to an account already") from None
        if usr is None:
            raise user_in_use()
        return {"user_id": account.user_id} if prepared is None else prepared.answer

    async def token_is_valid(self, token: str) -> bool:
        found = await self._database.point(registration_tokens.find, token)
        return found is not None and found.valid(self._runtime.now_ms())

    # Registration by a secret that tools share with the server

    def nonce(self) -> str:
        """A value that one shared-secret registration within a minute may use."""
        secret = self._shared_secret()
        assert secret
        now = self._runtime.now_ms()
        while self._nonces and (len(self._nonces) >= NONCES or next(iter(self._nonces.values())) <= now):
            self._nonces.popitem(last=False)
        nonce = self._runtime.token(24)
        self._nonces[nonce] = now + NONCE_MS
        return nonce

    def _shared_secret(self) -> str:
        if not self._settings.shared_secret:
            raise MatrixError(400, "M_UNKNOWN", "Shared secret registration is not enabled")
        return self._settings.shared_secret

    async def register_with_secret(self, body: Mapping[str, object]) -> dict[str, object]:
        """Make an account for a tool that knows the shared secret, as Synapse's admin API documents it."""
        secret = self._shared_secret()
        nonce, username, password = (_text(body, key) for key in ("nonce", "username", "password"))
        mac, kind, admin = body.get("mac"), body.get("user_type"), body.get("admin", False)
        if not isinstance(mac, str):
            raise missing_param("mac must be a string")
        if not isinstance(admin, bool):
            raise invalid_param("admin must be true or false")
        if self._nonces.pop(nonce, 0) <= self._runtime.now_ms():
            raise MatrixError(400, "M_UNKNOWN", "unrecognised nonce")
        said = [nonce, username, password, "admin" if admin else "notadmin"]
        if isinstance(kind, str):
            said.append(kind)
        expected = hmac.new(secret.encode(), b"\0".join(part.encode() for part in said), hashlib.sha1)
        if not hmac.compare_digest(expected.hexdigest().encode(), mac.encode()):
            raise MatrixError(403, "M_FORBIDDEN", "HMAC incorrect")
        localpart = username.lower()
        await self.check_name(localpart)
        device_id, name = body.get("device_id"), body.get("initial_device_display_name")
        wanted = SignIn(
            device_id if isinstance(device_id, str) else None,
            name if isinstance(name, str) else None,
            body.get("refresh_token") is True,
        )
        sign_in_as = None if body.get("inhibit_login") is True else wanted
        return await self.register(NewUser(localpart, password, admin), sign_in_as, UiaResult(None, {}))

    # The first administrator

    async def setup_token(self) -> str:
        """A new token for the page that makes the first administrator, valid for a day; earlier ones end."""
        token = self._runtime.token(24)
        await self._database.write(accounts.add_setup_token, digest(token), self._runtime.now_ms() + SETUP_MS)
        return token

    async def needs_setup(self) -> bool:
        """Whether the server has no administrator yet."""
        return not await self._database.point(accounts.any_admin)

    async def set_up(self, token: str, localpart: str, password: str) -> str:
        """Make the first administrator; returns the user id. The token ends with success only."""
        now = self._runtime.now_ms()
        if not await self._database.point(accounts.setup_token_valid, digest(token), now):
            raise forbidden("This setup link has been used or has expired")
        self._passwords.check_strength(password)
        await self.check_name(localpart)
        if not await self._database.write(accounts.use_setup_token, digest(token), now):
            raise forbidden("This setup link has been used or has expired")
        return await self.make_account(NewUser(localpart, password, admin=True))


def _text(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value or "\x00" in value:
        raise missing_param(f"{key} must be a string")
    return value


def _invalid_username(message: str) -> MatrixError:
    return MatrixError(400, "M_INVALID_USERNAME", message)


def _exclusive(message: str) -> MatrixError:
    return MatrixError(400, "M_EXCLUSIVE", message)
