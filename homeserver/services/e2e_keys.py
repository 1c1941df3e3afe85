# SPDX-License-Identifier: Apache-2.0
"""How devices publish their keys, and how a one-time key is claimed, at most once ever.

Sync calls `await keys.counts(device)` for `device_one_time_keys_count` and `device_unused_fallback_key_types`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson
from twisted.internet.defer import Deferred, gatherResults

from homeserver.protocol.errors import MatrixError
from homeserver.protocol.ids import server_of
from homeserver.services import key_upload
from homeserver.services.callers import User
from homeserver.services.claim_journal import ClaimJournal
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure, RemoteKeys
from storage import device_keys, names, one_time_keys
from storage.one_time_keys import Key, KeyCounts
from storage.txn import Change, Txn

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_MS = 10_000
CACHED_DEVICES = 50_000
#: Up to this many users are looked up where bounded reads are; more of them off the reactor.
FEW_USERS = 20

#: user id → device id → algorithm
Claims = Mapping[str, Mapping[str, str]]


@attrs.frozen(slots=True)
class Target:
    """A device of this server from which a key is claimed."""

    user_id: str
    usr: int
    device_id: str
    device: int
    algorithm: str


@attrs.frozen(slots=True)
class Claimed:
    """The key that a claim got; None when the device has none left."""

    target: Target
    key: Key | None


class E2eKeys:
    """Publishing, counting and claiming. The root has `forget_counts` called with every commit."""

    def __init__(self, database: Database, server_name: str, remote: RemoteKeys, journal: ClaimJournal) -> None:
        self._database = database
        self._server_name = server_name
        self._remote = remote
        self._journal = journal
        self._counts: dict[int, KeyCounts] = {}
        self._commits = 0

    async def upload(self, user: User, body: Mapping[str, Any]) -> KeyCounts:
        """Publish the keys of the caller's device; what it has left afterwards.

        Raises M_BAD_JSON, M_INVALID_PARAM, and M_MISSING_PARAM for a caller without a device.
        """
        if not user.device or user.device_id is None:
            raise MatrixError(400, "M_MISSING_PARAM", "Only a device can publish keys; this token has none")
        upload = key_upload.parse(user.user_id, user.device_id, body)
        if upload.is_empty:
            return await self.counts(user.device)
        return await self._database.write(key_upload.store, user.usr, user.device, user.device_id, upload)

    async def counts(self, device: int) -> KeyCounts:
        """What the device has left: unclaimed one-time keys by algorithm, and algorithms of unused fallback keys."""
        known = self._counts.get(device)
        if known is not None:
            return known
        commits = self._commits
        found = await self._database.point(one_time_keys.counts, device)
        if commits == self._commits:
            if len(self._counts) >= CACHED_DEVICES:
                self._counts.clear()
            self._counts[device] = found
        return found

    def forget_counts(self, position: int, changes: Sequence[Change]) -> None:
        """Drop cached counts that a commit made wrong; with a commit that nobody described, all."""
        for change in changes:
            if change.device and change.stream in ("keys", "device_list"):
                self._commits += 1
                self._counts.pop(change.device, None)

    def forget_all_counts(self) -> None:
        """The database was lost and came back."""
        self._commits += 1
        self._counts.clear()

    async def claim(self, wanted: Claims, timeout_ms: int) -> dict[str, Any]:
        """The response body of a claim, for users of this server and of others."""
        here: dict[str, Mapping[str, str]] = {}
        elsewhere: dict[str, dict[str, Mapping[str, str]]] = {}
        for user_id, devices in wanted.items():
            server = server_of(user_id)
            if server == self._server_name:
                here[user_id] = devices
            elif server:
                elsewhere.setdefault(server, {})[user_id] = devices
        keys: dict[str, Any] = await self.claim_here(here)
        failures: dict[str, Any] = {}
        asked = [
            Deferred.fromCoroutine(self._claim_there(server, of_server, timeout_ms, keys, failures))
            for server, of_server in elsewhere.items()
        ]
        await gatherResults(asked)
        return {"one_time_keys": keys, "failures": failures}

    async def claim_here(self, wanted: Claims) -> dict[str, Any]:
        """Claim keys from devices of this server: user id → device id → key name → key. What is unknown is left out."""
        if not wanted:
            return {}
        look_up = self._database.point if len(wanted) <= FEW_USERS else self._database.read
        targets = await look_up(find_targets, wanted)
        if not targets:
            return {}
        position, claims = await self._database.write(claim_keys, targets)
        await self._journal.note(position)
        answer: dict[str, Any] = {}
        for claimed in claims:
            if claimed.key is not None:
                devices = answer.setdefault(claimed.target.user_id, {})
                devices[claimed.target.device_id] = {claimed.key.name: orjson.Fragment(claimed.key.key)}
        return answer

    async def distrust_if_restored(self) -> bool:
        """To be run at the start: drop all one-time keys when the database does not know of the last claim."""
        if self._journal.last() <= self._database.published:
            return False
        _log.warning("This database was restored: one-time keys that it still holds were handed out; they are dropped")
        await self._database.write(_drop_all)
        await self._journal.restart_from(self._database.published)
        return True

    async def distrust(self, user: User) -> None:
        """Drop the one-time keys of a device whose sync token lies in this database's future."""
        await self._database.write(_drop_of, user.usr, user.device)

    async def _claim_there(
        self, server: str, wanted: Claims, timeout_ms: int, keys: dict[str, Any], failures: dict[str, Any]
    ) -> None:
        try:
            answer = await self._remote.claim(server, wanted, timeout_ms)
        except RemoteFailure as failure:
            failures[server] = {"status": 503, "message": failure.reason}
            return
        for user_id, devices in answer.items():
            if user_id in wanted:
                keys[user_id] = devices


def find_targets(txn: Txn, wanted: Claims) -> list[Target]:
    """The devices of this server among `wanted`."""
    numbers = names.user_nids(txn, wanted)
    targets = []
    for user_id, usr in numbers.items():
        for device_id, device in device_keys.device_numbers(txn, usr, list(wanted[user_id])).items():
            targets.append(Target(user_id, usr, device_id, device, wanted[user_id][device_id]))
    return targets


def claim_keys(txn: Txn, targets: Sequence[Target]) -> tuple[int, list[Claimed]]:
    """Take one key from each device: the oldest one-time key, else the fallback key. Durable before anybody sees them.

    The position is that of the change, 0 when nothing was used up.

    "if a one-time key is available it is returned, and otherwise a fallback key" (v1.19, POST /keys/claim). Announces
    "keys" with user and device, so that the device learns what it has left.
    """
    claimed: list[Claimed] = []
    changed: set[tuple[int, int]] = set()
    for target in targets:
        key = one_time_keys.claim(txn, target.device, target.algorithm)
        is_change = key is not None
        if key is None:
            fallback = one_time_keys.use_fallback(txn, target.device, target.algorithm)
            if fallback is not None:
                key, is_change = fallback
        if is_change:
            changed.add((target.usr, target.device))
        claimed.append(Claimed(target, key))
    pos = txn.position() if changed else 0
    for usr, device in sorted(changed):
        txn.announce(Change(pos, "keys", user=usr, device=device))
    return pos, claimed


def _drop_all(txn: Txn) -> None:
    for usr, device in one_time_keys.delete_all_one_time(txn):
        txn.announce(Change(txn.position(), "keys", user=usr, device=device))


def _drop_of(txn: Txn, usr: int, device: int) -> None:
    if one_time_keys.delete_one_time(txn, device):
        txn.announce(Change(txn.position(), "keys", user=usr, device=device))
