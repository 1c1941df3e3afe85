# SPDX-License-Identifier: Apache-2.0
"""How an application service is called: its paths, old and new, the token we show, and what its answers mean."""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import attrs
import orjson

from homeserver.config.appservice import AppServiceRegistration
from homeserver.runtime import Runtime

V1 = "/_matrix/app/v1"
UNSTABLE = "/_matrix/app/unstable"
#: A service that knows only the paths of before the specification's first version is asked again for the new ones.
LEGACY_MS = 3_600_000
TRANSACTION_SECONDS = 60.0
QUERY_SECONDS = 10.0
PING_SECONDS = 10.0
LARGEST_ANSWER = 1_048_576
#: "an unsupported (or unknown) endpoint"
NO_SUCH_PATH = (404, 405, 501)


@attrs.frozen
class Said:
    """A service's answer; `body` may be anything."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None for what is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class Asks(Protocol):
    """What makes the requests (`services.egress`); raises NoAnswer, or its subclass TooLate."""

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, timeout: float, largest: int
    ) -> tuple[int, bytes]: ...


class Calls:
    """Calls to application services."""

    def __init__(self, runtime: Runtime, egress: Asks) -> None:
        self._runtime = runtime
        self._egress = egress
        self._legacy: dict[str, int] = {}

    async def transaction(self, service: AppServiceRegistration, txn: str, body: bytes) -> Said:
        path = f"/transactions/{quote(txn, safe='')}"
        return await self._either(service, "PUT", V1 + path, path, body, TRANSACTION_SECONDS)

    async def user(self, service: AppServiceRegistration, user_id: str) -> Said:
        path = f"/users/{quote(user_id, safe='')}"
        return await self._either(service, "GET", V1 + path, path, None, QUERY_SECONDS)

    async def room(self, service: AppServiceRegistration, alias: str) -> Said:
        path = f"/rooms/{quote(alias, safe='')}"
        return await self._either(service, "GET", V1 + path, path, None, QUERY_SECONDS)

    async def third_party(self, service: AppServiceRegistration, kind: str, query: Mapping[str, str]) -> Said:
        """`kind` is the part of the path after thirdparty/."""
        path = f"/thirdparty/{kind}" + (f"?{urlencode(query)}" if query else "")
        return await self._either(service, "GET", V1 + path, UNSTABLE + path, None, QUERY_SECONDS)

    async def ping(self, service: AppServiceRegistration, body: bytes) -> Said:
        return await self._call(service, "POST", V1 + "/ping", body, PING_SECONDS)

    async def _either(
        self, service: AppServiceRegistration, method: str, path: str, legacy: str, body: bytes | None, seconds: float
    ) -> Said:
        """Call the path of the specification; where there is no such path, the one that drafts of it had."""
        until = self._legacy.get(service.id, 0)
        if self._runtime.now_ms() >= until:
            said = await self._call(service, method, path, body, seconds)
            if said.status not in NO_SUCH_PATH or _is_an_answer(said):
                return said
        older = await self._call(service, method, _with_token(legacy, service.hs_token), body, seconds)
        if older.ok and self._runtime.now_ms() >= until:
            self._legacy[service.id] = self._runtime.now_ms() + LEGACY_MS
        return older

    async def _call(
        self, service: AppServiceRegistration, method: str, path: str, body: bytes | None, seconds: float
    ) -> Said:
        headers = {"authorization": f"Bearer {service.hs_token}", "user-agent": "Parley"}
        if body is not None:
            headers["content-type"] = "application/json"
        url = f"{service.url}{path}"
        status, content = await self._egress.ask(method, url, headers, body, timeout=seconds, largest=LARGEST_ANSWER)
        return Said(status, content)


def _is_an_answer(said: Said) -> bool:
    """Whether a 404 comes from the service's own mind: about a user or an alias, not about the path."""
    body = said.json()
    errcode = body.get("errcode") if isinstance(body, dict) else None
    return isinstance(errcode, str) and errcode != "M_UNRECOGNIZED"


def _with_token(path: str, token: str) -> str:
    """ "Servers should only send this query parameter if supporting legacy versions of the specification." """
    return f"{path}{'&' if '?' in path else '?'}{urlencode({'access_token': token})}"
