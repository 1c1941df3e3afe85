# SPDX-License-Identifier: Apache-2.0
"""What registrations asked for before they were authenticated, so that the last request need not say it again."""

from collections import OrderedDict
from collections.abc import Mapping

import attrs

from homeserver.runtime import Runtime

KEPT = ("username", "password", "device_id", "initial_device_display_name", "inhibit_login", "refresh_token")
MOST = 1000
LONGEST_VALUE = 512
KEPT_MS = 30 * 60 * 1000


@attrs.frozen(repr=False)
class Begun:
    """One registration: when it was begun, and what it said. It holds a password, so it is in memory only."""

    at: int
    said: Mapping[str, object]


class BegunRegistrations:
    """By authentication session. Those of earlier runs of the server, and the oldest of very many, are not known."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._begun: OrderedDict[str, Begun] = OrderedDict()

    def keep(self, session: str, body: Mapping[str, object]) -> None:
        """Keep what `body` says until the session ends."""
        now = self._runtime.now_ms()
        said = {name: body[name] for name in KEPT if isinstance(body.get(name), bool | str)}
        if any(isinstance(value, str) and len(value) > LONGEST_VALUE for value in said.values()):
            return
        self._begun[session] = Begun(now, said)
        self._begun.move_to_end(session)
        while len(self._begun) > MOST or next(iter(self._begun.values())).at < now - KEPT_MS:
            self._begun.popitem(last=False)

    def complete(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """The body with what an earlier request of its session said, where it does not say it itself."""
        auth = body.get("auth")
        session = auth.get("session") if isinstance(auth, dict) else None
        begun = self._begun.get(session) if isinstance(session, str) else None
        if begun is None or begun.at < self._runtime.now_ms() - KEPT_MS:
            return body
        return {**begun.said, **body}

    def end(self, session: str | None) -> None:
        """Forget a session that led to an account."""
        if session is not None:
            self._begun.pop(session, None)
