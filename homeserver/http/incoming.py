# SPDX-License-Identifier: Apache-2.0
"""A request as it came in, and the reply as it goes out, whatever carries them."""

from collections.abc import Callable, Mapping
from typing import BinaryIO

import attrs

from homeserver.http.endpoint import Stream

JSON = "application/json"


@attrs.define(eq=False, slots=True)
class Incoming:
    """A whole request. `path` is as sent, percent-encoded; `header` takes lower-case names.

    The dispatcher sets `waits` when the call should be cancelled if the client hangs up.
    """

    method: str
    path: str
    raw_query: bytes
    header: Callable[[str], str | None]
    client_ip: str
    file: BinaryIO
    size: int
    waits: bool = False

    def content(self) -> bytes:
        """The whole body; `file` stands at its start again afterwards."""
        self.file.seek(0)
        raw = self.file.read()
        self.file.seek(0)
        return raw


@attrs.define(eq=False, slots=True)
class Reply:
    """A response before it is bytes: the headers that every reply has are not in `headers`."""

    status: int
    body: bytes | Stream
    content_type: str | None = JSON
    headers: Mapping[str, str] | None = None
