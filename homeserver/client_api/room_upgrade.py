# SPDX-License-Identifier: Apache-2.0
"""The page of room upgrades."""

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.rooms.upgrade import Upgrades

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade"


class UpgradeBody(msgspec.Struct):
    new_version: str
    additional_creators: list[str] = []


class RoomUpgrade:
    def __init__(self, upgrades: Upgrades) -> None:
        self._upgrades = upgrades

    @endpoint("POST", "/_matrix/client/v3/rooms/{roomId}/upgrade", limit="joins", spec=SPEC)
    async def upgrade(self, caller: User, call: Call, body: UpgradeBody) -> dict[str, object]:
        new_room = await self._upgrades.upgrade(
            caller, call.params["roomId"], body.new_version, body.additional_creators
        )
        return {"replacement_room": new_room}
