# SPDX-License-Identifier: Apache-2.0
"""Which keys of users a viewer gets to see, and with which signatures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred, gatherResults

from homeserver.protocol.ids import server_of
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure, RemoteKeys
from storage import cross_signing, device_keys, names
from storage.cross_signing import Signature, Usage
from storage.txn import Txn

#: user id → device ids; none means all
Wanted = Mapping[str, Sequence[str]]

#: The viewer that owns no keys here: another server.
NOBODY = 0
#: Up to this many users are looked up where bounded reads are; more of them off the reactor.
FEW_USERS = 20


class KeyQuery:
    """Look-ups of identity and cross-signing keys."""

    def __init__(self, database: Database, server_name: str, remote: RemoteKeys) -> None:
        self._database = database
        self._server_name = server_name
        self._remote = remote

    async def query(self, viewer: int, wanted: Wanted, timeout_ms: int) -> dict[str, Any]:
        """The response body of a query, for users of this server and of others. `viewer` is a user's number."""
        here: dict[str, Sequence[str]] = {}
        elsewhere: dict[str, dict[str, Sequence[str]]] = {}
        for user_id, device_ids in wanted.items():
            server = server_of(user_id)
            if server == self._server_name:
                here[user_id] = device_ids
            elif server:
                elsewhere.setdefault(server, {})[user_id] = device_ids
        answer = await self.query_here(viewer, here)
        answer["failures"] = {}
        asked = [
            Deferred.fromCoroutine(self._query_there(server, of_server, timeout_ms, answer))
            for server, of_server in elsewhere.items()
        ]
        await gatherResults(asked)
        return answer

    def position(self) -> int:
        """A number that grows with every change of anybody's devices."""
        return self._database.published

    async def query_here(self, viewer: int, wanted: Wanted) -> dict[str, Any]:
        """The same for users of this server only, without `failures`."""
        look_up = self._database.point if len(wanted) <= FEW_USERS else self._database.read
        return await look_up(find_keys, wanted, viewer)

    async def _query_there(self, server: str, wanted: Wanted, timeout_ms: int, answer: dict[str, Any]) -> None:
        try:
            found = await self._remote.query(server, wanted, timeout_ms)
        except RemoteFailure as failure:
            answer["failures"][server] = {"status": 503, "message": failure.reason}
            return
        parts = (("device_keys", found.device_keys), ("master_keys", found.master_keys))
        for name, of_users in (*parts, ("self_signing_keys", found.self_signing_keys)):
            answer[name].update({user_id: keys for user_id, keys in of_users.items() if user_id in wanted})


def find_keys(txn: Txn, wanted: Wanted, viewer: int) -> dict[str, Any]:
    """Keys of known users among `wanted` as `viewer` may see them; one bounded set of queries however many users."""
    numbers = names.user_nids(txn, wanted)
    user_ids = {usr: user_id for user_id, usr in numbers.items()}
    signatures = _by_target(txn, cross_signing.signatures_on(txn, list(user_ids), viewer))
    answer: dict[str, Any] = {
        "device_keys": {user_id: {} for user_id in wanted if user_id in numbers},
        "master_keys": {},
        "self_signing_keys": {},
        "user_signing_keys": {},
    }
    for published in device_keys.of_users(txn, list(user_ids)):
        user_id = user_ids[published.usr]
        if wanted[user_id] and published.device_id not in wanted[user_id]:
            continue
        device = _with_signatures(published.keys, signatures.get((published.usr, published.device_id)))
        if published.name is not None:
            device["unsigned"] = {"device_display_name": published.name}
        answer["device_keys"][user_id][published.device_id] = device
    for key in cross_signing.keys_of(txn, list(user_ids)):
        if key.usage is Usage.USER_SIGNING and key.usr != viewer:
            continue
        signed = _with_signatures(key.keys, signatures.get((key.usr, key.public)))
        answer[f"{key.usage.word}_keys"][user_ids[key.usr]] = signed
    return answer


def _by_target(txn: Txn, signatures: Iterable[Signature]) -> dict[tuple[int, str], list[tuple[str, str, str]]]:
    """(user, object) → (signer's id, key id, signature)."""
    found = list(signatures)
    signers = names.user_ids(txn, {one.signer for one in found})
    by_target: dict[tuple[int, str], list[tuple[str, str, str]]] = {}
    for one in found:
        signed = by_target.setdefault((one.target_usr, one.target), [])
        signed.append((signers[one.signer], one.key_id, one.signature))
    return by_target


def _with_signatures(keys: bytes, added: Iterable[tuple[str, str, str]] | None) -> dict[str, Any]:
    """The object as uploaded, with the signatures that were added to it later."""
    value: dict[str, Any] = orjson.loads(keys)
    for signer, key_id, signature in added or ():
        value.setdefault("signatures", {}).setdefault(signer, {})[key_id] = signature
    return value
