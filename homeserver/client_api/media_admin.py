# SPDX-License-Identifier: Apache-2.0
"""The page of media for administrators, at the addresses that their tools know from Synapse."""

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.protocol.errors import not_found
from homeserver.protocol.ids import MediaUri, is_server_name
from homeserver.services.media_care import MediaCare

SPEC = "https://element-hq.github.io/synapse/latest/admin_api/media_admin_api.html"


class MediaAdminPage:
    def __init__(self, care: MediaCare) -> None:
        self._care = care

    @endpoint("POST", "/_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}", spec=SPEC)
    async def quarantine(self, caller: User, call: Call) -> dict[str, object]:
        return {"num_quarantined": await self._care.set_quarantined(caller, _uri(call), True)}

    @endpoint("POST", "/_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}", spec=SPEC)
    async def release(self, caller: User, call: Call) -> dict[str, object]:
        await self._care.set_quarantined(caller, _uri(call), False)
        return {}

    @endpoint("POST", "/_synapse/admin/v1/user/{userId}/media/quarantine", spec=SPEC)
    async def quarantine_of(self, caller: User, call: Call) -> dict[str, object]:
        return {"num_quarantined": await self._care.quarantine_of(caller, call.params["userId"])}

    @endpoint("DELETE", "/_synapse/admin/v1/media/{serverName}/{mediaId}", spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, object]:
        uri = _uri(call)
        await self._care.delete(caller, uri)
        return {"deleted_media": [uri.media_id], "total": 1}


def _uri(call: Call) -> MediaUri:
    server, media_id = call.params["serverName"], call.params["mediaId"]
    if not is_server_name(server):
        raise not_found("The media was not found")
    return MediaUri(server, media_id)
