# SPDX-License-Identifier: Apache-2.0
"""How a room is asked for: the body of a creation request, and what it wishes for.

https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from homeserver.protocol.errors import MatrixError, bad_json, invalid_param
from homeserver.protocol.ids import fits
from homeserver.services.callers import User
from homeserver.services.rooms.create import RoomCreation
from homeserver.services.rooms.presets import PRIVATE, PUBLIC, InitialState, Wishes


class StateBody(msgspec.Struct):
    type: str
    content: dict[str, Any]
    state_key: str = ""


class Invite3pidBody(msgspec.Struct):
    medium: str
    address: str
    id_server: str = ""
    id_access_token: str = ""


class CreateBody(msgspec.Struct):
    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] | None = None
    invite_3pid: list[Invite3pidBody] | None = None
    room_version: str | None = None
    creation_content: dict[str, Any] | None = None
    initial_state: list[StateBody] | None = None
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] | None = None
    is_direct: bool | None = None
    power_level_content_override: dict[str, Any] | None = None


class RoomRequests:
    """Makes rooms of request bodies, for clients and for upgrades."""

    def __init__(
        self, creation: RoomCreation, server_name: str, check_alias: Callable[[str | None, str], None] | None = None
    ) -> None:
        """`check_alias(appservice_id, alias)` raises M_EXCLUSIVE for an alias that only a service may make."""
        self._creation = creation
        self._server_name = server_name
        self._check_alias = check_alias

    async def create(self, user: User, body: dict[str, Any] | CreateBody) -> str:
        """The id of a room made as the body asks. Raises what `RoomCreation.create` raises, and M_BAD_JSON."""
        if isinstance(body, dict):
            try:
                body = msgspec.convert(body, CreateBody)
            except msgspec.ValidationError as error:
                raise bad_json(str(error)) from error
        if body.invite_3pid:
            raise MatrixError(403, "M_FORBIDDEN", "This server knows no identity server to invite by address")
        listed = body.visibility == "public"
        version = self._creation.version(body.room_version)
        wishes = self._wishes(body, listed)
        if wishes.alias is not None and self._check_alias is not None:
            self._check_alias(user.appservice_id, wishes.alias)
        return await self._creation.create(user, version, wishes, listed=listed)

    def _wishes(self, body: CreateBody, listed: bool) -> Wishes:
        return Wishes(
            # "A visibility of public equates to a preset of public_chat"
            preset=body.preset or (PUBLIC if listed else PRIVATE),
            alias=None if body.room_alias_name is None else self._alias(body.room_alias_name),
            name=body.name,
            topic=body.topic,
            invite=body.invite or (),
            creation_content=body.creation_content or {},
            initial_state=[InitialState(one.type, one.state_key, one.content) for one in body.initial_state or ()],
            is_direct=bool(body.is_direct),
            power_levels=body.power_level_content_override,
        )

    def _alias(self, localpart: str) -> str:
        alias = f"#{localpart}:{self._server_name}"
        bad = not localpart or ":" in localpart or "\0" in localpart or any(c.isspace() for c in localpart)
        if bad or not fits(alias):
            raise invalid_param("room_alias_name is the part of an alias between # and :")
        return alias
