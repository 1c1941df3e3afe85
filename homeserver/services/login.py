# SPDX-License-Identifier: Apache-2.0
"""How somebody signs in and stays signed in: devices get tokens, tokens are exchanged and given up."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs

from homeserver.config.model import Sessions as Settings
from homeserver.protocol.errors import MatrixError, forbidden, missing_param, unknown_token
from homeserver.runtime import Runtime
from homeserver.services.callers import User, user_locked
from homeserver.services.credentials import Credentials, user_deactivated
from homeserver.services.database import Database
from homeserver.services.jwt_login import JwtLogin
from homeserver.services.sessions import Sessions
from storage import accounts, device_removal, sign_in, tokens
from storage.accounts import Account
from storage.sign_in import NewSession, NewTokens
from storage.tokens import digest
from storage.txn import Txn

DEVICE_ID_LENGTH = 10
MAX_DEVICE_ID = 512
MAX_DEVICE_NAME = 100
LOGIN_TOKEN_MS = 2 * 60 * 1000
JWT = "org.matrix.login.jwt"
EXTRA: Mapping[str, Mapping[str, object]] = {"m.login.token": {"get_login_token": True}}
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@attrs.frozen
class SignIn:
    """What a client asks for when it signs in."""

    device_id: str | None
    device_name: str | None
    can_refresh: bool

    @classmethod
    def of_body(cls, body: Mapping[str, object]) -> "SignIn":
        """Read device_id, initial_device_display_name and refresh_token; raises M_INVALID_PARAM or M_MISSING_PARAM."""
        device_id, name = body.get("device_id"), body.get("initial_device_display_name")
        if device_id is not None and (not isinstance(device_id, str) or not device_id):
            raise MatrixError(400, "M_INVALID_PARAM", "device_id must be a string")
        if device_id is not None and len(device_id) > MAX_DEVICE_ID:
            raise MatrixError(400, "M_INVALID_PARAM", f"device_id has more than {MAX_DEVICE_ID} characters")
        if name is not None and not isinstance(name, str):
            raise MatrixError(400, "M_INVALID_PARAM", "initial_device_display_name must be a string")
        return cls(device_id, check_device_name(name), body.get("refresh_token") is True)


@attrs.frozen
class Prepared:
    """Tokens that exist but are not stored yet, and the answer that hands them out once they are."""

    session: NewSession
    answer: dict[str, object]


class ServiceCallers(Protocol):
    """Port to the application services, for their own way of signing in."""

    def covers(self, appservice_id: str, user_id: str) -> bool: ...


def check_device_name(name: str | None) -> str | None:
    if name is not None and len(name) > MAX_DEVICE_NAME:
        raise MatrixError(400, "M_TOO_LARGE", f"The device name has more than {MAX_DEVICE_NAME} characters")
    return name


class Login:
    """Signs devices in and out."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runtime: Runtime,
        credentials: Credentials,
        sessions: Sessions,
        services: ServiceCallers,
        jwt: JwtLogin | None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._runtime = runtime
        self._credentials = credentials
        self._sessions = sessions
        self._services = services
        self._types: dict[str, Callable[[Mapping[str, object], User | None], Awaitable[Account]]] = {
            "m.login.password": self._by_password,
            "m.login.token": self._by_token,
            "m.login.application_service": self._by_service,
        }
        if jwt is not None:
            self._types[JWT] = jwt.account

    @property
    def flows(self) -> list[dict[str, object]]:
        return [{"type": kind, **EXTRA.get(kind, {})} for kind in self._types]

    async def log_in(self, body: Mapping[str, object], service: User | None) -> dict[str, object]:
        """The answer of POST /login; `service` is the application service whose token came with the request."""
        kind = body.get("type")
        if not isinstance(kind, str):
            raise missing_param("type must be a string")
        wanted = SignIn.of_body(body)
        find = self._types.get(kind)
        if find is None:
            raise MatrixError(400, "M_UNKNOWN", "Unknown login type")
        account = await find(body, service)
        if account.deactivated:
            raise user_deactivated()
        if account.locked:
            raise user_locked()
        return await self.sign_in(account, wanted)

    async def sign_in(self, account: Account, wanted: SignIn) -> dict[str, object]:
        """Sign a device of the account in; the answer of POST /login."""
        prepared = self.prepare(account.user_id, wanted)
        if await self._database.write(sign_in.start, account.usr, prepared.session) is None:
            raise user_deactivated()
        self._sessions.forget_user(account.usr)
        return prepared.answer

    def forget(self, usr: int) -> None:
        """What is remembered of an account's tokens is wrong: it has become another kind of account."""
        self._sessions.forget_user(usr)

    def prepare(self, user_id: str, wanted: SignIn) -> Prepared:
        """Choose a device id and tokens for a device that `storage.sign_in` will store."""
        device_id = wanted.device_id or "".join(self._runtime.random.choices(_LETTERS, k=DEVICE_ID_LENGTH))
        answer, new = self._new_tokens(wanted.can_refresh)
        answer = {
            "user_id": user_id,
            "device_id": device_id,
            "home_server": user_id.partition(":")[2],
            **answer,
        }
        return Prepared(NewSession(device_id, wanted.device_name, new), answer)

    def _new_tokens(self, can_refresh: bool) -> tuple[dict[str, object], NewTokens]:
        now = self._runtime.now_ms()
        access = f"pat_{self._runtime.token(24)}"
        if not can_refresh:
            return {"access_token": access}, NewTokens(digest(access), now)
        refresh = f"prt_{self._runtime.token(24)}"
        lifetime = self._settings.refresh_token_lifetime
        new = NewTokens(
            digest(access),
            now,
            now + self._settings.access_token_lifetime,
            digest(refresh),
            None if lifetime is None else now + lifetime,
        )
        given: dict[str, object] = {"access_token": access, "refresh_token": refresh}
        return {**given, "expires_in_ms": self._settings.access_token_lifetime}, new

    async def refresh(self, token: str) -> dict[str, object]:
        """Exchange a refresh token; raises M_UNKNOWN_TOKEN."""
        answer, new = self._new_tokens(True)
        found = await self._database.write(sign_in.refresh, digest(token), new)
        if found is None:
            raise unknown_token()
        if found.locked:
            raise user_locked()
        if found.expires is not None and found.expires <= new.now:
            raise unknown_token(soft_logout=True)
        self._sessions.forget_user(found.usr)
        return answer

    async def log_out(self, user: User) -> None:
        """End the caller's device with all that belongs to it."""
        if user.device_id is not None:
            await self._database.write(device_removal.delete_devices, user.usr, [user.device_id])
        else:
            await self._database.write(tokens.delete_one, user.token)
        self._sessions.forget_user(user.usr)

    async def log_out_everywhere(self, usr: int, except_device: str | None = None) -> None:
        await self._database.write(device_removal.delete_all_devices, usr, except_device)
        self._sessions.forget_user(usr)

    async def login_token(self, user: User) -> dict[str, object]:
        """A token with which another device can sign in, once and soon."""
        token = f"plt_{self._runtime.token(24)}"
        await self._database.write(tokens.add_login, digest(token), user.usr, self._runtime.now_ms() + LOGIN_TOKEN_MS)
        return {"login_token": token, "expires_in_ms": LOGIN_TOKEN_MS}

    async def _by_password(self, body: Mapping[str, object], service: User | None) -> Account:
        return await self._credentials.check(body)

    async def _by_token(self, body: Mapping[str, object], service: User | None) -> Account:
        token = body.get("token")
        if not isinstance(token, str):
            raise missing_param("token must be a string")
        account = await self._database.write(_use_login_token, digest(token), self._runtime.now_ms())
        if account is None:
            raise forbidden("Invalid login token")
        return account

    async def _by_service(self, body: Mapping[str, object], service: User | None) -> Account:
        if service is None or service.appservice_id is None:
            raise forbidden("This needs the token of an application service")
        user_id, account = await self._credentials.find(body)
        if not self._services.covers(service.appservice_id, user_id):
            raise MatrixError(400, "M_EXCLUSIVE", "The user is outside of the application service's namespaces")
        if account is None:
            raise forbidden("There is no such user")
        return account


def _use_login_token(txn: Txn, token_hash: bytes, now: int) -> Account | None:
    usr = tokens.use_login(txn, token_hash, now)
    return None if usr is None else accounts.by_usr(txn, usr)
