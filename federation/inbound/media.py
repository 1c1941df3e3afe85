# SPDX-License-Identifier: Apache-2.0
"""Files of this server, for others.

https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

import io
from urllib.parse import quote

from federation.multipart import Wrapped, around
from homeserver.http.endpoint import Call, Server, Stream, endpoint
from homeserver.protocol.errors import missing_param
from homeserver.protocol.ids import MediaUri
from homeserver.runtime import Runtime
from homeserver.services.media import MediaStore, Opened
from homeserver.services.thumbnails import Wanted

LONGEST_WAIT_MS = 60_000
USUAL_WAIT_MS = 20_000


class MediaPages:
    """Downloads and thumbnails."""

    def __init__(self, server_name: str, runtime: Runtime, store: MediaStore) -> None:
        self._server_name = server_name
        self._runtime = runtime
        self._store = store

    @endpoint("GET", "/_matrix/federation/v1/media/download/{mediaId}", limit="federation", waits=True)
    async def download(self, caller: Server, call: Call) -> Stream:
        opened = await self._store.download(self._uri(call), _wait(call), signed_in=True)
        return self._wrapped(opened)

    @endpoint("GET", "/_matrix/federation/v1/media/thumbnail/{mediaId}", limit="federation", waits=True)
    async def thumbnail(self, caller: Server, call: Call) -> Stream:
        query = call.query
        if query.get("width") is None or query.get("height") is None:
            raise missing_param("width and height are needed")
        wanted = Wanted.of(
            query.int("width", 0), query.int("height", 0), query.get("method") or "scale", query.flag("animated", False)
        )
        return self._wrapped(await self._store.thumbnail(self._uri(call), wanted, _wait(call), signed_in=True))

    def _uri(self, call: Call) -> MediaUri:
        return MediaUri(self._server_name, call.params["mediaId"])

    def _wrapped(self, opened: Opened) -> Stream:
        boundary = self._runtime.token(24)
        head, tail = around(boundary, opened.content_type, _disposition(opened))
        file = io.BufferedReader(Wrapped(head, opened.file, tail))
        length = len(head) + opened.size + len(tail)
        return Stream(file, length, f"multipart/mixed; boundary={boundary}")


def _disposition(opened: Opened) -> str:
    if opened.name is None:
        return "attachment"
    return f"attachment; filename*=utf-8''{quote(opened.name, safe='')}"


def _wait(call: Call) -> int:
    return min(call.query.int("timeout_ms", USUAL_WAIT_MS), LONGEST_WAIT_MS)
