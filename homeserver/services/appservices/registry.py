# SPDX-License-Identifier: Apache-2.0
"""What application services may do: whose ids are theirs, and as whom they act."""

from collections.abc import Container, Sequence

from homeserver.config.appservice import AppServiceRegistration, Namespace
from homeserver.protocol.errors import MatrixError, forbidden
from homeserver.protocol.ids import is_user_id, parse_user_id
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.sessions import Acting
from storage import accounts, devices
from storage.accounts import SERVICE_USER, NewAccount
from storage.tokens import digest
from storage.txn import Txn


class AppServices:
    """The registered application services."""

    def __init__(
        self, registrations: Sequence[AppServiceRegistration], server_name: str, database: Database, runtime: Runtime
    ) -> None:
        self._server_name = server_name
        self._database = database
        self._runtime = runtime
        self._by_id = {one.id: one for one in registrations}
        self._by_token = {digest(one.as_token): one for one in registrations}

    @property
    def all(self) -> Sequence[AppServiceRegistration]:
        """Every service."""
        return tuple(self._by_id.values())

    def get(self, appservice_id: str) -> AppServiceRegistration | None:
        """The service with this id."""
        return self._by_id.get(appservice_id)

    @property
    def tokens(self) -> Container[bytes]:
        """Hashes of the tokens that services authenticate with."""
        return self._by_token

    async def make_senders(self) -> None:
        """Make the user that each service speaks as when it asserts no other; called at the start."""
        for one in self._by_id.values():
            user_id = self._sender(one)
            if await self._database.point(accounts.find, user_id) is None:
                made = NewAccount(user_id, self._runtime.now_ms(), kind=SERVICE_USER, appservice=one.id)
                await self._database.write(accounts.create, made)

    async def acting(self, token: bytes, user_id: str | None, device_id: str | None) -> Acting:
        """As whom the service with this token acts. Raises M_FORBIDDEN or M_UNKNOWN_DEVICE.

        "The user specified in the query string must be covered by one of the application service's user namespaces."
        """
        service = self._by_token[token]
        wanted = self._sender(service) if user_id is None else user_id
        if not self.covers(service.id, wanted):
            raise forbidden("The user is outside of the application service's namespaces")
        account, device = await self._database.point(_find, wanted, device_id)
        if account is None or account.deactivated:
            raise forbidden("The application service has not registered this user")
        if device_id is not None and device is None:
            raise MatrixError(400, "M_UNKNOWN_DEVICE", "The user has no such device")
        user = User(
            user_id=account.user_id,
            usr=account.usr,
            device_id=None if device is None else device.device_id,
            device=0 if device is None else device.device,
            is_admin=account.admin,
            appservice_id=service.id,
            is_suspended=account.suspended,
            # "Whether requests from masqueraded users are rate-limited. The sender is excluded."
            is_limited=service.rate_limited and account.user_id != self._sender(service),
        )
        return Acting(user, account.locked)

    def covers(self, appservice_id: str, user_id: str) -> bool:
        """Whether a local user id lies in a namespace of that application service, or is its own."""
        service = self._by_id.get(appservice_id)
        if service is None or not is_user_id(user_id) or parse_user_id(user_id).server != self._server_name:
            return False
        return user_id == self._sender(service) or _any_covers(service.users, user_id)

    def exclusive_owner(self, user_id: str) -> str | None:
        """The id of the application service that alone may make this user."""
        for one in self._by_id.values():
            if user_id == self._sender(one) or _any_covers([n for n in one.users if n.exclusive], user_id):
                return one.id
        return None

    def interested_in_user(self, user_id: str) -> list[AppServiceRegistration]:
        """The services with a namespace that this local user lies in."""
        if not is_user_id(user_id) or parse_user_id(user_id).server != self._server_name:
            return []
        return [one for one in self._by_id.values() if _any_covers(one.users, user_id)]

    def interested_in_alias(self, alias: str) -> list[AppServiceRegistration]:
        """The services with a namespace that this local alias lies in."""
        return [one for one in self._by_id.values() if _any_covers(one.aliases, alias)]

    def speaking(self, protocol: str | None) -> list[AppServiceRegistration]:
        """The services that bridge this network; None: any."""
        return [one for one in self._by_id.values() if one.protocols and protocol in (None, *one.protocols)]

    def check_alias(self, appservice_id: str | None, alias: str) -> None:
        """Raise M_EXCLUSIVE for who may not make or delete the alias.

        "Application services which attempt to create [...] aliases outside of their defined namespaces [...] Similarly,
        normal users who attempt to create [...] aliases inside an application service-defined namespace".
        """
        if appservice_id is not None and not self.owns_alias(appservice_id, alias):
            raise MatrixError(400, "M_EXCLUSIVE", "The alias is outside of the application service's namespaces")
        for one in self._by_id.values():
            if one.id != appservice_id and _any_covers([n for n in one.aliases if n.exclusive], alias):
                raise MatrixError(400, "M_EXCLUSIVE", "The alias is reserved by an application service")

    def owns_alias(self, appservice_id: str, alias: str) -> bool:
        """Whether an alias lies in a namespace of that service."""
        service = self._by_id.get(appservice_id)
        return service is not None and _any_covers(service.aliases, alias)

    def _sender(self, service: AppServiceRegistration) -> str:
        return f"@{service.sender_localpart}:{self._server_name}"


def _any_covers(namespaces: Sequence[Namespace], identifier: str) -> bool:
    return any(one.covers(identifier) for one in namespaces)


def _find(txn: Txn, user_id: str, device_id: str | None) -> tuple[accounts.Account | None, devices.Device | None]:
    account = accounts.find(txn, user_id)
    if account is None or device_id is None:
        return account, None
    return account, devices.find(txn, account.usr, device_id)
