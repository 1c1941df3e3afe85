# SPDX-License-Identifier: Apache-2.0
"""Knows the mailboxes where two devices meet when one signs in by the other's QR code: small, in memory, soon gone.

Who knows a mailbox's id reads and writes it; what the devices say is encrypted between them.
"""

from collections import OrderedDict

import attrs

from homeserver.protocol.errors import MatrixError, not_found
from homeserver.runtime import Runtime

LIFETIME = 120.0
MAX_BYTES = 4096
MAILBOXES = 1000


@attrs.frozen
class Mailbox:
    """What was last put in, a token that changes with it, and when that was; `expires` is monotonic seconds."""

    data: bytes
    content_type: str
    token: str
    changed_ms: int
    expires: float


class Rendezvous:
    """Mailboxes by id; the oldest goes when there are too many."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._boxes: OrderedDict[str, Mailbox] = OrderedDict()

    def create(self, data: bytes, content_type: str = "text/plain") -> tuple[str, Mailbox]:
        """A new mailbox and its id; raises M_TOO_LARGE."""
        box = self._filled(data, content_type)
        name = self._runtime.token(18)
        self._boxes[name] = box
        while len(self._boxes) > MAILBOXES:
            self._boxes.popitem(last=False)
        return name, box

    def read(self, name: str) -> Mailbox:
        """Raises M_NOT_FOUND."""
        box = self._boxes.get(name)
        if box is None or box.expires <= self._runtime.monotonic():
            self._boxes.pop(name, None)
            raise not_found("There is no such rendezvous")
        return box

    def write(self, name: str, token: str, data: bytes, content_type: str = "text/plain") -> Mailbox | None:
        """Replace the content; None, and nothing changes, when it is not what `token` was given for."""
        if self.read(name).token != token:
            return None
        box = self._boxes[name] = self._filled(data, content_type)
        return box

    def delete(self, name: str) -> None:
        """Raises M_NOT_FOUND."""
        self.read(name)
        del self._boxes[name]

    def left_ms(self, box: Mailbox) -> int:
        """How long a mailbox lives on unless it is written again."""
        return max(0, int((box.expires - self._runtime.monotonic()) * 1000))

    def _filled(self, data: bytes, content_type: str) -> Mailbox:
        if len(data) > MAX_BYTES:
            raise MatrixError(413, "M_TOO_LARGE", f"A rendezvous holds {MAX_BYTES} bytes")
        runtime = self._runtime
        return Mailbox(data, content_type, runtime.token(12), runtime.now_ms(), runtime.monotonic() + LIFETIME)
