# SPDX-License-Identifier: Apache-2.0
"""How a user's room keys are backed up, version by version.

https://spec.matrix.org/v1.18/client-server-api/#server-side-key-backups
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from homeserver.protocol.canonical_json import MAX_SAFE_INTEGER
from homeserver.protocol.errors import MatrixError, bad_json, invalid_param, missing_param, not_found
from homeserver.services.database import Database
from storage import key_backup
from storage.key_backup import Backup, SessionKey
from storage.txn import Txn

#: The specification's one algorithm in its versions, and MSC3270's.
ALGORITHMS = ("m.megolm_backup.v1", "org.matrix.msc3270.")
#: Rooms and sessions are parts of database keys, which must not be long.
LONGEST_NAME = 255


class KeyBackup:
    """The versions of users' backups and the keys in them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, usr: int, body: Mapping[str, Any]) -> str:
        """Start a new version; its name."""
        algorithm, auth_data = _description(body)
        return str(await self._database.write(key_backup.create, usr, algorithm, auth_data))

    async def describe(self, usr: int, version: str | None) -> dict[str, Any]:
        """The response body for one version, or for the current one; raises M_NOT_FOUND."""
        if version is None:
            backup = await self._database.point(key_backup.current, usr)
        else:
            backup = await self._database.point(key_backup.find, usr, _number(version))
        if backup is None:
            raise _unknown_version("No current backup version" if version is None else "Unknown backup version")
        return {
            "algorithm": backup.algorithm,
            "auth_data": orjson.Fragment(backup.auth_data),
            "count": backup.count,
            "etag": str(backup.etag),
            "version": str(backup.version),
        }

    async def update(self, usr: int, version: str, body: Mapping[str, Any]) -> None:
        """Replace the auth_data of a version; nothing else can change."""
        algorithm, auth_data = _description(body)
        backup = await self._database.point(key_backup.find, usr, _number(version))
        if backup is None:
            raise _unknown_version()
        if body.get("version") not in (None, version):
            raise invalid_param("The version in the body is not the one in the path")
        if algorithm != backup.algorithm:
            raise invalid_param("Algorithm does not match")
        if not await self._database.write(key_backup.set_auth_data, usr, backup.version, auth_data):
            raise _unknown_version()

    async def delete(self, usr: int, version: str) -> None:
        """Delete a version with its keys. "If the backup was previously deleted, the call should succeed" (v1.19)."""
        number = _number(version)
        if await self._database.point(key_backup.was_deleted, usr, number):
            return
        if await self._database.point(key_backup.find, usr, number) is None:
            raise _unknown_version()
        await self._database.write(key_backup.delete_version, usr, number)

    async def put(self, usr: int, version: str | None, rooms: Mapping[str, Any]) -> dict[str, Any]:
        """Store keys (room → session → key) in the current version, where they are better than what is stored.

        Raises M_WRONG_ROOM_KEYS_VERSION, with the current version, when `version` is another one.
        """
        keys = [_parse_key(room, session, key) for room, of_room in rooms.items() for session, key in of_room.items()]
        number = _number(_required(version))
        current = await self._database.point(key_backup.current, usr)
        if current is None:
            raise _unknown_version("No current backup version")
        if current.version == number:
            changed = await self._database.write(key_backup.put_keys, usr, number, keys)
            if changed is not None:
                return _update(changed)
            current = await self._database.point(key_backup.current, usr)
        raise await self._refusal(usr, number, current)

    async def get(
        self, usr: int, version: str | None, room: str | None = None, session: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """Keys of a version: room → session → key. Raises M_NOT_FOUND for an unknown version."""
        number = _number(_required(version))
        look_up = self._database.read if session is None else self._database.point
        keys = await look_up(_find_keys, usr, number, room, session)
        if keys is None:
            raise _unknown_version()
        rooms: dict[str, dict[str, Any]] = {}
        for key in keys:
            rooms.setdefault(key.room, {})[key.session] = _render(key)
        return rooms

    async def delete_keys(
        self, usr: int, version: str | None, room: str | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Delete keys of a version: all, those of a room, or one."""
        number = _number(_required(version))
        backup = await self._database.write(key_backup.delete_keys, usr, number, room, session)
        if backup is None:
            raise _unknown_version()
        return _update(backup)

    async def _refusal(self, usr: int, number: int, current: Backup | None) -> MatrixError:
        exists = await self._database.point(key_backup.find, usr, number)
        if current is None or exists is None and number > current.version:
            return _unknown_version()
        return MatrixError(
            403, "M_WRONG_ROOM_KEYS_VERSION", "Wrong backup version.", current_version=str(current.version)
        )


def sessions_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sessions of one room's backup; raises M_BAD_JSON."""
    sessions = body.get("sessions")
    if not isinstance(sessions, dict):
        raise bad_json("sessions must be an object")
    return sessions


def rooms_in(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Room → sessions of a whole backup; raises M_BAD_JSON."""
    rooms = body.get("rooms")
    if not isinstance(rooms, dict) or not all(isinstance(room, dict) for room in rooms.values()):
        raise bad_json("rooms must be an object of objects")
    return {room_id: sessions_in(room) for room_id, room in rooms.items()}


def _find_keys(txn: Txn, usr: int, version: int, room: str | None, session: str | None) -> Iterable[SessionKey] | None:
    return None if key_backup.find(txn, usr, version) is None else key_backup.keys(txn, usr, version, room, session)


def _description(body: Mapping[str, Any]) -> tuple[str, bytes]:
    algorithm, auth_data = body.get("algorithm"), body.get("auth_data")
    for name, value in (("algorithm", algorithm), ("auth_data", auth_data)):
        if value is None:
            raise missing_param(f"{name} is missing")
    if not isinstance(algorithm, str):
        raise bad_json("algorithm must be a string")
    if not algorithm.startswith(ALGORITHMS):
        raise invalid_param("algorithm must be m.megolm_backup.v1.curve25519-aes-sha2")
    if not isinstance(auth_data, dict):
        raise bad_json("auth_data must be an object")
    return algorithm, orjson.dumps(auth_data)


def _parse_key(room: str, session: str, key: object) -> SessionKey:
    if not 0 < len(room.encode()) <= LONGEST_NAME or not 0 < len(session.encode()) <= LONGEST_NAME:
        raise invalid_param(f"The ids of rooms and sessions have 1 to {LONGEST_NAME} bytes")
    if not isinstance(key, dict):
        raise bad_json(f"The key of session {session!r} must be an object")
    first, forwarded = _count(key, "first_message_index"), _count(key, "forwarded_count")
    verified, data = key.get("is_verified"), key.get("session_data")
    if not isinstance(verified, bool):
        raise bad_json("is_verified must be true or false")
    if not isinstance(data, dict):
        raise bad_json("session_data must be an object")
    return SessionKey(room, session, first, forwarded, verified, orjson.dumps(data))


def _count(key: Mapping[str, Any], field: str) -> int:
    value = key.get(field)
    if type(value) is not int or not 0 <= value <= MAX_SAFE_INTEGER:
        raise bad_json(f"{field} must be an integer from 0 on")
    return value


def _render(key: SessionKey) -> dict[str, Any]:
    return {
        "first_message_index": key.first_index,
        "forwarded_count": key.forwarded,
        "is_verified": key.verified,
        "session_data": orjson.Fragment(key.data),
    }


def _update(backup: Backup) -> dict[str, Any]:
    return {"etag": str(backup.etag), "count": backup.count}


def _required(version: str | None) -> str:
    if version is None:
        raise missing_param("The query parameter version is missing")
    return version


def _number(version: str) -> int:
    """The number behind a version's name; what cannot be one of ours is unknown."""
    if not (version.isascii() and version.isdigit() and len(version) < 10 and version[0] != "0"):
        raise _unknown_version()
    return int(version)


def _unknown_version(message: str = "Unknown backup version") -> MatrixError:
    return not_found(message)
