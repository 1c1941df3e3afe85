# SPDX-License-Identifier: Apache-2.0
"""A small keep-alive HTTP client for load and drills, cheap enough that a benchmark measures the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]


class Connection:
    """One HTTP/1.1 connection of one signed-in user; requests on it go one after another."""

    def __init__(self, base: str, token: str) -> None:
        self._host, _, port = base.removeprefix("http://").partition(":")
        self._port = int(port)
        self._token = token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
        """Status and decoded answer; a fresh connection when there is none."""
        status, raw = await self.raw(method, path, body)
        return status, json.loads(raw)

    async def raw(self, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
        """Status and undecoded answer."""
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=2**28)
        assert self._reader is not None
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            self._writer.write(head.encode() + data)
            return await self._answer(self._reader)
        except BaseException:
            self.close()
            raise

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        status = int(head[0].split()[1])
        fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
        if fields.get("transfer-encoding") == "chunked":
            body = await self._chunks(reader)
        else:
            body = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.close()
        return status, body

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        parts = []
        while size := int((await reader.readline()).strip(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(parts)

    async def good(self, method: str, path: str, body: Json | None = None) -> Any:
        """The answer of a call that must succeed."""
        status, answer = await self.call(method, path, body)
        if status != 200:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def close(self) -> None:
        """Drop the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Person:
    """A user of a test or benchmark: an account and its connection."""

    def __init__(self, base: str, session: dict[str, str]) -> None:
        self.base = base
        self.user_id = session["user_id"]
        self.device_id = session["device_id"]
        self.token = session["access_token"]
        self.http = Connection(base, self.token)
        self._sent = 0

    async def create_room(self, **body: Any) -> str:
        """A new room's id."""
        answer = await self.http.good("POST", "/_matrix/client/v3/createRoom", body)
        return str(answer["room_id"])

    async def join(self, room_id: str) -> None:
        """Join a room."""
        await self.http.good("POST", f"/_matrix/client/v3/join/{quote(room_id)}", {})

    async def send(self, room_id: str, body: str, txn: str | None = None, http: Connection | None = None) -> str:
        """Send a text message; its event id."""
        self._sent += 1
        path = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/{txn or f't{self._sent}'}"
        answer = await (http or self.http).good("PUT", path, {"msgtype": "m.text", "body": body})
        return str(answer["event_id"])

    async def sync(self, since: str | None = None, timeout: int = 0, filter: str = "", **query: str) -> Any:
        """One `/sync`."""
        asked = {"timeout": str(timeout), **({"since": since} if since else {}), **query}
        if filter:
            asked["filter"] = filter
        path = "/_matrix/client/v3/sync?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items())
        return await self.http.good("GET", path)

    def another(self) -> Connection:
        """A second connection of the same device."""
        return Connection(self.base, self.token)
