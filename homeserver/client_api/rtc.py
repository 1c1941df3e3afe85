# SPDX-License-Identifier: Apache-2.0
"""The page of transports for group calls: where clients find the LiveKit services of this server (MSC4143, MSC4195).

https://github.com/matrix-org/matrix-spec-proposals/pull/4143
"""

from collections.abc import Sequence

from homeserver.http.endpoint import User, endpoint

SPEC = "https://github.com/matrix-org/matrix-spec-proposals/pull/4143"
FLAG = "org.matrix.msc4143"


def transports(livekit: Sequence[str]) -> list[dict[str, str]]:
    """The services as clients read them, here and in /.well-known/matrix/client."""
    return [{"type": "livekit", "livekit_service_url": url} for url in livekit]


class RtcPage:
    def __init__(self, livekit: Sequence[str]) -> None:
        self._livekit = livekit

    @endpoint("GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports", spec=SPEC)
    async def list_transports(self, caller: User) -> dict[str, object]:
        return {"rtc_transports": transports(self._livekit)}
