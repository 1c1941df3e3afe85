# SPDX-License-Identifier: Apache-2.0
"""What anybody may ask: this server's keys, what it knows of others' keys, its version.

https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""

from collections.abc import Mapping, Sequence
from typing import Any

from federation.outbound.keyring import Keyring, OwnKeys
from homeserver.http.endpoint import Anyone, Call, endpoint
from homeserver.protocol.errors import bad_json, invalid_param
from homeserver.protocol.hashing import unpadded
from homeserver.protocol.ids import is_server_name
from homeserver.protocol.signing import sign_json
from homeserver.runtime import Runtime
from storage.server_keys import StoredKey

VALID_MS = 24 * 3_600_000
MOST_SERVERS = 100


class KeyPages:
    """Publishing keys, and being a notary for those of others."""

    def __init__(self, own: OwnKeys, keyring: Keyring, runtime: Runtime) -> None:
        self._signer = own.signer
        self._retired = own.retired
        self._keyring = keyring
        self._runtime = runtime

    @endpoint("GET", "/_matrix/key/v2/server", also=("/_matrix/key/v2/server/{keyId}",), limit="federation")
    async def own_keys(self, caller: Anyone) -> dict[str, Any]:
        return self._own()

    @endpoint(
        "GET",
        "/_matrix/key/v2/query/{serverName}",
        also=("/_matrix/key/v2/query/{serverName}/{keyId}",),
        limit="federation",
    )
    async def query(self, caller: Anyone, call: Call) -> dict[str, Any]:
        until = call.query.int("minimum_valid_until_ts", 0)
        wanted = {_checked(call.params["serverName"]): until or self._runtime.now_ms()}
        return {"server_keys": await self._answers(wanted)}

    @endpoint("POST", "/_matrix/key/v2/query", limit="federation")
    async def query_many(self, caller: Anyone, body: dict[str, Any]) -> dict[str, Any]:
        asked = body.get("server_keys")
        if not isinstance(asked, dict) or len(asked) > MOST_SERVERS:
            raise bad_json(f"server_keys must be an object with at most {MOST_SERVERS} servers")
        now = self._runtime.now_ms()
        wanted: dict[str, int] = {}
        for server, keys in asked.items():
            if not isinstance(keys, dict):
                raise bad_json("server_keys must hold objects")
            times = [one.get("minimum_valid_until_ts") for one in keys.values() if isinstance(one, dict)]
            wanted[_checked(server)] = max([now, *(time for time in times if type(time) is int)])
        return {"server_keys": await self._answers(wanted)}

    async def _answers(self, wanted: Mapping[str, int]) -> list[dict[str, Any]]:
        answers = []
        for server, until in wanted.items():
            if server == self._signer.server_name:
                answers.append(self._own())
                continue
            keys = await self._keyring.stored(server)
            if not any(key.valid_until >= until for key in keys.values()):
                await self._keyring.refresh_politely(server)
                keys = await self._keyring.stored(server)
            if keys:
                answers.append(self._signed(server, list(keys.values())))
        return answers

    def _own(self) -> dict[str, Any]:
        key = self._signer.key
        old = {
            one.key_id: {"key": unpadded(one.public), "expired_ts": expired} for one, expired in self._retired.items()
        }
        return sign_json(
            {
                "server_name": self._signer.server_name,
                "valid_until_ts": self._runtime.now_ms() + VALID_MS,
                "verify_keys": {key.key_id: {"key": key.public_base64}},
                "old_verify_keys": old,
            },
            self._signer,
        )

    def _signed(self, server: str, keys: Sequence[StoredKey]) -> dict[str, Any]:
        now = self._runtime.now_ms()
        current = [key for key in keys if key.valid_until >= now] or [max(keys, key=lambda key: key.valid_until)]
        old = [key for key in keys if key not in current]
        return sign_json(
            {
                "server_name": server,
                "valid_until_ts": min(key.valid_until for key in current),
                "verify_keys": {key.key_id: {"key": unpadded(key.public)} for key in current},
                "old_verify_keys": {
                    key.key_id: {"key": unpadded(key.public), "expired_ts": key.valid_until} for key in old
                },
            },
            self._signer,
        )


class VersionPage:
    """The software's name."""

    def __init__(self, version: str) -> None:
        self._version = version

    @endpoint("GET", "/_matrix/federation/v1/version", limit="federation")
    async def version(self, caller: Anyone) -> dict[str, Any]:
        return {"server": {"name": "Parley", "version": self._version}}


def _checked(server: str) -> str:
    if not is_server_name(server):
        raise invalid_param(f"{server[:255]!r} is not a server name")
    return server
