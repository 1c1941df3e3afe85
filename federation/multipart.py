# SPDX-License-Identifier: Apache-2.0
"""How a file travels between servers: as the second part of a multipart/mixed body, after a part of JSON.

https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

import io
from typing import Any, BinaryIO

import attrs

LARGEST_HEAD = 64 * 1024
LONGEST_TAIL = 4 * 1024
MIME_LINE = b"\r\n"


class Malformed(ValueError):
    """The body is no multipart body of the two parts."""


@attrs.frozen
class Found:
    """Where the file lies in the body: start <= byte < end; or `location`, where it is to be had instead."""

    start: int
    end: int
    content_type: str | None
    disposition: str | None
    location: str | None


def boundary_of(content_type: str) -> bytes:
    """The boundary of a Content-Type; raises Malformed."""
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower() != "multipart/mixed":
        raise Malformed("the answer is not multipart/mixed")
    for part in rest.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "boundary":
            found = value.strip().strip('"')
            if found and found.isascii() and len(found) <= 200:
                return found.encode("ascii")
    raise Malformed("the answer names no boundary")


def locate(file: BinaryIO, content_type: str) -> Found:
    """Finds the file in a body that `file` holds whole; raises Malformed."""
    mark = b"--" + boundary_of(content_type)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(LARGEST_HEAD)
    first = head.find(mark)
    if first < 0 or (first and head[first - 2 : first] != MIME_LINE):
        raise Malformed("the first part does not begin")
    second = head.find(MIME_LINE + mark, first + len(mark))
    if second < 0:
        raise Malformed("the second part does not begin")
    begins = head.find(MIME_LINE, second + 2 + len(mark))
    ends = head.find(MIME_LINE * 2, begins)
    if begins < 0 or ends < 0:
        raise Malformed("the second part has no headers")
    fields = _fields(head[begins:ends])
    start = ends + 4
    file.seek(max(start - 2, size - LONGEST_TAIL))
    at = file.tell()
    tail = file.read()
    last = tail.rfind(MIME_LINE + mark)
    location = fields.get("location")
    if last < 0:
        if location is None:
            raise Malformed("the second part does not end")
        return Found(start, start, None, None, location)
    end = max(at + last, start)
    return Found(start, end, fields.get("content-type"), fields.get("content-disposition"), location)


def _fields(raw: bytes) -> dict[str, str]:
    found = {}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


class Slice(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._left = end - start
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(min(len(buffer), self._left))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)


class Wrapped(io.RawIOBase):
    """A file between two pieces of text, as a file; closes the file with itself."""

    def __init__(self, head: bytes, file: BinaryIO, tail: bytes) -> None:
        self._parts: list[BinaryIO] = [io.BytesIO(head), file, io.BytesIO(tail)]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._parts:
            piece = self._parts[0].read(len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            self._parts.pop(0).close()
        return 0

    def close(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = []
        super().close()


def around(boundary: str, content_type: str, disposition: str) -> tuple[bytes, bytes]:
    """What stands before and after a file."""
    head = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n"
        f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    )
    return head.encode("utf-8", "replace"), f"\r\n--{boundary}--\r\n".encode("ascii")
