# SPDX-License-Identifier: Apache-2.0
"""How files come in and go out: uploads, ids made ahead of them, downloads that wait for them, thumbnails."""

import io
import logging
from typing import BinaryIO, Protocol

import attrs
from twisted.internet.defer import Deferred

from homeserver.config.media import Allowance
from homeserver.config.media import Media as Settings
from homeserver.protocol.errors import MatrixError, forbidden, limit_exceeded, not_found, too_large
from homeserver.protocol.ids import MediaUri
from homeserver.runtime import Runtime
from homeserver.services import image_metadata, thumbnails
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.media_files import MediaFiles
from homeserver.services.thumbnails import Made, Wanted
from homeserver.services.virus_scan import VirusScan
from storage import media
from storage.media import LOCAL, Content, Media

RESERVED_MS = 24 * 60 * 60 * 1000
MOST_RESERVED = 20
DISK_THREADS = 4
THUMBNAIL_THREADS = 2
THUMBNAILS_WAITING = 64
MAX_NAME = 255
MAX_KIND = 255
MEDIA_ID_BYTES = 18

_log = logging.getLogger(__name__)


@attrs.frozen
class Opened:
    """Something to send: `size` bytes in `file`."""

    file: BinaryIO
    size: int
    content_type: str
    name: str | None


class RemoteMedia(Protocol):
    """Port to the federation: media of other servers, fetched into the cache."""

    async def fetch(self, uri: MediaUri, timeout_ms: int) -> Media:
        """The media with its content stored here; raises MatrixError."""


class NoRemoteMedia:
    """Stands in while this server does not federate."""

    async def fetch(self, uri: MediaUri, timeout_ms: int) -> Media:
        raise not_found("The media is not on this server, which does not federate")


