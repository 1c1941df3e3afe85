# SPDX-License-Identifier: Apache-2.0
"""The page of server-side key backups: versions, and the keys of all rooms, of one room, of one session."""

from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import not_found
from homeserver.services.key_backup import KeyBackup, rooms_in, sessions_in

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups"
VERSIONS = "/_matrix/client/v3/room_keys/version"
KEYS = "/_matrix/client/v3/room_keys/keys"
OLD_VERSIONS = "/_matrix/client/unstable/room_keys/version"
OLD_KEYS = "/_matrix/client/unstable/room_keys/keys"


class BackupVersionPage:
    """Versions of the caller's backup."""

    def __init__(self, backup: KeyBackup) -> None:
        self._backup = backup

    @endpoint("POST", VERSIONS, also=(OLD_VERSIONS,), limit="keys", spec=SPEC)
    async def create(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        return {"version": await self._backup.create(caller.usr, body)}

    @endpoint("GET", VERSIONS, also=(OLD_VERSIONS,), limit="keys", spec=SPEC)
    async def current(self, caller: User) -> dict[str, Any]:
        return await self._backup.describe(caller.usr, None)

    @endpoint("GET", f"{VERSIONS}/{{version}}", also=(f"{OLD_VERSIONS}/{{version}}",), limit="keys", spec=SPEC)
    async def one(self, caller: User, call: Call) -> dict[str, Any]:
        return await self._backup.describe(caller.usr, call.params["version"])

    @endpoint("PUT", f"{VERSIONS}/{{version}}", also=(f"{OLD_VERSIONS}/{{version}}",), limit="keys", spec=SPEC)
    async def update(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        await self._backup.update(caller.usr, call.params["version"], body)
        return {}

    @endpoint("DELETE", f"{VERSIONS}/{{version}}", also=(f"{OLD_VERSIONS}/{{version}}",), limit="keys", spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, Any]:
        await self._backup.delete(caller.usr, call.params["version"])
        return {}


class BackupKeysPage:
    """Keys in the caller's backup."""

    def __init__(self, backup: KeyBackup) -> None:
        self._backup = backup

    @endpoint("PUT", KEYS, also=(OLD_KEYS,), limit="keys", spec=SPEC)
    async def put_all(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        return await self._backup.put(caller.usr, call.query.get("version"), rooms_in(body))

    @endpoint("PUT", f"{KEYS}/{{roomId}}", also=(f"{OLD_KEYS}/{{roomId}}",), limit="keys", spec=SPEC)
    async def put_room(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        rooms = {call.params["roomId"]: sessions_in(body)}
        return await self._backup.put(caller.usr, call.query.get("version"), rooms)

    @endpoint(
        "PUT",
        f"{KEYS}/{{roomId}}/{{sessionId}}",
        also=(f"{OLD_KEYS}/{{roomId}}/{{sessionId}}",),
        limit="keys",
        spec=SPEC,
    )
    async def put_session(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        rooms = {call.params["roomId"]: {call.params["sessionId"]: body}}
        return await self._backup.put(caller.usr, call.query.get("version"), rooms)

    @endpoint("GET", KEYS, also=(OLD_KEYS,), limit="keys", spec=SPEC)
    async def get_all(self, caller: User, call: Call) -> dict[str, Any]:
        rooms = await self._backup.get(caller.usr, call.query.get("version"))
        return {"rooms": {room: {"sessions": sessions} for room, sessions in rooms.items()}}

    @endpoint("GET", f"{KEYS}/{{roomId}}", also=(f"{OLD_KEYS}/{{roomId}}",), limit="keys", spec=SPEC)
    async def get_room(self, caller: User, call: Call) -> dict[str, Any]:
        room = call.params["roomId"]
        rooms = await self._backup.get(caller.usr, call.query.get("version"), room)
        return {"sessions": rooms.get(room, {})}

    @endpoint(
        "GET",
        f"{KEYS}/{{roomId}}/{{sessionId}}",
        also=(f"{OLD_KEYS}/{{roomId}}/{{sessionId}}",),
        limit="keys",
        spec=SPEC,
    )
    async def get_session(self, caller: User, call: Call) -> dict[str, Any]:
        room, session = call.params["roomId"], call.params["sessionId"]
        rooms = await self._backup.get(caller.usr, call.query.get("version"), room, session)
        if not rooms:
            raise not_found("Key not found.")
        key: dict[str, Any] = rooms[room][session]
        return key

    @endpoint("DELETE", KEYS, also=(OLD_KEYS,), limit="keys", spec=SPEC)
    async def delete_all(self, caller: User, call: Call) -> dict[str, Any]:
        return await self._backup.delete_keys(caller.usr, call.query.get("version"))

    @endpoint("DELETE", f"{KEYS}/{{roomId}}", also=(f"{OLD_KEYS}/{{roomId}}",), limit="keys", spec=SPEC)
    async def delete_room(self, caller: User, call: Call) -> dict[str, Any]:
        return await self._backup.delete_keys(caller.usr, call.query.get("version"), call.params["roomId"])

    @endpoint(
        "DELETE",
        f"{KEYS}/{{roomId}}/{{sessionId}}",
        also=(f"{OLD_KEYS}/{{roomId}}/{{sessionId}}",),
        limit="keys",
        spec=SPEC,
    )
    async def delete_session(self, caller: User, call: Call) -> dict[str, Any]:
        room, session = call.params["roomId"], call.params["sessionId"]
        return await self._backup.delete_keys(caller.usr, call.query.get("version"), room, session)
