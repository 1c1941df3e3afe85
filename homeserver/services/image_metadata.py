# SPDX-License-Identifier: Apache-2.0
"""Where pictures hold what their camera knows, and how that is left out without touching the pixels."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import attrs

CHUNK = 1 << 16
MAX_PARTS = 100_000
MAX_EXIF = 1 << 16
ORIENTATION = 0x0112

# In the compressed data of a JPEG a marker is 0xFF and what neither stuffs nor restarts nor fills.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TOLD_IN_TEXT = (b"xml:com.adobe.xmp", b"raw profile type")
_EXIF_FLAG, _XMP_FLAG = 0x08, 0x04


@attrs.frozen(slots=True)
class Span:
    """Bytes of the file that stay."""

    start: int
    end: int


Part = Span | bytes


class Damaged(Exception):
    """The file is not made as its first bytes say."""


class Spliced:
    """The file that is left, to be read from its start to its end."""

    def __init__(self, file: BinaryIO, parts: list[Part]) -> None:
        self._file = file
        self._pieces = self._read_all(parts)

    def read(self, size: int) -> bytes:
        """Some bytes, `size` at most for what comes from the file; none at the end."""
        return next(self._pieces, b"")

    def _read_all(self, parts: list[Part]) -> Iterator[bytes]:
        for part in parts:
            if isinstance(part, bytes):
                yield part
                continue
            self._file.seek(part.start)
            left = part.end - part.start
            while left and (data := self._file.read(min(CHUNK, left))):
                left -= len(data)
                yield data


def without(file: BinaryIO) -> Spliced | BinaryIO:
    """The picture without metadata but its orientation; the file itself when it is no JPEG, PNG or WebP.

    What follows the picture's end goes too: cameras append films and further pictures with metadata of their own.
    Blocks: call it in a thread. The file stands at its start, before and, when it is returned, after.
    """
    head = file.read(12)
    size = file.seek(0, 2)
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return Spliced(file, _joined(_jpeg(file, size)))
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return Spliced(file, _joined(_png(file, size)))
        if head.startswith(b"RIFF") and head[8:] == b"WEBP":
            return Spliced(file, _joined(_webp(file, size)))
    except Damaged:
        pass
    file.seek(0)
    return file


def _joined(parts: Iterator[Part]) -> list[Part]:
    """The parts, neighbours made one."""
    found: list[Part] = []
    for number, part in enumerate(parts):
        if number > MAX_PARTS:
            raise Damaged
        last = found[-1] if found else None
        if isinstance(part, Span) and isinstance(last, Span) and last.end == part.start:
            found[-1] = Span(last.start, part.end)
        else:
            found.append(part)
    return found


def _jpeg(file: BinaryIO, size: int) -> Iterator[Part]:
    """SOI, segments, scans between them, EOI."""
    yield Span(0, 2)
    at, turned = 2, False
    while at < size:
        file.seek(at)
        head = file.read(4)
        if head[:1] != b"\xff" or len(head) < 2:
            raise Damaged
        kind = head[1]
        if kind == 0xFF:  # a byte that fills
            at += 1
            continue
        if kind == 0xD9:
            yield Span(at, at + 2)
            return
        if kind in (0x01, *range(0xD0, 0xD8)):
            end = at + 2
        elif len(head) < 4 or (end := at + 2 + int.from_bytes(head[2:], "big")) < at + 4:
            raise Damaged
        if kind == 0xE1 and not turned and (exif := _exif_in_jpeg(file, end)):
            turned = True
            yield exif
        elif not _tells(kind, file):
            yield Span(at, min(end, size))
        at = end
        if kind == 0xDA:
            at = _next_marker(file, end, size)
            yield Span(min(end, size), at)


def _tells(kind: int, file: BinaryIO) -> bool:
    """Whether a JPEG's segment, in whose content the file stands, is left out: EXIF, XMP, IPTC, further pictures."""
    return kind in (0xE1, 0xED) or (kind == 0xE2 and file.read(4) == b"MPF\0")


def _exif_in_jpeg(file: BinaryIO, end: int) -> bytes:
    """The segment that replaces an APP1 segment; empty: none."""
    if file.read(6) != b"Exif\0\0":
        return b""
    kept = _only_orientation(file.read(max(0, end - file.tell())))
    if not kept:
        return b""
    return b"\xff\xe1" + (len(kept) + 8).to_bytes(2, "big") + b"Exif\0\0" + kept


def _next_marker(file: BinaryIO, start: int, size: int) -> int:
    """Where the compressed data that begins at `start` ends."""
    at = start
    while at < size:
        file.seek(at)
        data = file.read(CHUNK)
        if not data:
            break
        match = _MARKER.search(data)
        if match:
            return at + match.start()
        at += max(1, len(data) - 1)  # the last byte may begin a marker
    return size


def _png(file: BinaryIO, size: int) -> Iterator[Part]:
    """Chunks of length, type, data and check sum."""
    yield Span(0, 8)
    at = 8
    while at < size:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            raise Damaged
        end = at + 12 + int.from_bytes(head[:4], "big")
        kind = head[4:]
        if kind == b"eXIf":
            kept = _only_orientation(file.read(min(end - at - 12, MAX_EXIF)))
            if kept:
                yield len(kept).to_bytes(4, "big") + kind + kept + zlib.crc32(kind + kept).to_bytes(4, "big")
        elif kind not in _TEXTS or not file.read(min(end - at - 12, 20)).lower().startswith(_TOLD_IN_TEXT):
            yield Span(at, min(end, size))
        if kind == b"IEND":
            return
        at = end


def _webp(file: BinaryIO, size: int) -> Iterator[Part]:
    """RIFF: chunks of type, length and data, padded to even; the first one says which others there are."""
    file.seek(4)
    size = min(size, 8 + int.from_bytes(file.read(4), "little"))
    found: list[tuple[bytes, Part]] = []
    kept, at = b"", 12
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        end = min(size, at + 8 + length + length % 2)
        if kind == b"EXIF":
            kept = _only_orientation(file.read(min(length, MAX_EXIF)).removeprefix(b"Exif\0\0"))
        elif kind != b"XMP ":
            found.append((kind, Span(at, end)))
        if len(found) > MAX_PARTS:
            raise Damaged
        at = end
    if found and found[0][0] == b"VP8X":
        found[0] = b"VP8X", _vp8x(file, found[0][1], bool(kept))
    if kept:
        found.append((b"EXIF", b"EXIF" + len(kept).to_bytes(4, "little") + kept))
    total = 4 + sum(len(p) if isinstance(p, bytes) else p.end - p.start for _, p in found)
    yield b"RIFF" + total.to_bytes(4, "little") + b"WEBP"
    yield from (part for _, part in found)


def _vp8x(file: BinaryIO, part: Part, exif: bool) -> bytes:
    """The chunk that says what there is, without what has been left out."""
    if isinstance(part, bytes) or part.end - part.start != 18:
        raise Damaged
    file.seek(part.start)
    data = bytearray(file.read(18))
    data[8] = data[8] & ~(_EXIF_FLAG | _XMP_FLAG) | (_EXIF_FLAG if exif else 0)
    return bytes(data)


def _only_orientation(exif: bytes) -> bytes:
    """A TIFF that says which way up the picture is and nothing else; empty when it is upright, or cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return b""
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for number in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * number)
            if tag == ORIENTATION and kind == 3 and 2 <= value <= 8:
                return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, ORIENTATION, 3, 1, value, 0, 0)
    except struct.error:
        pass
    return b""
