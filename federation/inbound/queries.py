# SPDX-License-Identifier: Apache-2.0
"""What other servers ask about users, aliases and rooms that this one shows them.

https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
"""

from collections.abc import Mapping
from typing import Any

from federation.inbound.admission import as_object
from homeserver.http.endpoint import Anyone, Call, Server, endpoint
from homeserver.protocol.errors import bad_json, invalid_param, missing_param, not_found
from homeserver.protocol.ids import is_user_id, parse_room_alias, parse_room_id, server_of
from homeserver.services.e2e_keys import E2eKeys
from homeserver.services.key_query import NOBODY, KeyQuery
from homeserver.services.openid import OpenId
from homeserver.services.profiles import Profiles
from homeserver.services.rooms.aliases import Aliases
from homeserver.services.rooms.directory import Directory, Listing
from homeserver.services.rooms.hierarchy import Hierarchy

MOST_USERS = 1_000
LARGEST_PAGE, USUAL_PAGE = 500, 100


class UserQueries:
    """Profiles, devices and keys of this server's users."""

    def __init__(self, server_name: str, profiles: Profiles, query: KeyQuery, keys: E2eKeys, openid: OpenId) -> None:
        self._server_name = server_name
        self._profiles = profiles
        self._query = query
        self._keys = keys
        self._openid = openid

    @endpoint("GET", "/_matrix/federation/v1/query/profile", limit="federation")
    async def profile(self, caller: Server, call: Call) -> dict[str, Any]:
        user_id = self._own(call.query.get("user_id"))
        field = call.query.get("field")
        found = await self._profiles.everything(user_id)
        if field is None:
            return dict(found)
        # A field that is not set is no error between servers.
        return {field: found[field]} if field in found else {}

    @endpoint("GET", "/_matrix/federation/v1/user/devices/{userId}", limit="federation")
    async def devices(self, caller: Server, call: Call) -> dict[str, Any]:
        user_id = self._own(call.params["userId"])
        found = await self._query.query_here(NOBODY, {user_id: ()})
        if user_id not in found["device_keys"]:
            raise not_found("There is no such user")
        answer: dict[str, Any] = {"user_id": user_id, "stream_id": self._query.position(), "devices": []}
        for device_id, keys in found["device_keys"][user_id].items():
            device: dict[str, Any] = {"device_id": device_id, "keys": keys}
            name = keys.get("unsigned", {}).get("device_display_name")
            if name is not None:
                device["device_display_name"] = name
            answer["devices"].append(device)
        for kind in ("master", "self_signing"):
            if user_id in found[f"{kind}_keys"]:
                answer[f"{kind}_key"] = found[f"{kind}_keys"][user_id]
        return answer

    @endpoint("POST", "/_matrix/federation/v1/user/keys/query", limit="federation")
    async def query_keys(self, caller: Server) -> dict[str, Any]:
        wanted = self._users(as_object(caller.content), "device_keys", list)
        found = await self._query.query_here(NOBODY, wanted)
        return {name: found[name] for name in ("device_keys", "master_keys", "self_signing_keys")}

    @endpoint("POST", "/_matrix/federation/v1/user/keys/claim", limit="federation")
    async def claim_keys(self, caller: Server) -> dict[str, Any]:
        wanted = self._users(as_object(caller.content), "one_time_keys", dict)
        return {"one_time_keys": await self._keys.claim_here(wanted)}

    @endpoint("GET", "/_matrix/federation/v1/openid/userinfo", limit="federation")
    async def userinfo(self, caller: Anyone, call: Call) -> dict[str, Any]:
        token = call.query.get("access_token")
        if token is None:
            raise missing_param("access_token is missing")
        return {"sub": await self._openid.owner(token)}

    def _users(self, body: Mapping[str, Any], name: str, kind: type) -> dict[str, Any]:
        """Those of the users asked about who are of this server. Raises M_BAD_JSON."""
        asked = body.get(name)
        if not isinstance(asked, dict) or len(asked) > MOST_USERS:
            raise bad_json(f"{name} must be an object with at most {MOST_USERS} users")
        wanted = {}
        for user_id, devices in asked.items():
            inside = devices if isinstance(devices, list) else devices.values() if isinstance(devices, dict) else ()
            if not isinstance(devices, kind) or not all(isinstance(one, str) for one in inside):
                raise bad_json(f"{name}: {user_id[:255]!r} must have a {'list' if kind is list else 'map'} of strings")
            if is_user_id(user_id) and server_of(user_id) == self._server_name:
                wanted[user_id] = devices
        return wanted

    def _own(self, user_id: str | None) -> str:
        if user_id is None:
            raise missing_param("user_id is missing")
        if not is_user_id(user_id) or server_of(user_id) != self._server_name:
            raise invalid_param("The user is not of this server")
        return user_id


