# SPDX-License-Identifier: Apache-2.0
"""Whether an application service can be reached from here, for the service that wants to know.

https://spec.matrix.org/v1.19/application-service-api/#pinging
"""

from collections.abc import Callable

import orjson

from homeserver.protocol.errors import MatrixError, forbidden
from homeserver.runtime import Runtime
from homeserver.services.appservices.calls import Calls
from homeserver.services.appservices.registry import AppServices
from homeserver.services.egress import NoAnswer, TooLate

LONGEST_SHOWN = 4_096


class Ping:
    """Calls a service on its own behalf; `reached` is told of each one that answered."""

    def __init__(self, services: AppServices, calls: Calls, runtime: Runtime, reached: Callable[[str], object]) -> None:
        self._services = services
        self._calls = calls
        self._runtime = runtime
        self._reached = reached

    async def ping(self, caller: str, appservice_id: str, transaction_id: str | None) -> int:
        """The time it took in milliseconds.

        Raises M_FORBIDDEN, M_URL_NOT_SET, M_BAD_STATUS, M_CONNECTION_FAILED or M_CONNECTION_TIMEOUT.
        """
        service = self._services.get(caller)
        if service is None or caller != appservice_id:
            raise forbidden("The access token is not that application service's")
        if service.url is None:
            raise MatrixError(400, "M_URL_NOT_SET", "The application service has no url")
        body = {} if transaction_id is None else {"transaction_id": transaction_id}
        begun = self._runtime.monotonic()
        try:
            said = await self._calls.ping(service, orjson.dumps(body))
        except TooLate as late:
            raise MatrixError(504, "M_CONNECTION_TIMEOUT", f"The application service is too slow: {late}") from late
        except NoAnswer as failed:
            message = f"The application service was not reached: {failed}"
            raise MatrixError(502, "M_CONNECTION_FAILED", message) from failed
        if not said.ok:
            text = said.body[:LONGEST_SHOWN].decode("utf-8", "replace")
            message = f"The application service answered with status {said.status}"
            error = MatrixError(502, "M_BAD_STATUS", message)
            error.extra.update(status=said.status, body=text)
            raise error
        self._reached(service.id)
        return int((self._runtime.monotonic() - begun) * 1000)
