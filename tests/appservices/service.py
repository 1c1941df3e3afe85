# SPDX-License-Identifier: Apache-2.0
"""An application service of the tests' own, on a real socket, which checks what it gets against the specification."""

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote

import attrs
import jsonschema
import orjson
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.harness import spec

HS_TOKEN = "the-token-of-the-server"
AS_TOKEN = "the-token-of-the-service"
V1 = "/_matrix/app/v1"

#: What the service says to one request: status and JSON (or bytes as they are); None: nothing, ever.
Say = tuple[int, Any] | None


@attrs.frozen
class Asked:
    """A request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


@attrs.define(eq=False)
class Service:
    """Listens on a free port of 127.0.0.1.

    `taken` are the transactions it said 200 to, by id, in order; `asked` all requests. `answer`, when set, is asked
    first what to say to a request; `mute` lets requests hang.
    """

    taken: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    asked: list[Asked] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)
    knows: dict[str, Any] = attrs.field(factory=dict)
    answer: Callable[[Asked], Say | bool] | None = None
    mute: bool = False
    in_flight: int = 0
    port: Any = None
    number: int = 0
    channels: set[Any] = attrs.field(factory=set)

    def start(self) -> None:
        """Listen, on the same port as before."""
        service = self

        class Everything(Resource):
            isLeaf = True

            def render(self, request: Any) -> Any:
                return service.respond(request)

        self.port = reactor.listenTCP(self.number, Site(Everything()), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.number = self.port.getHost().port

    async def stop(self) -> None:
        """Hang up on everybody and listen no more."""
        if self.port is not None:
            port, self.port = self.port, None
            for channel in self.channels:
                channel.abortConnection()
            self.channels.clear()
            await port.stopListening()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    def respond(self, request: Any) -> Any:
        """The answer to a request."""
        self.channels.add(request.channel.transport)
        content = request.content.read()
        body = orjson.loads(content) if content else None
        query = {name.decode(): values[-1].decode() for name, values in request.args.items()}
        asked = Asked(request.method.decode(), request.path.decode(), query, body)
        self.asked.append(asked)
        if request.getHeader("authorization") != f"Bearer {HS_TOKEN}":
            self.faults.append(f"{asked.path} without the token")
        self.in_flight += 1
        request.notifyFinish().addBoth(lambda _: self._finished())
        if self.mute:
            return NOT_DONE_YET
        status, said = self._say(asked)
        request.setResponseCode(status)
        return said if isinstance(said, bytes) else orjson.dumps(said)

    def _finished(self) -> None:
        self.in_flight -= 1

    def _say(self, asked: Asked) -> tuple[int, Any]:
        if self.answer is not None:
            own = self.answer(asked)
            if isinstance(own, tuple):
                return own
        kind, _, rest = asked.path.removeprefix(V1 + "/").partition("/")
        if kind == "transactions" and asked.method == "PUT":
            return self._take(rest, asked.body)
        if kind == "ping" and asked.method == "POST":
            return 200, {}
        known = self.knows.get(f"{kind}/{unquote(rest)}" if rest else kind)
        return (404, {"errcode": "M_NOT_FOUND", "error": "not here"}) if known is None else (200, known)

    def _take(self, txn: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.in_flight > 1:
            self.faults.append("two transactions at a time")
        schema = _schema()
        if schema is not None:
            self.faults += [f"{list(e.absolute_path)}: {e.message}" for e in schema.iter_errors(body)]
        if txn in self.taken and self.taken[txn] != body:
            self.faults.append(f"transaction {txn} changed")
        self.taken[txn] = body
        return 200, {}

    # ---- what came ----

    def events(self, type: str | None = None) -> list[dict[str, Any]]:
        """All events, in the order they came."""
        return [one for body in self.taken.values() for one in body["events"] if type in (None, one["type"])]

    def texts(self) -> list[str]:
        """The texts of all messages."""
        return [one["content"]["body"] for one in self.events("m.room.message")]

    def all(self, key: str) -> list[Any]:
        """What came under a key of transactions."""
        return [body[key] for body in self.taken.values() if key in body]

    def ephemeral(self, type: str) -> list[dict[str, Any]]:
        return [one for some in self.all("ephemeral") for one in some if one["type"] == type]


@cache
def _schema() -> jsonschema.Draft202012Validator | None:
    folder = spec.folder()
    if folder is None:
        return None
    document = orjson.loads((folder / "bundle" / "application-service.json").read_bytes())
    body = document["paths"]["/_matrix/app/v1/transactions/{txnId}"]["put"]["requestBody"]
    return jsonschema.Draft202012Validator(body["content"]["application/json"]["schema"])
