# SPDX-License-Identifier: Apache-2.0
"""What services ask other servers about users, aliases, published rooms and spaces.

https://spec.matrix.org/v1.19/server-server-api/#querying-for-information
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from federation.outbound.client import Client, Query, Refused, segment
from homeserver.protocol.errors import MatrixError, not_found
from homeserver.protocol.ids import is_room_id, is_server_name, server_of
from homeserver.runtime import Runtime
from homeserver.services.ports import RemoteFailure, RemoteKeysAnswer
from homeserver.services.rooms.aliases import ResolvedAlias
from homeserver.services.rooms.directory import Listing
from storage import edu_outbox
from storage.txn import Txn

PROFILE_SECONDS = 60.0
REMEMBERED = 5_000
MOST_SERVERS = 50
SHOWN = (
    "room_id", "name", "topic", "canonical_alias", "avatar_url", "num_joined_members", "world_readable",
    "guest_can_join", "join_rule", "room_type", "children_state", "room_version", "encryption", "allowed_room_ids",
)  # fmt: skip


def failed(server: str, failure: RemoteFailure) -> MatrixError:
    """What a client is told when another server could not be asked, or refused."""
    if isinstance(failure, Refused):
        return failure.shown()
    return MatrixError(502, "M_UNKNOWN", f"{server}: {failure.reason}")


class RemoteAliases:
    """Aliases of other servers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def resolve(self, alias: str, server: str) -> ResolvedAlias | None:
        path = "/_matrix/federation/v1/query/directory"
        try:
            answer = await self._client.get(server, path, [("room_alias", alias)], seconds=15, insists=True)
        except RemoteFailure:
            return None
        room_id = answer.get("room_id") if isinstance(answer, dict) else None
        servers = answer.get("servers") if isinstance(answer, dict) else None
        if not is_room_id(room_id):
            return None
        named = [one for one in servers if isinstance(one, str) and is_server_name(one)] if servers else []
        return ResolvedAlias(str(room_id), tuple(dict.fromkeys([*named[:MOST_SERVERS], server])))


class RemoteProfiles:
    """Profiles of users of other servers, remembered for a minute."""

    def __init__(self, client: Client, runtime: Runtime) -> None:
        self._client = client
        self._runtime = runtime
        self._known: OrderedDict[tuple[str, str | None], tuple[float, Mapping[str, object]]] = OrderedDict()

    async def query(self, user_id: str, field: str | None) -> Mapping[str, object]:
        now = self._runtime.monotonic()
        known = self._known.get((user_id, field))
        if known is not None and known[0] > now:
            return known[1]
        server = server_of(user_id)
        query: Query = [("user_id", user_id), *([("field", field)] if field is not None else [])]
        try:
            answer = await self._client.get(server, "/_matrix/federation/v1/query/profile", query, largest=1 << 18)
        except RemoteFailure as failure:
            raise failed(server, failure) from None
        if not isinstance(answer, dict):
            raise not_found("The other server did not answer well")
        shown = {name: value for name, value in answer.items() if _proper(name, value)}
        self._known[(user_id, field)] = (now + PROFILE_SECONDS, shown)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return shown


def _proper(name: str, value: object) -> bool:
    return isinstance(value, str) if name in ("displayname", "avatar_url") else True


