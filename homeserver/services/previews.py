# SPDX-License-Identifier: Apache-2.0
"""What a link is about, as this server saw it within the last hour."""

import io
from collections import OrderedDict
from urllib.parse import urljoin

import attrs
from twisted.internet.defer import Deferred

from homeserver.protocol.errors import MatrixError, invalid_param, not_found
from homeserver.protocol.ids import MediaUri
from homeserver.runtime import Runtime
from homeserver.services.egress import Egress, Fetched, NoAnswer, web_address
from homeserver.services.media import MediaStore
from homeserver.services.page_summary import summarize

KEPT_MS = 60 * 60 * 1000
FAILURE_KEPT_MS = 60 * 1000
KEPT = 2_000
MAX_PAGE = 512 * 1024
MAX_IMAGE = 10 << 20
AT_ONCE = 16
THREADS = 1
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/apng")
ACCEPT = "text/html,application/xhtml+xml,image/*;q=0.8,*/*;q=0.1"

Preview = dict[str, object]


@attrs.frozen
class Kept:
    """What was found at a link; None where nothing was."""

    preview: Preview | None
    until: int


class Previews:
    """Fetches pages for everybody at once: who asks for a link that is being fetched waits for that."""

    def __init__(self, runtime: Runtime, egress: Egress, media: MediaStore) -> None:
        self._runtime = runtime
        self._egress = egress
        self._media = media
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._coming: dict[str, list[Deferred[None]]] = {}

    async def preview(self, url: str, language: str) -> Preview:
        """The Open Graph properties of a link, which may be none; raises M_INVALID_PARAM for what is no link.

        A link that cannot be fetched answers M_NOT_FOUND, without saying why: that could tell about inner networks.
        """
        try:
            address = web_address(url)
        except NoAnswer:
            raise invalid_param("url must be an http or https address") from None
        key = f"{language} {address}"
        if key in self._coming:
            done: Deferred[None] = Deferred()
            self._coming[key].append(done)
            await done
        kept = self._kept.get(key)
        if kept is not None and kept.until > self._runtime.now_ms():
            return _answer(kept)
        if len(self._coming) >= AT_ONCE:
            raise MatrixError(429, "M_LIMIT_EXCEEDED", "Too many links are being fetched", retry_after_ms=2_000)
        self._coming.setdefault(key, [])
        try:
            kept = Kept(await self._fetch(address, language), self._runtime.now_ms() + KEPT_MS)
        except NoAnswer:
            kept = Kept(None, self._runtime.now_ms() + FAILURE_KEPT_MS)
        finally:
            if kept is not None:
                self._keep(key, kept)
            for waiting in self._coming.pop(key, []):
                waiting.callback(None)
        return _answer(kept)

    def _keep(self, key: str, kept: Kept) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    async def _fetch(self, address: str, language: str) -> Preview:
        page = await self._egress.get(address, accept=ACCEPT, largest=MAX_PAGE, cut=True, language=language)
        kind = _kind(page)
        if kind in IMAGES:
            return {"og:title": address.rpartition("/")[2] or address, **await self._image(address, "")}
        if kind not in ("text/html", "application/xhtml+xml"):
            return {}
        found: Preview = dict(await self._runtime.in_pool("previews", THREADS, summarize, page.body, page.content_type))
        image = found.pop("og:image", None)
        for name in [name for name in found if name.startswith("og:image:")]:
            del found[name]
        if isinstance(image, str):
            try:
                found.update(await self._image(urljoin(page.url, image), page.url))
            except NoAnswer:
                pass  # a preview without its image is still one
        return found

    async def _image(self, address: str, page: str) -> Preview:
        """Keep a page's image here, so that clients do not ask the page's server for it; raises NoAnswer."""
        image = await self._egress.get(address, accept="image/*", largest=MAX_IMAGE)
        kind = _kind(image)
        if kind not in IMAGES:
            raise NoAnswer("it is no image")
        uri: MediaUri = await self._media.keep(io.BytesIO(image.body), kind)
        shown: Preview = {"og:image": str(uri), "og:image:type": kind, "matrix:image:size": len(image.body)}
        size = await self._media.image_size(image.body)
        if size is not None:
            shown |= {"og:image:width": size[0], "og:image:height": size[1]}
        return shown


def _kind(answer: Fetched) -> str:
    return answer.content_type.partition(";")[0].strip().lower()


def _answer(kept: Kept) -> Preview:
    if kept.preview is None:
        raise not_found("There is no preview of this address")
    return kept.preview
