# SPDX-License-Identifier: Apache-2.0
"""What administrators do with media, and when files that nothing stands for any more are deleted."""

import logging

from twisted.internet.interfaces import IDelayedCall

from homeserver.protocol.errors import not_found
from homeserver.protocol.ids import MediaUri
from homeserver.runtime import Runtime
from homeserver.services.callers import User, require_admin
from homeserver.services.database import Database
from homeserver.services.media_files import MediaFiles
from storage import accounts, media, media_refs
from storage.media import LOCAL, Media

SWEEP_SECONDS = 15 * 60
SETTLED_MS = 60 * 60 * 1000
FILES_AT_ONCE = 200

_log = logging.getLogger(__name__)


class MediaCare:
    """Quarantine, deletion and the sweep of what is left."""

    def __init__(
        self, server_name: str, database: Database, runtime: Runtime, files: MediaFiles, keep_ms: int | None
    ) -> None:
        self._server_name = server_name
        self._database = database
        self._runtime = runtime
        self._files = files
        self._keep_ms = keep_ms
        self._timer: IDelayedCall | None = None

    async def set_quarantined(self, admin: User, uri: MediaUri, quarantined: bool) -> int:
        """Keep everybody from a media and every other one of the same content, or let them in again."""
        found = await self._found(admin, uri)
        count = await self._database.write(media.set_quarantined, found.nid, quarantined)
        _log.info("%s %s %s", admin.user_id, "quarantined" if quarantined else "released", uri)
        return count

    async def quarantine_of(self, admin: User, user_id: str) -> int:
        """Keep everybody from all that a user uploaded."""
        require_admin(admin)
        account = await self._database.read(accounts.find, user_id)
        if account is None:
            raise not_found("There is no such user")
        count = await self._database.write(media.quarantine_of, account.usr)
        _log.info("%s quarantined all media of %s", admin.user_id, user_id)
        return count

    async def delete(self, admin: User, uri: MediaUri) -> None:
        """Forget a media; its file goes with the next sweep but one."""
        found = await self._found(admin, uri)
        await self._database.write(media.delete, found.nid)
        _log.info("%s deleted %s", admin.user_id, uri)

    async def _found(self, admin: User, uri: MediaUri) -> Media:
        require_admin(admin)
        origin = LOCAL if uri.server == self._server_name else uri.server
        found = await self._database.read(media.find, origin, uri.media_id)
        if found is None:
            raise not_found("The media was not found")
        return found

    def start(self) -> None:
        self._timer = self._runtime.call_later(SWEEP_SECONDS, self._begin)

    def stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _begin(self) -> None:
        self.start()
        self._runtime.background("the sweep of media", self.sweep())

    async def sweep(self) -> None:
        """Forget media that was redacted long enough ago, and delete files that nothing stands for."""
        if self._keep_ms is not None:
            await self._forget_unused(self._keep_ms)
        await self._delete_files()

    async def _forget_unused(self, keep_ms: int) -> None:
        now = self._runtime.now_ms()
        await self._database.write(media.time_releases, now)
        free, held = await self._database.read(media_refs.unused, now - keep_ms, FILES_AT_ONCE)
        if free or held:
            count = await self._database.write(media_refs.delete_unused, free, held)
            _log.info("%d media were forgotten: what showed them was redacted", count)

    async def _delete_files(self) -> None:
        """Delete files that nothing stands for.

        A file that was stored or read within the hour stays until the next time: an upload that found the same content
        here may not have made its row yet.
        """
        waiting = await self._database.write(media.doomed, FILES_AT_ONCE)
        before = (self._runtime.now_ms() - SETTLED_MS) / 1000
        deleted = await self._runtime.in_pool("media", 4, self._delete, waiting, before)
        if deleted:
            await self._database.write(media.gone, deleted)
            _log.info("%d files that nothing stood for were deleted", len(deleted))

    def _delete(self, contents: list[bytes], before: float) -> list[bytes]:
        return [sha256 for sha256 in contents if self._files.delete(sha256, unused_since=before)]
