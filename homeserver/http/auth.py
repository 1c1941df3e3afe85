# SPDX-License-Identifier: Apache-2.0
"""How a client's request says who sends it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from homeserver.http.endpoint import Anyone, AppService, Bound, Call, MaybeUser
from homeserver.http.incoming import Incoming
from homeserver.protocol.errors import forbidden, guest_forbidden, missing_token
from homeserver.services.callers import User

Authenticate = Callable[[Bound, Call, Incoming], Awaitable[object]]

_ANYONE = Anyone()
_NOBODY = MaybeUser(None)


class Sessions(Protocol):
    """What is asked of the sessions: whose token it is."""

    async def by_token(
        self,
        token: str | None,
        *,
        ip: str = "",
        user_agent: str = "",
        locked_allowed: bool = False,
        acting_user: str | None = None,
        acting_device: str | None = None,
    ) -> User: ...


class ClientAuth:
    """Bearer tokens. The versions of the specification up to v1.18, which we announce, let them come in the query."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @property
    def kinds(self) -> Mapping[type, Authenticate]:
        """How each kind of caller is found."""
        return {Anyone: self.anyone, MaybeUser: self.maybe_user, User: self.user, AppService: self.appservice}

    async def anyone(self, bound: Bound, call: Call, incoming: Incoming) -> Anyone:
        return _ANYONE

    async def maybe_user(self, bound: Bound, call: Call, incoming: Incoming) -> MaybeUser:
        if call.header("authorization") is None and b"access_token=" not in call.raw_query:
            return _NOBODY
        return MaybeUser(await self._caller(bound, call))

    async def user(self, bound: Bound, call: Call, incoming: Incoming) -> User:
        user = await self._caller(bound, call)
        if user.is_guest and not bound.declaration.guests:
            raise guest_forbidden()
        return user

    async def appservice(self, bound: Bound, call: Call, incoming: Incoming) -> AppService:
        user = await self._caller(bound, call)
        if user.appservice_id is None:
            raise forbidden("Only application services may do this")
        return AppService(user.appservice_id, user)

    async def _caller(self, bound: Bound, call: Call) -> User:
        acting_user = acting_device = None
        if call.raw_query and (b"user_id=" in call.raw_query or b"device_id=" in call.raw_query):
            query = call.query
            acting_user = query.get("user_id")
            acting_device = query.get("device_id") or query.get("org.matrix.msc3202.device_id")
        return await self._sessions.by_token(
            token_of(call),
            ip=call.client_ip,
            user_agent=call.user_agent,
            locked_allowed=bound.declaration.locked,
            acting_user=acting_user,
            acting_device=acting_device,
        )


def token_of(call: Call) -> str:
    """The token in the Authorization header or, without one, in the query string; raises M_MISSING_TOKEN."""
    header = call.header("authorization")
    if header is None and b"access_token=" in call.raw_query and (given := call.query.get("access_token")):
        return given
    if header is None or header[:7].lower() != "bearer " or not (token := header[7:].strip()):
        raise missing_token()
    return token
