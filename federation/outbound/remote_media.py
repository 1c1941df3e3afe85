# SPDX-License-Identifier: Apache-2.0
"""How files of other servers are fetched, once, and kept beside our own.

https://spec.matrix.org/v1.19/server-server-api/#content-repository
"""

import re
import tempfile
from typing import BinaryIO, cast
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from federation.multipart import Found, Malformed, Slice, locate
from federation.outbound.client import Client, Refused, segment
from federation.outbound.resolver import plain_target
from federation.outbound.transport import Response, Transport, Unreachable
from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError, not_found
from homeserver.protocol.ids import MediaUri
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.media import clean_kind, clean_name
from homeserver.services.media_files import MediaFiles
from homeserver.services.ports import RemoteFailure
from storage import media
from storage.media import Content, Media

IN_MEMORY = 1 << 20
SECONDS = 120.0
LONGEST_WAIT_MS = 60_000
HEAD_BYTES = 64 * 1024
REDIRECTS = 3
DISK_THREADS = 4

_FILENAME = re.compile(r'filename\*?=(?:utf-8\'\')?(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', re.IGNORECASE)


class RemoteMedia:
    """Fetches media into the cache. Who asks for the same at the same time waits for one fetch."""

    def __init__(
        self, runtime: Runtime, db: Database, files: MediaFiles, client: Client, transport: Transport, largest: int
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._files = files
        self._client = client
        self._transport = transport
        self._largest = largest
        self._running: dict[MediaUri, list[Deferred[None]]] = {}

    async def fetch(self, uri: MediaUri, timeout_ms: int) -> Media:
        """The media with its content stored here; raises M_NOT_FOUND, M_TOO_LARGE and such."""
        known = await self._known(uri)
        if known is not None:
            return known
        others = self._running.get(uri)
        if others is not None:
            waiting: Deferred[None] = Deferred()
            others.append(waiting)
            await waiting
        else:
            self._running[uri] = []
            try:
                await self._keep(uri, min(timeout_ms, LONGEST_WAIT_MS))
            finally:
                for one in self._running.pop(uri):
                    one.callback(None)
        known = await self._known(uri)
        if known is None:
            raise not_found("The media was not found")
        return known

    async def _known(self, uri: MediaUri) -> Media | None:
        found = await self._db.point(media.find, uri.server, uri.media_id)
        return found if found is not None and (found.content is not None or found.quarantined) else None

    async def _keep(self, uri: MediaUri, timeout_ms: int) -> None:
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as spooled:
            file = cast(BinaryIO, spooled)
            try:
                found = await self._fetched(uri, timeout_ms, file)
            except RemoteFailure as failure:
                raise told(uri, failure) from None
            except Malformed as error:
                raise MatrixError(502, "M_UNKNOWN", f"{uri.server}: {error}") from None
            part = cast(BinaryIO, Slice(file, found.start, found.end))
            sha256, size = await self._runtime.in_pool("media", DISK_THREADS, self._files.store, part)
        content = Content(sha256, size, clean_kind(found.content_type), clean_name(file_name(found.disposition)))
        await self._db.write(media.add_remote, uri.server, uri.media_id, self._runtime.now_ms(), content)

    async def _fetched(self, uri: MediaUri, timeout_ms: int, file: BinaryIO) -> Found:
        """Where the file lies in what was written to `file`."""
        path = f"/_matrix/federation/v1/media/download/{segment(uri.media_id)}"
        query = [("timeout_ms", str(timeout_ms))]
        largest = self._largest + HEAD_BYTES
        response = await self._client.download(uri.server, path, query, file, seconds=SECONDS, largest=largest)
        if response.status == 404 and _is_unrecognized(file):
            return await self._fetched_openly(uri, timeout_ms, file)
        if response.status != 200:
            raise Refused(uri.server, response.status, _error(file))
        found = locate(file, response.headers.get("content-type", ""))
        return found if found.location is None else await self._from_elsewhere(found.location, file)

    async def _fetched_openly(self, uri: MediaUri, timeout_ms: int, file: BinaryIO) -> Found:
        """As servers before v1.11 give it."""
        path = f"/_matrix/media/v3/download/{segment(uri.server)}/{segment(uri.media_id)}"
        query = [("allow_remote", "false"), ("timeout_ms", str(timeout_ms))]
        _empty(file)
        response = await self._client.download(uri.server, path, query, file, seconds=SECONDS, largest=self._largest)
        if response.status != 200:
            raise Refused(uri.server, response.status, _error(file))
        return _whole(file, response)

    async def _from_elsewhere(self, location: str, file: BinaryIO) -> Found:
        """From where the part points to; not signed, as it is no Matrix server."""
        for _ in range(REDIRECTS):
            target, path = plain_target(location)
            _empty(file)
            response = await self._transport.download(target, path, {}, file, timeout=SECONDS, largest=self._largest)
            if response.status not in (301, 302, 303, 307, 308):
                break
            location = response.headers.get("location", "")
        if response.status != 200:
            raise Unreachable("the place that it names has no such file")
        return _whole(file, response)


def _whole(file: BinaryIO, response: Response) -> Found:
    size = file.seek(0, 2)
    headers = response.headers
    return Found(0, size, headers.get("content-type"), headers.get("content-disposition"), None)


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _error(file: BinaryIO) -> dict[str, object]:
    file.seek(0)
    try:
        found = canonical_json.decode(file.read(HEAD_BYTES), strict=False)
    except MatrixError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_unrecognized(file: BinaryIO) -> bool:
    return _error(file).get("errcode") in ("M_UNRECOGNIZED", None)


def told(uri: MediaUri, failure: RemoteFailure) -> MatrixError:
    """What a client is told when the media cannot be had."""
    if isinstance(failure, Refused) and failure.status in (404, 504) and failure.errcode == "M_NOT_YET_UPLOADED":
        return MatrixError(504, "M_NOT_YET_UPLOADED", "The media has not been uploaded yet")
    if isinstance(failure, Refused) and 400 <= failure.status < 500:
        return not_found("The media was not found")
    return MatrixError(502, "M_UNKNOWN", f"{uri.server}: {failure.reason}")


def file_name(disposition: str | None) -> str | None:
    """The file name in a Content-Disposition."""
    match = _FILENAME.search(disposition or "")
    if match is None:
        return None
    quoted, bare = match.groups()
    return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else unquote(bare, errors="replace")
