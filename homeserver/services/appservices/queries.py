# SPDX-License-Identifier: Apache-2.0
"""Whose names are whose among application services, and what they are asked before a name is said not to exist.

https://spec.matrix.org/v1.19/application-service-api/#querying
"""

from collections.abc import Awaitable, Callable

from homeserver.config.appservice import AppServiceRegistration
from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime
from homeserver.services.appservices.calls import Calls, Said
from homeserver.services.appservices.registry import AppServices
from homeserver.services.egress import NoAnswer

TRIES = 3
PAUSE_SECONDS = 0.5

Ask = Callable[[AppServiceRegistration], Awaitable[Said]]


class Queries:
    """Asks the services whose namespaces cover a name. True means that it exists now."""

    def __init__(self, services: AppServices, calls: Calls, runtime: Runtime) -> None:
        self._services = services
        self._calls = calls
        self._runtime = runtime

    def check_alias(self, appservice_id: str | None, alias: str) -> None:
        """Raise M_EXCLUSIVE for who may not make or delete the alias."""
        self._services.check_alias(appservice_id, alias)

    async def user(self, user_id: str) -> bool:
        """Raises 408 when a service that should know does not answer."""
        return await self._any(
            self._services.interested_in_user(user_id), lambda service: self._calls.user(service, user_id)
        )

    async def alias(self, alias: str) -> bool:
        """Raises 408 when a service that should know does not answer."""
        return await self._any(
            self._services.interested_in_alias(alias), lambda service: self._calls.room(service, alias)
        )

    async def announce(self, service: AppServiceRegistration, user_id: str) -> None:
        """Have a service make a user of its whom somebody invited; whether it does is its own business."""
        try:
            await self._calls.user(service, user_id)
        except NoAnswer:
            return

    async def _any(self, services: list[AppServiceRegistration], ask: Ask) -> bool:
        silent = False
        for service in services:
            said = await self._patiently(service, ask) if service.url is not None else Said(404, b"")
            if said is None:
                silent = True
            elif said.ok:
                return True
        if silent:
            raise MatrixError(408, "M_UNKNOWN", "The application service that knows this name did not answer")
        return False

    async def _patiently(self, service: AppServiceRegistration, ask: Ask) -> Said | None:
        """ "If the homeserver does not receive a response [...] the homeserver should retry several times." """
        for number in range(TRIES):
            if number:
                await self._runtime.sleep(PAUSE_SECONDS * number)
            try:
                return await ask(service)
            except NoAnswer:
                continue
        return None
