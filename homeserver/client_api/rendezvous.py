# SPDX-License-Identifier: Apache-2.0
"""The two pages of the rendezvous for QR sign-in: the older with plain bodies and ETags, the newer in JSON.

https://github.com/matrix-org/matrix-spec-proposals/pull/4108
https://github.com/matrix-org/matrix-spec-proposals/pull/4388
"""

from email.utils import formatdate

import msgspec

from homeserver.http.endpoint import Answer, Anyone, Call, Upload, endpoint
from homeserver.protocol.errors import MatrixError, forbidden, missing_param
from homeserver.services.rendezvous import MAX_BYTES, Mailbox, Rendezvous

OLD = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
NEW = "/_matrix/client/unstable/io.element.msc4388/rendezvous"
OLD_SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/4108"
NEW_SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/4388"


class DataBody(msgspec.Struct):
    data: str


class NextBody(msgspec.Struct):
    sequence_token: str
    data: str


class EtagRendezvous:
    """MSC4108 as of 2024."""

    def __init__(self, rendezvous: Rendezvous, base_url: str) -> None:
        self._rendezvous = rendezvous
        self._base_url = base_url

    @endpoint("POST", OLD, limit="login", spec=OLD_SPEC)
    async def create(self, caller: Anyone, body: Upload) -> Answer:
        name, box = self._rendezvous.create(_content(body), _kind(body))
        return Answer(201, {"url": f"{self._base_url}{OLD}/{name}"}, self._headers(box))

    @endpoint("GET", f"{OLD}/{{sessionId}}", spec=OLD_SPEC)
    async def read(self, caller: Anyone, call: Call) -> Answer:
        box = self._rendezvous.read(call.params["sessionId"])
        if call.header("if-none-match") == f'"{box.token}"':
            return Answer(304, None, self._headers(box))
        return Answer(200, box.data, {**self._headers(box), "Content-Type": box.content_type})

    @endpoint("PUT", f"{OLD}/{{sessionId}}", spec=OLD_SPEC)
    async def write(self, caller: Anyone, call: Call, body: Upload) -> Answer:
        known = call.header("if-match")
        if known is None:
            raise missing_param("If-Match is missing")
        name = call.params["sessionId"]
        box = self._rendezvous.write(name, known.strip('"'), _content(body), _kind(body))
        if box is None:
            error = {"errcode": "M_CONCURRENT_WRITE", "error": "Somebody has written in between"}
            return Answer(412, error, self._headers(self._rendezvous.read(name)))
        return Answer(202, None, self._headers(box))

    @endpoint("DELETE", f"{OLD}/{{sessionId}}", spec=OLD_SPEC)
    async def delete(self, caller: Anyone, call: Call) -> Answer:
        self._rendezvous.delete(call.params["sessionId"])
        return Answer(204)

    def _headers(self, box: Mailbox) -> dict[str, str]:
        changed = box.changed_ms / 1000
        ends = changed + self._rendezvous.left_ms(box) / 1000
        return {
            "ETag": f'"{box.token}"',
            "Last-Modified": formatdate(changed, usegmt=True),
            "Expires": formatdate(ends, usegmt=True),
            "Cache-Control": "no-store, no-transform",
            "Pragma": "no-cache",
            "Access-Control-Expose-Headers": "ETag",
            "X-Max-Bytes": str(MAX_BYTES),
        }


class JsonRendezvous:
    """MSC4388."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        self._rendezvous = rendezvous

    @endpoint("GET", NEW, spec=NEW_SPEC)
    async def discover(self, caller: Anyone) -> dict[str, object]:
        return {"create_available": True}

    @endpoint("POST", NEW, limit="login", spec=NEW_SPEC)
    async def create(self, caller: Anyone, body: DataBody) -> dict[str, object]:
        name, box = self._rendezvous.create(_encoded(body.data))
        return {"id": name, "sequence_token": box.token, "expires_in_ms": self._rendezvous.left_ms(box)}

    @endpoint("GET", f"{NEW}/{{sessionId}}", spec=NEW_SPEC)
    async def read(self, caller: Anyone, call: Call) -> dict[str, object]:
        if call.header("sec-fetch-mode") == "navigate":
            raise forbidden("A rendezvous is no page to look at")
        box = self._rendezvous.read(call.params["sessionId"])
        left = self._rendezvous.left_ms(box)
        return {"data": box.data.decode(), "sequence_token": box.token, "expires_in_ms": left}

    @endpoint("PUT", f"{NEW}/{{sessionId}}", spec=NEW_SPEC)
    async def write(self, caller: Anyone, call: Call, body: NextBody) -> dict[str, object]:
        box = self._rendezvous.write(call.params["sessionId"], body.sequence_token, _encoded(body.data))
        if box is None:
            raise MatrixError(409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE", "Somebody has written in between")
        return {"sequence_token": box.token}

    @endpoint("DELETE", f"{NEW}/{{sessionId}}", spec=NEW_SPEC)
    async def delete(self, caller: Anyone, call: Call) -> dict[str, object]:
        self._rendezvous.delete(call.params["sessionId"])
        return {}


def _content(body: Upload) -> bytes:
    """The whole of a small body; one byte over the limit is enough to refuse it."""
    return body.file.read(MAX_BYTES + 1)


def _kind(body: Upload) -> str:
    """What a client says its bytes are; never what a browser would run as a page of this server."""
    return "application/octet-stream" if body.content_type == "application/octet-stream" else "text/plain"


def _encoded(data: str) -> bytes:
    return data.encode("utf-8", "surrogatepass")