class MediaStore:
    """Media of this server."""

    def __init__(
        self,
        server_name: str,
        settings: Settings,
        database: Database,
        runtime: Runtime,
        files: MediaFiles,
        remote: RemoteMedia,
        virus_scan: VirusScan | None = None,
    ) -> None:
        self._server_name = server_name
        self._settings = settings
        self._database = database
        self._runtime = runtime
        self._files = files
        self._remote = remote
        self._virus_scan = virus_scan
        self._awaited: dict[int, list[Deferred[None]]] = {}
        self._making: dict[tuple[bytes, str], list[Deferred[None]]] = {}
        self._queued = 0

    def max_upload_size(self, user: User) -> int:
        """The largest file that a user may upload."""
        largest = self._allowance(user).max_upload_size
        return self._settings.max_upload_size if largest is None else min(largest, self._settings.max_upload_size)

    def _allowance(self, user: User) -> Allowance:
        quota = self._settings.quota
        return quota.services if user.appservice_id else quota.admins if user.is_admin else quota.users

    async def _require_room(self, user: User, file: BinaryIO) -> None:
        """Raise M_TOO_LARGE for a file over the user's limit, M_FORBIDDEN when the user's quota is used up."""
        size = file.seek(0, 2)
        file.seek(0)
        if size > self.max_upload_size(user):
            raise too_large("The file is larger than you may upload")
        total = self._allowance(user).total
        if total is not None and size + await self._database.point(media.used, user.usr) > total:
            raise _quota_reached()

    async def upload(self, user: User, file: BinaryIO, kind: str | None, name: str | None) -> MediaUri:
        """Keep a file under a new id."""
        require_not_suspended(user)
        await self._require_room(user, file)
        content = await self._store(file, kind, name, as_is=_may_be_encrypted(kind))
        media_id = self._runtime.token(MEDIA_ID_BYTES)
        now, opened = self._runtime.now_ms(), self._settings.open_downloads
        most = self._allowance(user).total
        if not await self._database.write(media.add, media_id, user.usr, now, content, opened, most):
            await self._database.write(media.doom, content.sha256)
            raise _quota_reached()
        return MediaUri(self._server_name, media_id)

    async def keep(self, file: BinaryIO, kind: str) -> MediaUri:
        """Keep a file that the server itself fetched."""
        content = await self._store(file, kind, None, as_is=True)
        media_id = self._runtime.token(MEDIA_ID_BYTES)
        await self._database.write(media.add, media_id, 0, self._runtime.now_ms(), content, False)
        return MediaUri(self._server_name, media_id)

    async def image_size(self, data: bytes) -> tuple[int, int] | None:
        """Width and height of a picture; None for what is none."""
        return await self._runtime.in_pool("thumbnails", THUMBNAIL_THREADS, thumbnails.size_of, data)

    async def reserve(self, user: User) -> tuple[MediaUri, int]:
        """An id for a file that comes later, and until when; raises M_LIMIT_EXCEEDED for too many of those."""
        require_not_suspended(user)
        now, media_id = self._runtime.now_ms(), self._runtime.token(MEDIA_ID_BYTES)
        expires = now + RESERVED_MS
        if not await self._database.write(media.reserve, media_id, user.usr, now, expires, MOST_RESERVED):
            raise limit_exceeded(60_000)
        return MediaUri(self._server_name, media_id), expires

    async def fill(self, user: User, uri: MediaUri, file: BinaryIO, kind: str | None, name: str | None) -> None:
        """Upload to a reserved id; raises M_NOT_FOUND, M_FORBIDDEN or M_CANNOT_OVERWRITE_MEDIA."""
        require_not_suspended(user)
        found = None
        if uri.server == self._server_name:
            found = await self._database.point(media.find, LOCAL, uri.media_id)
        if found is None or (found.expires is not None and found.expires <= self._runtime.now_ms()):
            raise not_found("Unknown media ID")
        if found.usr != user.usr:
            raise forbidden("The media ID was made by somebody else")
        if found.content is not None:
            raise _already_uploaded()
        await self._require_room(user, file)
        content = await self._store(file, kind, name, as_is=_may_be_encrypted(kind))
        opened, most = self._settings.open_downloads, self._allowance(user).total
        filled = await self._database.write(media.fill, found.nid, user.usr, content, opened, most)
        if filled != "filled":
            await self._database.write(media.doom, content.sha256)
            raise _quota_reached() if filled == "full" else _already_uploaded()
        for waiting in self._awaited.pop(found.nid, []):
            if not waiting.called:
                waiting.callback(None)

    async def _store(self, file: BinaryIO, kind: str | None, name: str | None, *, as_is: bool) -> Content:
        try:
            sha256, size = await self._runtime.in_pool("media", DISK_THREADS, self._write, file, as_is)
        except OSError as error:
            _log.error("a file could not be stored: %s", error)
            raise MatrixError(507, "M_UNKNOWN", "The server could not store the file") from None
        try:
            threat = await self._threat(sha256)
        except MatrixError:
            await self._database.write(media.doom, sha256)
            raise
        if threat:
            if not await self._database.read(media.is_held, sha256):
                await self._runtime.in_pool("media", DISK_THREADS, self._files.delete, sha256)
            raise forbidden("The file contains a virus")
        return Content(sha256, size, clean_kind(kind), clean_name(name))

    async def _threat(self, sha256: bytes) -> str | None:
        """The virus in a content, where there is somebody to look for it."""
        if self._virus_scan is None:
            return None
        try:
            return await self._virus_scan.threat(sha256)
        except FileNotFoundError:
            raise not_found("The file is no longer here") from None
        except OSError as error:
            raise _unreadable(error) from None

    def _write(self, file: BinaryIO, as_is: bool) -> tuple[bytes, int]:
        return self._files.store(file if as_is else image_metadata.without(file))

    async def download(self, uri: MediaUri, timeout_ms: int, *, signed_in: bool) -> Opened:
        """A file; raises M_NOT_FOUND or, when it did not come within the time, M_NOT_YET_UPLOADED."""
        content = await self._content(uri, timeout_ms, signed_in)
        file = await self._runtime.in_pool("media", DISK_THREADS, self._open, content.sha256)
        return Opened(file, content.size, content.kind or "application/octet-stream", content.name)

    def _open(self, sha256: bytes) -> BinaryIO:
        try:
            return self._files.open(sha256)
        except FileNotFoundError:
            raise not_found("The file is no longer here") from None
        except OSError as error:
            raise _unreadable(error) from None

    async def _content(self, uri: MediaUri, timeout_ms: int, signed_in: bool) -> Content:
        if uri.server == self._server_name:
            found = await self._local(uri.media_id, timeout_ms)
        else:
            found = await self._remote.fetch(uri, timeout_ms)
        if found.quarantined or (not signed_in and not found.open) or found.content is None:
            raise not_found("The media was not found")
        if await self._threat(found.content.sha256):
            raise not_found("The media contains a virus")
        return found.content

    async def _local(self, media_id: str, timeout_ms: int) -> Media:
        found = await self._database.point(media.find, LOCAL, media_id)
        if found is None or (found.expires is not None and found.expires <= self._runtime.now_ms()):
            raise not_found("The media was not found")
        if found.content is None and timeout_ms > 0:
            await self._wait(found.nid, timeout_ms)
            found = await self._database.point(media.find, LOCAL, media_id)
        if found is None:
            raise not_found("The media was not found")
        if found.content is None:
            raise MatrixError(504, "M_NOT_YET_UPLOADED", "The media has not been uploaded yet")
        return found

    async def _wait(self, nid: int, timeout_ms: int) -> None:
        waiting: Deferred[None] = Deferred()
        self._awaited.setdefault(nid, []).append(waiting)
        timer = self._runtime.call_later(timeout_ms / 1000, waiting.callback, None)
        try:
            await waiting
        finally:
            if timer.active():
                timer.cancel()
            others = self._awaited.get(nid, [])
            if waiting in others:
                others.remove(waiting)
                if not others:
                    self._awaited.pop(nid, None)

    async def thumbnail(self, uri: MediaUri, wanted: Wanted, timeout_ms: int, *, signed_in: bool) -> Opened:
        """A small picture of a file; raises M_UNKNOWN for what is no picture and M_TOO_LARGE (413)."""
        content = await self._content(uri, timeout_ms, signed_in)
        key = content.sha256, wanted.name
        if key in self._making:
            done: Deferred[None] = Deferred()
            self._making[key].append(done)
            await done
        kept = await self._runtime.in_pool("media", DISK_THREADS, self._kept, content.sha256, wanted)
        if kept is not None:
            return kept
        if self._queued >= THUMBNAILS_WAITING:
            raise limit_exceeded(2_000)
        self._queued += 1
        self._making.setdefault(key, [])
        try:
            pool = self._runtime.in_pool("thumbnails", THUMBNAIL_THREADS, self._make, content, wanted)
            return await pool
        finally:
            self._queued -= 1
            for waiting in self._making.pop(key, []):
                waiting.callback(None)

    def _kept(self, sha256: bytes, wanted: Wanted) -> Opened | None:
        for content_type, ending in ENDINGS.items():
            file = self._files.open_derived(sha256, f"{wanted.name}.{ending}")
            if file is not None:
                return _opened(file, content_type)
        return None

    def _make(self, content: Content, wanted: Wanted) -> Opened:
        with self._open(content.sha256) as source:
            made: Made = thumbnails.make(source, wanted, self._settings.max_image_pixels)
        if made.data is None:
            return Opened(self._open(content.sha256), content.size, made.content_type, _thumbnail_name(made))
        if wanted.common:
            self._files.keep_derived(content.sha256, f"{wanted.name}.{ENDINGS[made.content_type]}", made.data)
        return _in_memory(made.data, made.content_type)


ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