class RemoteDirectory:
    """Lists of published rooms of other servers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def listing(self, server: str, wanted: Listing) -> dict[str, Any]:
        body: dict[str, Any] = {"limit": wanted.limit, "include_all_networks": wanted.all_networks}
        if wanted.since is not None:
            body["since"] = wanted.since
        chosen: dict[str, Any] = {}
        if wanted.term is not None:
            chosen["generic_search_term"] = wanted.term
        if wanted.room_types is not None:
            chosen["room_types"] = sorted(wanted.room_types, key=lambda one: one or "")
        if chosen:
            body["filter"] = chosen
        if not is_server_name(server):
            raise MatrixError(400, "M_INVALID_PARAM", "server is not a server name")
        try:
            answer = await self._client.call(server, "POST", "/_matrix/federation/v1/publicRooms", (), body, seconds=20)
        except RemoteFailure as failure:
            raise failed(server, failure) from None
        chunk = answer.get("chunk") if isinstance(answer, dict) else None
        if not isinstance(chunk, list):
            raise MatrixError(502, "M_UNKNOWN", "The other server did not answer with a list")
        shown: dict[str, Any] = {"chunk": [one for one in map(shown_room, chunk) if one is not None]}
        for name, kind in (("next_batch", str), ("prev_batch", str), ("total_room_count_estimate", int)):
            if isinstance(answer.get(name), kind):
                shown[name] = answer[name]
        return shown


def shown_room(room: object) -> dict[str, Any] | None:
    """A room as another server describes it, with what clients are shown; None for what is none."""
    if not isinstance(room, dict) or not is_room_id(room.get("room_id")):
        return None
    found = {name: room[name] for name in SHOWN if room.get(name) is not None}
    for name in ("name", "topic", "canonical_alias", "avatar_url", "join_rule", "room_type", "room_version"):
        if not isinstance(found.get(name, ""), str):
            del found[name]
    joined = found.get("num_joined_members")
    found["num_joined_members"] = joined if type(joined) is int and joined >= 0 else 0
    for name in ("world_readable", "guest_can_join"):
        found[name] = found.get(name) is True
    return found


class RemoteHierarchy:
    """Rooms of spaces that this server is not in."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def room(self, room_id: str, via: tuple[str, ...], suggested_only: bool) -> dict[str, Any] | None:
        path = f"/_matrix/federation/v1/hierarchy/{segment(room_id)}"
        query = [("suggested_only", "true" if suggested_only else "false")]
        for server in [one for one in via if is_server_name(one)][:3]:
            try:
                answer = await self._client.get(server, path, query, seconds=10)
            except RemoteFailure:
                continue
            room = shown_room(answer.get("room")) if isinstance(answer, dict) else None
            if room is not None and room["room_id"] == room_id:
                children = room.get("children_state")
                room["children_state"] = children if isinstance(children, list) else []
                return room
        return None


class RemoteKeys:
    """Keys of devices of users of other servers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def query(self, server: str, wanted: Mapping[str, Sequence[str]], timeout_ms: int) -> RemoteKeysAnswer:
        body = {"device_keys": {user_id: list(devices) for user_id, devices in wanted.items()}}
        path = "/_matrix/federation/v1/user/keys/query"
        answer = await self._client.call(server, "POST", path, (), body, seconds=_seconds(timeout_ms))
        device_keys = {}
        for user_id, devices in _objects(answer, "device_keys").items():
            if isinstance(devices, dict):
                device_keys[user_id] = {
                    device_id: keys
                    for device_id, keys in devices.items()
                    if isinstance(keys, dict) and keys.get("user_id") == user_id and keys.get("device_id") == device_id
                }
        masters, signing = (_objects(answer, f"{name}_keys") for name in ("master", "self_signing"))
        return RemoteKeysAnswer(
            device_keys,
            {user_id: key for user_id, key in masters.items() if _is_of(user_id, key)},
            {user_id: key for user_id, key in signing.items() if _is_of(user_id, key)},
        )

    async def claim(
        self, server: str, wanted: Mapping[str, Mapping[str, str]], timeout_ms: int
    ) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        body = {"one_time_keys": {user_id: dict(devices) for user_id, devices in wanted.items()}}
        path = "/_matrix/federation/v1/user/keys/claim"
        answer = await self._client.call(server, "POST", path, (), body, seconds=_seconds(timeout_ms))
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for user_id, devices in _objects(answer, "one_time_keys").items():
            if user_id in wanted and isinstance(devices, dict):
                given = {
                    one: keys for one, keys in devices.items() if one in wanted[user_id] and isinstance(keys, dict)
                }
                found[user_id] = given
        return found


def _seconds(timeout_ms: int) -> float:
    return min(max(timeout_ms, 1_000), 60_000) / 1000


def _objects(answer: object, name: str) -> dict[str, Any]:
    found = answer.get(name) if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else {}


def _is_of(user_id: str, key: object) -> bool:
    return isinstance(key, dict) and key.get("user_id") == user_id and isinstance(key.get("keys"), dict)


class Outbox:
    """EDUs that must arrive: kept until their server has them."""

    def queue(self, txn: Txn, server: str, edu_type: str, content: Mapping[str, Any]) -> None:
        if is_server_name(server):
            edu_outbox.add(txn, server, edu_type, content)
