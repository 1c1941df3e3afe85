# SPDX-License-Identifier: Apache-2.0
"""How small pictures are made from big ones, without trusting the big ones."""

import io
import math
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import attrs

from homeserver.protocol.errors import MatrixError, invalid_param

if TYPE_CHECKING:
    from PIL.Image import Image

Method = Literal["crop", "scale"]

# Sizes are rounded up to these, so that few variants of a picture exist.
STEPS = (16, 24, 32, 48, 64, 96, 128, 160, 192, 240, 256, 320, 480, 600, 640, 800)
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
MAX_FRAMES = 200
MAX_GIF_BLOCKS = 300_000


@attrs.frozen
class Wanted:
    """A thumbnail's size in pixels, at most; how it is cut; whether it may move and may be WebP if it stands still."""

    width: int
    height: int
    method: Method
    animated: bool
    webp: bool = False

    @classmethod
    def of(cls, width: int, height: int, method: str, animated: bool, webp: bool = False) -> "Wanted":
        """The size to make for one that is asked for; raises M_INVALID_PARAM.

        "The server will return an image larger than or equal to the dimensions requested where possible."
        """
        if width < 1 or height < 1:
            raise invalid_param("width and height must be at least 1")
        if method not in ("crop", "scale"):
            raise invalid_param("method must be crop or scale")
        if method == "crop":
            # The aspect is the request's: the longer side is rounded up, the other follows.
            longer = _step(max(width, height))
            factor = longer / max(width, height)
            width, height = max(1, round(width * factor)), max(1, round(height * factor))
            return cls(width, height, "crop", animated, webp)
        return cls(_step(width), _step(height), "scale", animated, webp)

    @property
    def name(self) -> str:
        """A file name for it."""
        ending = ("-animated" if self.animated else "") + ("-webp" if self.webp else "")
        return f"{self.width}x{self.height}-{self.method}{ending}"

    @property
    def common(self) -> bool:
        """Whether it is one of few variants, and so worth keeping."""
        return self.method == "scale" or self.width == self.height


@attrs.frozen
class Made:
    """A thumbnail; `data` None says that the original, which has this type, is small enough itself."""

    content_type: str
    data: bytes | None


def _step(size: int) -> int:
    return next((step for step in STEPS if step >= size), STEPS[-1])


def make(source: BinaryIO, wanted: Wanted, max_pixels: int) -> Made:
    """Make a thumbnail. Takes CPU: call it in a thread.

    Raises M_TOO_LARGE (413) for a picture of more than `max_pixels`, M_UNKNOWN (400) for what is no picture.
    """
    from PIL import Image  # takes a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=FORMATS) as image:
                return _made(image, source, wanted, max_pixels)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _too_large() from None
        except MatrixError:
            raise
        except Exception:  # decoders raise many things for bytes that lie
            raise MatrixError(400, "M_UNKNOWN", "Cannot generate thumbnails for the requested content") from None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture, None for what is none; looks at its head only."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
        except Exception:  # decoders raise many things for bytes that lie
            return None


def _made(image: "Image", source: BinaryIO, wanted: Wanted, max_pixels: int) -> Made:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large()
    moves = bool(getattr(image, "is_animated", False))
    content_type = TYPES[image.format or "PNG"]
    if width <= wanted.width and height <= wanted.height and (wanted.animated or not moves):
        return Made(content_type, None)
    if moves and wanted.animated:
        frames = _frames(image, source)
        if frames <= MAX_FRAMES and frames * width * height <= max_pixels:
            return Made("image/webp", _moving(image, wanted, frames))
    if image.format == "JPEG":
        image.draft("RGB", _enough(image.size, wanted))
    return _still(_upright(image), wanted)


def _too_large() -> MatrixError:
    return MatrixError(413, "M_TOO_LARGE", "Content is too large to thumbnail")


def _frames(image: "Image", source: BinaryIO) -> int:
    """How many pictures an animation has; for a GIF, which does not say, at most one more than may be."""
    if image.format != "GIF":
        return int(getattr(image, "n_frames", 1))
    place = source.tell()
    try:
        return _counted_in_gif(source)
    finally:
        source.seek(place)


def _counted_in_gif(file: BinaryIO) -> int:
    """Steps over the blocks of a GIF; one of too many blocks has too many frames."""
    file.seek(0)
    head = file.read(13)
    file.seek(_colors(head[10]), 1)
    frames, inside = 0, False
    for _ in range(MAX_GIF_BLOCKS):
        first = file.read(1)
        if inside:  # data in pieces, up to an empty one
            inside = first not in (b"", b"\0")
            file.seek(first[0] if inside else 0, 1)
        elif first == b"," and len(place := file.read(9)) == 9:
            frames, inside = frames + 1, True
            if frames > MAX_FRAMES:
                return frames
            file.seek(_colors(place[8]) + 1, 1)
        elif first == b"!":
            file.seek(1, 1)
            inside = True
        else:  # the end, or nonsense
            return frames
    return MAX_FRAMES + 1


def _colors(flags: int) -> int:
    """How long the table of colors is that the flags speak of."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _enough(size: tuple[int, int], wanted: Wanted) -> tuple[int, int]:
    """A size that JPEG may be decoded to and still be scaled down from, whichever way up it is."""
    least = max(wanted.width, wanted.height)
    factor = min(size[0], size[1]) / least
    if factor <= 1:
        return size
    return math.ceil(size[0] / factor), math.ceil(size[1] / factor)


def _fitted(image: "Image", wanted: Wanted) -> "Image":
    """The picture scaled into the wanted size, or cut to its aspect first; never larger than it was."""
    from PIL import Image, ImageOps

    if wanted.method == "scale":
        image.thumbnail((wanted.width, wanted.height), Image.Resampling.LANCZOS)
        return image
    shrink = min(1.0, image.width / wanted.width, image.height / wanted.height)
    size = max(1, round(wanted.width * shrink)), max(1, round(wanted.height * shrink))
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _still(image: "Image", wanted: Wanted) -> Made:
    see_through = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    picture = _fitted(image.convert("RGBA" if see_through else "RGB"), wanted)
    out = io.BytesIO()
    if wanted.webp:
        picture.save(out, "WEBP", quality=78, method=2)
        return Made("image/webp", out.getvalue())
    if see_through:
        picture.save(out, "PNG", optimize=False)
        return Made("image/png", out.getvalue())
    picture.save(out, "JPEG", quality=80)
    return Made("image/jpeg", out.getvalue())


def _moving(image: "Image", wanted: Wanted, frames: int) -> bytes:
    pictures, durations = [], []
    for number in range(frames):
        image.seek(number)
        duration: Any = image.info.get("duration", 100)
        durations.append(max(20, int(duration) if isinstance(duration, int | float) else 100))
        pictures.append(_fitted(image.convert("RGBA"), wanted))
    out = io.BytesIO()
    loop = image.info.get("loop", 0)
    pictures[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=durations,
        loop=loop if isinstance(loop, int) and 0 <= loop < 65536 else 0,
        quality=70,
        method=2,
    )
    return out.getvalue()
