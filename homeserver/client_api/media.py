# SPDX-License-Identifier: Apache-2.0
"""The page of the content repository: upload, download, thumbnails."""

import re
from urllib.parse import quote

from homeserver.http.endpoint import Answer, Call, MaybeUser, Stream, Upload, User, endpoint
from homeserver.protocol.errors import MatrixError, missing_param, not_found, unrecognized
from homeserver.protocol.ids import MediaUri, is_server_name
from homeserver.services.media import MediaStore, Opened, clean_name
from homeserver.services.previews import Previews
from homeserver.services.thumbnails import Wanted

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#content-repository"
DEFAULT_WAIT_MS = 20_000
MAX_WAIT_MS = 60_000
MEDIA_ID = re.compile(r"[0-9A-Za-z_-]{1,255}")
NOT_ACCEPTED = re.compile(r"q\s*=\s*0(\.0*)?\s*$")
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")

# https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content
INLINE = frozenset(
    "text/css text/plain text/csv application/json application/ld+json"
    " image/jpeg image/gif image/png image/apng image/webp image/avif"
    " video/mp4 video/webm video/ogg video/quicktime"
    " audio/mp4 audio/webm audio/aac audio/mpeg audio/ogg audio/wave audio/wav audio/x-wav audio/x-pn-wav audio/flac"
    " audio/x-flac".split()
)
SAFE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf;"
    " style-src 'unsafe-inline'; object-src 'self';",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "bytes",
}


class MediaPage:
    """With authentication, as v1.11 has it."""

    def __init__(self, store: MediaStore) -> None:
        self._store = store

    @endpoint("GET", "/_matrix/client/v1/media/config", spec=SPEC)
    @endpoint("GET", "/_matrix/client/unstable/org.matrix.msc3916/media/config", spec=SPEC)
    @endpoint("GET", "/_matrix/media/v3/config", spec=SPEC)
    async def config(self, caller: User) -> dict[str, object]:
        return {"m.upload.size": self._store.max_upload_size(caller)}

    @endpoint("POST", "/_matrix/media/v3/upload", limit="media", spec=SPEC)
    async def upload(self, caller: User, call: Call, body: Upload) -> dict[str, object]:
        uri = await self._store.upload(caller, body.file, body.content_type, call.query.get("filename"))
        return {"content_uri": str(uri)}

    @endpoint(
        "POST",
        "/_matrix/media/v1/create",
        also=["/_matrix/media/unstable/fi.mau.msc2246/create"],
        limit="media",
        spec=SPEC,
    )
    async def create(self, caller: User) -> dict[str, object]:
        uri, expires = await self._store.reserve(caller)
        return {"content_uri": str(uri), "unused_expires_at": expires}

    @endpoint(
        "PUT",
        "/_matrix/media/v3/upload/{serverName}/{mediaId}",
        also=["/_matrix/media/unstable/fi.mau.msc2246/upload/{serverName}/{mediaId}"],
        limit="media",
        spec=SPEC,
    )
    async def fill(self, caller: User, call: Call, body: Upload) -> dict[str, object]:
        await self._store.fill(caller, _uri(call), body.file, body.content_type, call.query.get("filename"))
        return {}

    @endpoint(
        "GET",
        "/_matrix/client/v1/media/download/{serverName}/{mediaId}",
        also=["/_matrix/client/unstable/org.matrix.msc3916/media/download/{serverName}/{mediaId}"],
        guests=True,
        waits=True,
        spec=SPEC,
    )
    @endpoint(
        "GET",
        "/_matrix/client/v1/media/download/{serverName}/{mediaId}/{fileName}",
        also=["/_matrix/client/unstable/org.matrix.msc3916/media/download/{serverName}/{mediaId}/{fileName}"],
        guests=True,
        waits=True,
        spec=SPEC,
    )
    async def download(self, caller: User, call: Call) -> Stream | Answer:
        opened = await self._store.download(_uri(call), _wait_ms(call), signed_in=True)
        return _shown(call, opened, "private")

    @endpoint(
        "GET",
        "/_matrix/client/v1/media/thumbnail/{serverName}/{mediaId}",
        also=["/_matrix/client/unstable/org.matrix.msc3916/media/thumbnail/{serverName}/{mediaId}"],
        guests=True,
        waits=True,
        spec=SPEC,
    )
    async def thumbnail(self, caller: User, call: Call) -> Stream | Answer:
        opened = await self._store.thumbnail(_uri(call), _wanted(call), _wait_ms(call), signed_in=True)
        return _shown(call, opened, "private", varies=True)


