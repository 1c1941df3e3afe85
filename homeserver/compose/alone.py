# SPDX-License-Identifier: Apache-2.0
"""What stands in for other servers while this one does not federate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from homeserver.services.media import NoRemoteMedia, RemoteMedia
from homeserver.services.media_files import MediaFiles
from homeserver.services.ports import EduOutbox, RemoteFailure, RemoteHistory, RemoteKeys, RemoteKeysAnswer
from homeserver.services.profiles import NoRemoteProfiles, RemoteProfiles
from homeserver.services.rooms.aliases import RemoteAliases
from homeserver.services.rooms.directory import RemoteDirectory
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.membership import RemoteMembership
from homeserver.services.rooms.receive import Receiver
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.stage import Author
from homeserver.services.rooms.summary import RemoteRooms
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


def no_media(files: MediaFiles) -> RemoteMedia:
    """Stands in while this server does not federate."""
    return NoRemoteMedia()


@attrs.frozen
class RoomParts:
    """The parts of rooms that memberships elsewhere need."""

    locks: RoomLocks
    snapshots: Snapshots
    author: Author
    receiver: Receiver


@attrs.frozen
class Elsewhere:
    """What services have of other servers; nothing, unless federation is on."""

    keys: RemoteKeys = attrs.field(factory=NoRemoteKeys)
    outbox: EduOutbox = attrs.field(factory=NoEduOutbox)
    profiles: RemoteProfiles = attrs.field(factory=NoRemoteProfiles)
    media: Callable[[MediaFiles], RemoteMedia] = no_media
    rooms: Callable[[RoomParts], RemoteMembership] | None = None
    history: Callable[[RoomParts], RemoteHistory] | None = None
    aliases: RemoteAliases | None = None
    directory: RemoteDirectory | None = None
    hierarchy: RemoteRooms | None = None
