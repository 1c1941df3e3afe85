# SPDX-License-Identifier: Apache-2.0
"""A push gateway of the test's own, on a real socket: checks what it gets against the push gateway API's schema."""

from functools import cache
from typing import Any

import attrs
import jsonschema
import orjson
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.harness import spec

PATH = b"/_matrix/push/v1/notify"


@attrs.define(eq=False)
class Gateway:
    """Listens on a free port of 127.0.0.1. `taken` are the notifications it accepted, `asked` counts all requests."""

    taken: list[dict[str, Any]] = attrs.field(factory=list)
    rejected: list[str] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)
    status: int = 200
    asked: int = 0
    port: Any = None

    def start(self) -> None:
        gateway = self

        class Notify(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:  # noqa: N802
                return gateway.answer(request)

        self.port = reactor.listenTCP(0, Site(Notify()), interface="127.0.0.1")  # type: ignore[attr-defined]

    async def stop(self) -> None:
        await self.port.stopListening()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}{PATH.decode()}"

    def answer(self, request: Any) -> bytes:
        self.asked += 1
        request.setResponseCode(self.status)
        request.setHeader("content-type", "application/json")
        if self.status != 200:
            return b"{}"
        if request.path != PATH:
            self.faults.append(f"path {request.path!r}")
        self.taken.append(self._checked(orjson.loads(request.content.read())))
        return orjson.dumps({"rejected": self.rejected})

    def _checked(self, body: dict[str, Any]) -> dict[str, Any]:
        """The notification; what does not follow the push gateway API is noted in `faults`."""
        schema = _schema()
        if schema is not None:
            self.faults += [f"{list(e.absolute_path)}: {e.message}" for e in schema.iter_errors(body)]
        notification: dict[str, Any] = body["notification"]
        if not all(count > 0 for count in notification.get("counts", {}).values()):
            self.faults.append("a count of zero")
        if any("url" in device.get("data", {}) for device in notification["devices"]):
            self.faults.append("the URL is in the data")
        return notification


@cache
def _schema() -> jsonschema.Draft202012Validator | None:
    place = spec.folder()
    if place is None:
        return None
    document = orjson.loads((place / "bundle" / "push-gateway.json").read_bytes())
    request = document["paths"][PATH.decode()]["post"]["requestBody"]
    return jsonschema.Draft202012Validator(request["content"]["application/json"]["schema"])