def _thumbnail_name(made: Made) -> str:
    return f"thumbnail.{ENDINGS[made.content_type]}"


def _in_memory(data: bytes, content_type: str) -> Opened:
    return Opened(io.BytesIO(data), len(data), content_type, f"thumbnail.{ENDINGS[content_type]}")


def _opened(file: BinaryIO, content_type: str) -> Opened:
    size = file.seek(0, 2)
    file.seek(0)
    return Opened(file, size, content_type, f"thumbnail.{ENDINGS[content_type]}")


def _unreadable(error: OSError) -> MatrixError:
    _log.error("a file could not be read: %s", error)
    return MatrixError(502, "M_UNKNOWN", "The server could not get the file")


def _quota_reached() -> MatrixError:
    return forbidden("You have uploaded as much as you may")


def _may_be_encrypted(kind: str | None) -> bool:
    """Whether not a byte may change: encrypted files come as application/octet-stream."""
    return kind is None or kind.partition(";")[0].strip().lower() == "application/octet-stream"


def _already_uploaded() -> MatrixError:
    return MatrixError(409, "M_CANNOT_OVERWRITE_MEDIA", "The media has been uploaded already")


def clean_name(name: str | None) -> str | None:
    """A file name without folders and control characters; None for one of which nothing is left."""
    if name is None:
        return None
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in last if c.isprintable()).strip()[:MAX_NAME]
    return None if kept in ("", ".", "..") else kept


def clean_kind(kind: str | None) -> str | None:
    """A content type that can stand in a header; None where that is not what was given."""
    if kind is None or len(kind) > MAX_KIND or not kind.isascii() or not kind.isprintable():
        return None
    main, slash, sub = kind.partition(";")[0].strip().partition("/")
    return kind.strip() if main and slash and sub else None
