# SPDX-License-Identifier: Apache-2.0
"""What services need from other servers, as the federation will supply it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from storage.gaps import Gap
from storage.txn import Txn


class RemoteFailure(Exception):
    """Another server could not be asked. `reason` may be shown to a client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen(slots=True)
class RemoteKeysAnswer:
    """Another server's answer to a query of keys, by user id; objects as that server sent them, checked for shape."""

    device_keys: Mapping[str, Mapping[str, Any]]
    master_keys: Mapping[str, Any]
    self_signing_keys: Mapping[str, Any]


class RemoteKeys(Protocol):
    """Keys of users on other servers."""

    async def query(self, server: str, wanted: Mapping[str, Sequence[str]], timeout_ms: int) -> RemoteKeysAnswer:
        """The keys of `wanted` (user id → device ids, none meaning all), all of `server`; raises RemoteFailure."""

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout_ms: int
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        """One key for each of `wanted` (user id → device id → algorithm), all of `server`; raises RemoteFailure.

        The answer is user id → device id → key name → key.
        """


class EduOutbox(Protocol):
    """What waits to be sent to other servers and must survive a restart."""

    def queue(self, txn: Txn, server: str, edu_type: str, content: Mapping[str, Any]) -> None:
        """Have the EDU sent to `server`, in the order of the calls; kept by the transaction that calls."""


class RemoteHistory(Protocol):
    """The history of rooms before what this server has of it."""

    async def fetch_before(self, room_id: str, gap: Gap, limit: int) -> bool:
        """Fetch events into a hole of a room's history; whether some came. Takes a bounded time, and raises nothing."""
