# SPDX-License-Identifier: Apache-2.0
"""What stands in for other servers while this one does not federate."""

from collections.abc import Mapping, Sequence
from typing import Any

from homeserver.services.ports import RemoteFailure, RemoteKeysAnswer
from storage.txn import Txn


class NoRemoteKeys:
    """Stands in while this server does not federate: every other server is unreachable."""

    async def query(self, server: str, wanted: Mapping[str, Sequence[str]], timeout_ms: int) -> RemoteKeysAnswer:
        raise RemoteFailure("This server does not federate")

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout_ms: int
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        raise RemoteFailure("This server does not federate")


class NoEduOutbox:
    """Stands in while this server does not federate: what is meant for other servers goes nowhere."""

    def queue(self, txn: Txn, server: str, edu_type: str, content: Mapping[str, Any]) -> None:
        return None
