# SPDX-License-Identifier: Apache-2.0
"""Knows how most events are put on the wire without decoding them: the stored content spliced into its frame."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from storage.events import StoredEvent


class Frames:
    """Writes client events as bytes. Names repeat within an answer, so their JSON is kept."""

    def __init__(self, now_ms: int) -> None:
        self.now = now_ms
        self._json: dict[str, bytes] = {}

    def plain(self, event: StoredEvent, unsigned: Mapping[str, object] | None = None) -> bytes:
        """The event with its age and what else stands in `unsigned`."""
        return self.framed(event, b"" if not unsigned else b"," + orjson.dumps(unsigned)[1:-1])

    def framed(self, event: StoredEvent, tail: bytes) -> bytes:
        """The same with the rest of `unsigned` as it is written: a comma and the properties, or nothing."""
        json = self._json
        sender = json.get(event.sender) or self._encode(event.sender)
        kind = json.get(event.type) or self._encode(event.type)
        frame = b'{"content":%b,"event_id":%b,"origin_server_ts":%d,"sender":%b,"type":%b,"unsigned":{"age":%d%b}' % (
            event.content,
            encode_text(event.event_id),
            event.ts,
            sender,
            kind,
            self.now - event.ts,
            tail,
        )
        if event.state_key is None:
            return frame + b"}"
        key = json.get(event.state_key) or self._encode(event.state_key)
        return b'%b,"state_key":%b}' % (frame, key)

    def _encode(self, text: str) -> bytes:
        encoded = self._json[text] = encode_text(text)
        return encoded


def encode_text(text: str) -> bytes:
    """A JSON string; lone surrogates, which other servers can send, become replacement characters."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-8", "replace").decode())