class RoomQueries:
    """Aliases, the published list, spaces."""

    def __init__(self, server_name: str, aliases: Aliases, directory: Directory, hierarchy: Hierarchy) -> None:
        self._server_name = server_name
        self._aliases = aliases
        self._directory = directory
        self._hierarchy = hierarchy

    @endpoint("GET", "/_matrix/federation/v1/query/directory", limit="federation")
    async def alias(self, caller: Server, call: Call) -> dict[str, Any]:
        alias = call.query.get("room_alias")
        if alias is None:
            raise missing_param("room_alias is missing")
        if parse_room_alias(alias).server != self._server_name:
            raise invalid_param("The alias is not of this server")
        found = await self._aliases.resolve(alias)
        return {"room_id": found.room_id, "servers": list(found.servers)}

    @endpoint("GET", "/_matrix/federation/v1/query/{queryType}", limit="federation")
    async def anything(self, caller: Server, call: Call) -> dict[str, Any]:
        raise not_found("There are no queries of this kind")

    @endpoint("GET", "/_matrix/federation/v1/publicRooms", limit="federation")
    async def list_rooms(self, caller: Server, call: Call) -> dict[str, Any]:
        query = call.query
        wanted = Listing(
            limit=_page(query.int("limit", 0, least=None)),
            since=query.get("since"),
            network=query.get("third_party_instance_id") or "",
            all_networks=query.flag("include_all_networks", False),
        )
        return await self._directory.listing(wanted, None)

    @endpoint("POST", "/_matrix/federation/v1/publicRooms", limit="federation")
    async def query_rooms(self, caller: Server) -> dict[str, Any]:
        body = as_object(caller.content)
        chosen, types = body.get("filter") or {}, None
        if not isinstance(chosen, dict):
            raise bad_json("filter must be an object")
        term = chosen.get("generic_search_term")
        if isinstance(chosen.get("room_types"), list):
            types = frozenset(one for one in chosen["room_types"] if one is None or isinstance(one, str))
        limit, since = body.get("limit"), body.get("since")
        network = body.get("third_party_instance_id")
        wanted = Listing(
            limit=_page(limit if type(limit) is int else 0),
            since=since if isinstance(since, str) else None,
            term=term if isinstance(term, str) else None,
            room_types=types,
            network=network if isinstance(network, str) else "",
            all_networks=body.get("include_all_networks") is True,
        )
        return await self._directory.listing(wanted, None)

    @endpoint("GET", "/_matrix/federation/v1/hierarchy/{roomId}", limit="federation")
    async def space(self, caller: Server, call: Call) -> dict[str, Any]:
        room_id = parse_room_id(call.params["roomId"])
        suggested = call.query.flag("suggested_only", False)
        found = await self._hierarchy.for_server(caller.name, room_id, suggested)
        if found is None:
            raise not_found("The room is not shown to your server")
        return found


def _page(given: int) -> int:
    return min(given, LARGEST_PAGE) if given > 0 else USUAL_PAGE
