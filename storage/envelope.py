# SPDX-License-Identifier: Apache-2.0
"""How a PDU is cut into content and envelope, and how envelopes are compressed.

A PDU is ``envelope[:c0] + content + envelope[c0:]``. Clients are served from the content alone, so it is stored raw.
Codec 0 is an uncompressed envelope, codec N zstd with the dictionary `dictionaries/N.zdict`.
"""

from functools import cache
from importlib.resources import files

import zstandard

NEWEST = 1
"""The dictionary that new envelopes are written with."""

_LEVEL = 3
_LARGEST = 1 << 20


def split(pdu: bytes, content_span: tuple[int, int]) -> tuple[bytes, bytes, int]:
    """(content, envelope, c0) of a PDU whose content lies at `content_span`."""
    start, end = content_span
    return pdu[start:end], pdu[:start] + pdu[end:], start


def joined(content: bytes, envelope: bytes, c0: int) -> bytes:
    """The PDU again."""
    return b"".join((envelope[:c0], content, envelope[c0:]))


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    made = zstandard.ZstdCompressionDict(files("storage.dictionaries").joinpath(f"{number}.zdict").read_bytes())
    if number == NEWEST:
        made.precompute_compress(level=_LEVEL)
    return made


class Envelopes:
    """Compresses and expands envelopes. For one thread; each transaction object has its own."""

    def __init__(self) -> None:
        self._compressor: zstandard.ZstdCompressor | None = None
        self._expanders: dict[int, zstandard.ZstdDecompressor] = {}

    def compress(self, envelope: bytes) -> tuple[int, bytes]:
        """(codec, bytes to store)."""
        if self._compressor is None:
            self._compressor = zstandard.ZstdCompressor(
                dict_data=_dictionary(NEWEST), level=_LEVEL, write_checksum=False, write_dict_id=False
            )
        packed = self._compressor.compress(envelope)
        return (NEWEST, packed) if len(packed) < len(envelope) else (0, envelope)

    def expand(self, codec: int, packed: bytes) -> bytes:
        """The envelope of stored bytes."""
        if codec == 0:
            return packed
        expander = self._expanders.get(codec)
        if expander is None:
            expander = self._expanders[codec] = zstandard.ZstdDecompressor(dict_data=_dictionary(codec))
        return expander.decompress(packed, max_output_size=_LARGEST)
