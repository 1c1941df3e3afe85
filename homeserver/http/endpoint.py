# SPDX-License-Identifier: Apache-2.0
"""How an endpoint declares itself, and what it is given and gives back."""

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import BinaryIO

import attrs

from homeserver.http.query import Query
from homeserver.services.callers import User

__all__ = [
    "Answer",
    "Anyone",
    "AppService",
    "Call",
    "Declaration",
    "MaybeUser",
    "Server",
    "Stream",
    "Upload",
    "User",
    "endpoint",
]

type_of_page = typing.Callable[..., Awaitable[object]]


@attrs.frozen
class Anyone:
    """A caller who need not say who they are."""


@attrs.frozen
class MaybeUser:
    """A caller who may have an access token; `user` is None for one without."""

    user: User | None


@attrs.frozen
class AppService:
    """An application service that speaks for itself, by its registration's `as_token`."""

    id: str
    user: User


@attrs.frozen
class Server:
    """Another server, which signed its request; `content` is the JSON it signed, None when there was no body."""

    name: str
    content: typing.Any = None


@attrs.define(eq=False, slots=True)
class Call:
    """What a request says besides who sends it and its body.

    `params` are the path's variables, percent-decoded; `path` is the path as sent.
    """

    params: dict[str, str]
    path: str
    raw_query: bytes
    client_ip: str
    header: Callable[[str], str | None]
    request_id: str = ""
    method: str = "GET"
    _query: Query | None = None

    @property
    def query(self) -> Query:
        """The query string's values; read once, when first asked for."""
        if self._query is None:
            self._query = Query.parse(self.raw_query)
        return self._query

    @property
    def user_agent(self) -> str:
        return self.header("user-agent") or ""


@attrs.frozen
class Upload:
    """A request body that is not JSON: `file` stands at its start and is closed when the answer is sent."""

    file: BinaryIO
    size: int
    content_type: str | None


@attrs.frozen
class Answer:
    """A response other than 200 with JSON: `body` may be None (empty), bytes (sent as they are) or JSON."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Stream:
    """A response read from a file: `length` bytes from where `file` stands; the http layer closes it."""

    file: BinaryIO
    length: int
    content_type: str = "application/octet-stream"
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Declaration:
    """What `@endpoint` was told, before the page's annotations are read."""

    method: str
    paths: tuple[str, ...]
    limit: str | None
    guests: bool
    optional_body: bool
    waits: bool
    locked: bool
    spec: str | None


F = typing.TypeVar("F", bound=type_of_page)


def endpoint(
    method: str,
    path: str,
    *,
    also: Sequence[str] = (),
    limit: str | None = "default",
    guests: bool = False,
    optional_body: bool = False,
    waits: bool = False,
    locked: bool = False,
    spec: str | None = None,
) -> Callable[[F], F]:
    """Declare one endpoint; may be repeated over one function.

    `also` are further paths, `limit` the bucket of `rate_limits` it draws from (None: never refused), `guests` lets
    guest accounts in, `optional_body` takes an empty body for `{}`, `waits` cancels the call when the client hangs up
    (long polls only: a call that writes must not be cancelled), `locked` lets locked accounts in.
    """

    def declare(function: F) -> F:
        declared = Declaration(method, (path, *also), limit, guests, optional_body, waits, locked, spec)
        function.__dict__.setdefault("__endpoints__", []).append(declared)
        return function

    return declare


@attrs.frozen(eq=False)
class Bound:
    """One endpoint of one page, with its annotations read: what the router finds and the dispatcher runs.

    `caller` is the annotation of the `caller` argument; `body` that of `body`, None when there is none; `invoke`
    takes (caller, call, body) and passes on those that the function wants.
    """

    name: str
    declaration: Declaration
    caller: type
    body: type | None
    invoke: Callable[[object, Call, object], Awaitable[object]]

    @property
    def path(self) -> str:
        return self.declaration.paths[0]


def bind(page: object) -> list[Bound]:
    """Every endpoint that the page's class declares; raises TypeError for one that is declared wrongly."""
    found = []
    for name, function in inspect.getmembers(type(page), inspect.isfunction):
        declarations: Sequence[Declaration] = function.__dict__.get("__endpoints__", ())
        if declarations:
            where = f"{type(page).__name__}.{name}"
            hints = typing.get_type_hints(function)
            arguments = [a for a in inspect.signature(function).parameters if a != "self"]
            if not set(arguments) <= {"caller", "call", "body"} or "caller" not in arguments:
                raise TypeError(f"{where} must take caller and may take call and body, not {arguments}")
            caller, body = hints["caller"], hints.get("body") if "body" in arguments else None
            invoke = _invoker(getattr(page, name), arguments)
            found += [Bound(where, d, caller, typing.get_origin(body) or body, invoke) for d in reversed(declarations)]
    return found


def _invoker(
    method: Callable[..., Awaitable[object]], arguments: list[str]
) -> Callable[[object, Call, object], Awaitable[object]]:
    """Pass (caller, call, body) to a method that may want fewer or in another order."""
    match arguments:
        case ["caller", "call", "body"]:
            return method
        case ["caller", "call"]:
            return lambda caller, call, body: method(caller, call)
        case ["caller"]:
            return lambda caller, call, body: method(caller)
        case ["caller", "body"]:
            return lambda caller, call, body: method(caller, body)
    return lambda caller, call, body: method(
        **{k: v for k, v in (("caller", caller), ("call", call), ("body", body)) if k in arguments}
    )