class PreviewPage:
    """What links are about; `previews` is None where the admin does not want pages to be fetched."""

    def __init__(self, previews: Previews | None) -> None:
        self._previews = previews

    @endpoint("GET", "/_matrix/client/v1/media/preview_url", limit="search", spec=SPEC)
    @endpoint("GET", "/_matrix/client/unstable/org.matrix.msc3916/media/preview_url", limit="search", spec=SPEC)
    @endpoint("GET", "/_matrix/media/v3/preview_url", limit="search", spec=SPEC)
    async def preview(self, caller: User, call: Call) -> dict[str, object]:
        if self._previews is None:
            raise unrecognized(404, "This server makes no previews")
        url = call.query.get("url")
        if url is None:
            raise missing_param("url is missing")
        call.query.int("ts", 0)
        language = (call.header("accept-language") or "en")[:100]
        return await self._previews.preview(url, language if language.isascii() and language.isprintable() else "en")


class OpenMediaPage:
    """The paths from before media needed authentication.

    Everybody gets what was uploaded while the server still served everybody, and 404 for the rest; clients that have
    not learned of the new paths and send their token get what it lets them have.
    """

    def __init__(self, store: MediaStore) -> None:
        self._store = store

    @endpoint("GET", "/_matrix/media/v3/download/{serverName}/{mediaId}", waits=True, spec=SPEC)
    @endpoint("GET", "/_matrix/media/v3/download/{serverName}/{mediaId}/{fileName}", waits=True, spec=SPEC)
    async def download(self, caller: MaybeUser, call: Call) -> Stream | Answer:
        signed_in = caller.user is not None
        opened = await self._store.download(_uri(call), _wait_ms(call), signed_in=signed_in)
        return _shown(call, opened, "private" if signed_in else "public")

    @endpoint("GET", "/_matrix/media/v3/thumbnail/{serverName}/{mediaId}", waits=True, spec=SPEC)
    async def thumbnail(self, caller: MaybeUser, call: Call) -> Stream | Answer:
        signed_in = caller.user is not None
        opened = await self._store.thumbnail(_uri(call), _wanted(call), _wait_ms(call), signed_in=signed_in)
        return _shown(call, opened, "private" if signed_in else "public", varies=True)


def _uri(call: Call) -> MediaUri:
    """The media that a path names; what cannot be media is not found."""
    server, media_id = call.params["serverName"], call.params["mediaId"]
    if not is_server_name(server) or not MEDIA_ID.fullmatch(media_id):
        raise not_found("The media was not found")
    return MediaUri(server, media_id)


def _wait_ms(call: Call) -> int:
    return call.query.int("timeout_ms", DEFAULT_WAIT_MS, most=MAX_WAIT_MS)


def _wanted(call: Call) -> Wanted:
    query = call.query
    if query.get("width") is None or query.get("height") is None:
        raise missing_param("width and height are needed")
    return Wanted.of(
        query.int("width", 0),
        query.int("height", 0),
        query.get("method") or "scale",
        query.flag("animated", False),
        webp=_takes_webp(call.header("accept") or ""),
    )


def _takes_webp(accept: str) -> bool:
    """Whether an Accept header names WebP; a client that takes anything gets what every program can show."""
    kinds = (kind.partition(";") for kind in accept.lower().split(","))
    return any(kind.strip() == "image/webp" and not NOT_ACCEPTED.search(rest) for kind, _, rest in kinds)


def disposition(content_type: str, name: str | None) -> str:
    """The Content-Disposition of a file: shown only where its type cannot hold a script."""
    kind = "inline" if content_type.partition(";")[0].strip().lower() in INLINE else "attachment"
    if name is None:
        return kind
    if name.isascii():
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'{kind}; filename="{escaped}"'
    return f"{kind}; filename*=utf-8''{quote(name, safe='')}"


def _shown(call: Call, opened: Opened, sharing: str, *, varies: bool = False) -> Stream | Answer:
    """The file, or the part of it that a Range header asks for."""
    name = clean_name(call.params.get("fileName")) or opened.name
    headers = {
        **SAFE_HEADERS,
        "Content-Disposition": disposition(opened.content_type, name),
        "Cache-Control": f"{sharing}, max-age=86400, immutable",
    }
    if varies:
        headers["Vary"] = "Accept"
    asked = _range(call.header("range"), opened.size)
    if asked is None:
        return Stream(opened.file, opened.size, opened.content_type, 200, headers)
    start, end = asked
    if start >= end:
        opened.file.close()
        error = MatrixError(416, "M_UNKNOWN", "The range lies outside of the file")
        return Answer(416, error.body(), {"Content-Range": f"bytes */{opened.size}"})
    opened.file.seek(start)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{opened.size}"
    return Stream(opened.file, end - start, opened.content_type, 206, headers)


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end of the one range asked for; None to send everything, an empty one for what is not there."""
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        return max(0, size - int(match[2])), size
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return start, size if not match[2] else min(size, int(match[2]) + 1)
