# SPDX-License-Identifier: Apache-2.0
"""The pages of end-to-end encryption keys and cross-signing."""

from collections.abc import Mapping
from typing import Any

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import bad_json, missing_param
from homeserver.services.cross_signing import CrossSigning
from homeserver.services.device_lists import DeviceLists
from homeserver.services.e2e_keys import DEFAULT_TIMEOUT_MS, E2eKeys
from homeserver.services.key_query import KeyQuery
from homeserver.services.key_signatures import KeySignatures
from homeserver.services.sync.tokens import parse_sync_token

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#key-management-api"
CROSS_SIGNING = "https://spec.matrix.org/v1.19/client-server-api/#cross-signing"

LONGEST_TIMEOUT_MS = 60_000


class KeysPage:
    """Upload, query, claim and changes of keys."""

    def __init__(self, keys: E2eKeys, query: KeyQuery, device_lists: DeviceLists) -> None:
        self._keys = keys
        self._query = query
        self._device_lists = device_lists

    @endpoint("POST", "/_matrix/client/v3/keys/upload", limit="keys", guests=True, spec=SPEC)
    async def upload(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        counts = await self._keys.upload(caller, body)
        return {"one_time_key_counts": counts.one_time}

    @endpoint("POST", "/_matrix/client/v3/keys/query", guests=True, spec=SPEC)
    async def query(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        wanted = _map(body, "device_keys")
        for user_id, device_ids in wanted.items():
            if not isinstance(device_ids, list) or not all(isinstance(one, str) for one in device_ids):
                raise bad_json(f"device_keys: {user_id[:255]!r} must be a list of device ids")
        return await self._query.query(caller.usr, wanted, _timeout(body))

    @endpoint("POST", "/_matrix/client/v3/keys/claim", limit="keys", guests=True, spec=SPEC)
    async def claim(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        wanted = _map(body, "one_time_keys")
        for user_id, devices in wanted.items():
            if not isinstance(devices, dict) or not all(isinstance(one, str) for one in devices.values()):
                raise bad_json(f"one_time_keys: {user_id[:255]!r} must be a map of device ids to algorithms")
        return await self._keys.claim(wanted, _timeout(body))

    @endpoint("GET", "/_matrix/client/v3/keys/changes", spec=SPEC)
    async def changes(self, caller: User, call: Call) -> dict[str, Any]:
        since, upto = (parse_sync_token(_token(call, name)).pos for name in ("from", "to"))
        changed, left = await self._device_lists.changed(caller.usr, since, upto)
        return {"changed": changed, "left": left}


class CrossSigningPage:
    """Upload of cross-signing keys and of signatures."""

    def __init__(self, cross_signing: CrossSigning, signatures: KeySignatures) -> None:
        self._cross_signing = cross_signing
        self._signatures = signatures

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/device_signing/upload",
        also=("/_matrix/client/unstable/keys/device_signing/upload",),
        limit="keys",
        spec=CROSS_SIGNING,
    )
    async def upload(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        await self._cross_signing.upload(caller, body, call.client_ip)
        return {}

    @endpoint(
        "POST",
        "/_matrix/client/v3/keys/signatures/upload",
        also=("/_matrix/client/unstable/keys/signatures/upload",),
        limit="keys",
        spec=CROSS_SIGNING,
    )
    async def sign(self, caller: User, body: dict[str, Any]) -> dict[str, Any]:
        return {"failures": await self._signatures.add(caller, body)}


def _map(body: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = body.get(field)
    if value is None:
        raise missing_param(f"{field} is missing")
    if not isinstance(value, dict):
        raise bad_json(f"{field} must be an object")
    return value


def _timeout(body: Mapping[str, Any]) -> int:
    timeout = body.get("timeout")
    if timeout is None:
        return DEFAULT_TIMEOUT_MS
    if type(timeout) is not int or timeout < 0:
        raise bad_json("timeout must be a number of milliseconds")
    return min(timeout, LONGEST_TIMEOUT_MS)


def _token(call: Call, name: str) -> str:
    value = call.query.get(name)
    if value is None:
        raise missing_param(f"The query parameter {name} is missing")
    return value
