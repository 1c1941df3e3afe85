# SPDX-License-Identifier: Apache-2.0
"""The line from a request to its reply: match, authenticate, limit, parse, call, render, and errors to JSON."""

import ipaddress
import itertools
import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import attrs
import orjson
from twisted.internet.defer import CancelledError

from homeserver.http.auth import Authenticate
from homeserver.http.body import Parse, parser
from homeserver.http.endpoint import Answer, AppService, Bound, Call, MaybeUser, Server, Stream, Upload, User
from homeserver.http.incoming import JSON, Incoming, Reply
from homeserver.http.limits import Limits
from homeserver.http.router import Router
from homeserver.http.stats import EndpointStats, Stats
from homeserver.logs import request_id
from homeserver.protocol.errors import MatrixError, Rejected, forbidden

_log = logging.getLogger(__name__)

# Beside the headers that every answer allows, those of the rendezvous (MSC4108).
ALSO_ALLOWED = {"Access-Control-Allow-Headers": "If-Match, If-None-Match"}
PREFLIGHT = Reply(204, b"", None, {"Access-Control-Max-Age": "86400", **ALSO_ALLOWED})


@attrs.frozen(eq=False)
class Plan:
    """What is known of an endpoint before any request comes."""

    bound: Bound
    authenticate: Authenticate
    parse: Parse | None
    limit: str | None
    waits: bool
    stats: EndpointStats


class Dispatcher:
    """Answers requests to the endpoints of one router.

    `kinds` says how each kind of caller is found; `max_upload` is the size limit of Upload bodies in bytes, `max_body`
    that of all others.
    """

    def __init__(
        self,
        router: Router,
        kinds: Mapping[type, Authenticate],
        limits: Limits,
        stats: Stats,
        monotonic: Callable[[], float],
        *,
        max_body: int = 200 * 65536,
        max_upload: int = 50 << 20,
    ) -> None:
        self._router = router
        self._limits = limits
        self._stats = stats
        self._monotonic = monotonic
        self._max_body = max_body
        self._max_upload = max_upload
        self._complained = -math.inf
        self._ids = map("{:x}".format, itertools.count(1))
        self._plans = {bound: self._plan(bound, kinds) for bound in router.endpoints}

    def _plan(self, bound: Bound, kinds: Mapping[type, Authenticate]) -> Plan:
        declared = bound.declaration
        if bound.caller not in kinds:
            raise TypeError(f"{bound.name}: nothing finds a caller that is {bound.caller}")
        parse = parser(bound.body, declared.optional_body) if bound.body is not None else None
        stats = self._stats.of(declared.method, bound.path)
        return Plan(bound, kinds[bound.caller], parse, declared.limit, declared.waits, stats)

    def body_limit(self, method: str, path: str) -> int:
        """How many bytes the body of such a request may have."""
        try:
            bound, _ = self._router.match(method, path)
        except MatrixError:
            return self._max_body
        return self._max_upload if bound.body is Upload else self._max_body

    def declared(self, method: str, path: str) -> str | None:
        """The path as its endpoint declares it."""
        try:
            return self._router.match(method, path)[0].path
        except MatrixError:
            return None

    async def respond(self, incoming: Incoming) -> Reply:
        """The reply to a request; only a cancellation is raised."""
        if incoming.method == "OPTIONS":
            return PREFLIGHT
        started = self._monotonic()
        request_id.set(next(self._ids))
        stats = self._stats.unknown
        try:
            bound, params = self._router.match(incoming.method, incoming.path)
            plan = self._plans[bound]
            stats = plan.stats
            reply = await self._run(plan, params, incoming)
        except MatrixError as error:
            if error.status >= 500:
                self._complain(incoming.method, stats.path, error)
            reply = error_reply(error)
        except Rejected as refusal:
            reply = error_reply(forbidden(refusal.reason))
        except CancelledError:
            stats.record(499, self._monotonic() - started)
            raise
        except Exception:
            _log.exception("%s %s failed", incoming.method, stats.path)
            reply = error_reply(MatrixError(500, "M_UNKNOWN", "Internal server error"))
        stats.record(reply.status, self._monotonic() - started)
        return reply

    def _complain(self, method: str, path: str, error: MatrixError) -> None:
        """Log a fault of the server, such as a database that is gone; once a second, however many meet it."""
        now = self._monotonic()
        if now - self._complained >= 1.0:
            self._complained = now
            _log.error("%s %s answered %d: %s", method, path, error.status, error.message)

    async def _run(self, plan: Plan, params: dict[str, str], incoming: Incoming) -> Reply:
        call = Call(
            params,
            incoming.path,
            incoming.raw_query,
            incoming.client_ip,
            incoming.header,
            request_id.get(),
            incoming.method,
        )
        caller = await plan.authenticate(plan.bound, call, incoming)
        if plan.limit is not None:
            self._limit(plan.limit, caller, call)
        body = None
        if plan.parse is not None:
            body = plan.parse(incoming)
        if not plan.waits:
            return render(await plan.bound.invoke(caller, call, body))
        incoming.waits = True
        self._stats.waiting += 1
        try:
            return render(await plan.bound.invoke(caller, call, body))
        finally:
            self._stats.waiting -= 1

    def _limit(self, limit: str, caller: object, call: Call) -> None:
        if isinstance(caller, Server):
            self._limits.take(limit, caller.name, self._monotonic())
            return
        user = caller if isinstance(caller, User) else None
        if isinstance(caller, MaybeUser | AppService):
            user = caller.user
        if user is None:
            self._limits.take(limit, network_of(call.client_ip), self._monotonic())
        elif user.is_limited:
            self._limits.take_of_user(limit, user.usr, user.user_id, self._monotonic())


@lru_cache(4096)
def network_of(address: str) -> str:
    """Whom an address stands for: itself, or its /64 for IPv6, where one customer has that many."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def render(result: object) -> Reply:
    """The reply that an endpoint's result stands for."""
    if type(result) is dict or type(result) is list:
        return Reply(200, orjson.dumps(result))
    if type(result) is bytes:
        return Reply(200, result)
    if isinstance(result, Answer):
        body, headers = result.body, result.headers
        if body is None:
            return Reply(result.status, b"", headers.get("Content-Type"), headers)
        if isinstance(body, bytes):
            return Reply(result.status, body, headers.get("Content-Type", JSON), headers)
        return Reply(result.status, orjson.dumps(body), headers.get("Content-Type", JSON), headers)
    if isinstance(result, Stream):
        return Reply(result.status, result, result.content_type, result.headers)
    raise TypeError(f"an endpoint answered with {type(result).__name__}")


def error_reply(error: MatrixError) -> Reply:
    """The standard error object; a 429 also says in its header how long to wait, in whole seconds."""
    headers = None
    if error.status == 429 and error.retry_after_ms is not None:
        headers = {"Retry-After": str(-(-error.retry_after_ms // 1000))}
    return Reply(error.status, orjson.dumps(error.body()), JSON, headers)
