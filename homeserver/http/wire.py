# SPDX-License-Identifier: Apache-2.0
"""The bytes of a response's head: status line, the headers every answer has, its own."""

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from homeserver.http.incoming import JSON, Reply

# https://spec.matrix.org/v1.18/client-server-api/#web-browser-clients
EVERY = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization\r\n"
)
_OWN = frozenset(("content-type", "content-length", "connection", "transfer-encoding", "date", "server"))


class Wire:
    """Heads of responses; the parts that repeat are made once, the date once a second."""

    def __init__(self) -> None:
        self._usual: dict[int, bytes] = {}
        self._second = -1
        self._date = b""

    def head(self, reply: Reply, length: int, now: float, keep: bool) -> bytes:
        """Everything before the body; `now` is seconds since 1970, `keep` whether the connection stays open."""
        if int(now) != self._second:
            self._second = int(now)
            self._date = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        if reply.content_type is JSON and not reply.headers:
            start = self._usual.get(reply.status)
            if start is None:
                start = self._usual[reply.status] = _start(reply.status) + _field("Content-Type", JSON) + _NO_STORE
        else:
            start = _start(reply.status)
            if reply.content_type is not None:
                start += _field("Content-Type", reply.content_type)
            start += _own(reply.headers or {})
        size = b"Content-Length: %d\r\n" % length if reply.status != 204 else b""
        return start + self._date + size + (b"\r\n" if keep else b"Connection: close\r\n\r\n")


_NO_STORE = b"Cache-Control: no-store\r\n"


def _start(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return b"HTTP/1.1 %d %s\r\nServer: Parley\r\n" % (status, phrase.encode()) + EVERY


def _own(headers: Mapping[str, str]) -> bytes:
    lines = b"".join(_field(name, value) for name, value in headers.items() if name.lower() not in _OWN)
    return lines if any(name.lower() == "cache-control" for name in headers) else lines + _NO_STORE


def _field(name: str, value: str) -> bytes:
    line = f"{name}: {value}".encode("utf-8", "replace")
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise ValueError(f"the header {name} would break the response")
    return line + b"\r\n"
