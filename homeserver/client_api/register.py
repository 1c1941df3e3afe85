# SPDX-License-Identifier: Apache-2.0
"""The page of registration: accounts for people, guests and users of application services."""

from collections.abc import Mapping

from homeserver.http.auth import token_of
from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.protocol.errors import MatrixError, bad_json, forbidden, invalid_param, missing_param
from homeserver.services.contacts import Contacts
from homeserver.services.login import SignIn
from homeserver.services.passwords import Passwords
from homeserver.services.registration import NewUser, Registrar
from homeserver.services.sessions import Sessions
from homeserver.services.uia import InteractionRequired, InteractiveAuth
from storage.validations import REGISTER

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register"
SERVICE = "m.login.application_service"


class Register:
    def __init__(
        self,
        registrar: Registrar,
        uia: InteractiveAuth,
        passwords: Passwords,
        sessions: Sessions,
        contacts: Contacts,
    ) -> None:
        self._registrar = registrar
        self._uia = uia
        self._passwords = passwords
        self._sessions = sessions
        self._contacts = contacts

    @endpoint("POST", "/_matrix/client/v3/register", limit="registration", optional_body=True, spec=SPEC)
    async def register(self, caller: Anyone, call: Call, body: dict[str, object]) -> dict[str, object]:
        kind = call.query.get("kind") or "user"
        if kind == "guest":
            name = body.get("initial_device_display_name")
            return await self._registrar.register_guest(name if isinstance(name, str) else None)
        if kind != "user":
            raise invalid_param("kind must be user or guest")
        if body.get("type") == SERVICE:
            return await self._service_user(call, body)
        return await self._person(call, body)

    async def _person(self, call: Call, body: Mapping[str, object]) -> dict[str, object]:
        self._registrar.require_open()
        body = self._registrar.begun.complete(body)
        localpart = _username(body)
        guest = await self._upgrading(call, body, localpart)
        if localpart is not None and guest is None:
            await self._registrar.check_name(localpart)
        password = body.get("password")
        if password is not None:
            if not isinstance(password, str):
                raise bad_json("password must be a string")
            self._passwords.check_strength(password)
        wanted = SignIn.of_body(body)
        flows = self._registrar.flows(self._contacts.can_mail)
        try:
            result = await self._uia.require(None, body.get("auth"), {"endpoint": "register"}, flows, call.client_ip)
        except InteractionRequired as required:
            self._registrar.begun.keep(required.session, body)
            raise
        if password is None:
            raise missing_param("password is missing")
        sign_in_as = None if body.get("inhibit_login") is True else wanted
        if guest is not None:
            return await self._registrar.upgrade_guest(guest, password, sign_in_as, result)
        new = NewUser(localpart or await self._registrar.free_name(), password)
        address = None
        if result.address_proof is not None:
            address = await self._contacts.proven((REGISTER,), result.address_proof)
        made = await self._registrar.register(new, sign_in_as, result, address)
        self._registrar.begun.end(result.session)
        return made

    async def _upgrading(self, call: Call, body: Mapping[str, object], localpart: str | None) -> User | None:
        """The guest whose account is to become a person's: the one whose token is given, under the same name."""
        token = body.get("guest_access_token")
        if token is None:
            return None
        if not isinstance(token, str):
            raise bad_json("guest_access_token must be a string")
        try:
            guest = await self._sessions.by_token(token, ip=call.client_ip)
        except MatrixError:
            raise forbidden("The guest access token is not valid") from None
        if not guest.is_guest or guest.user_id[1:].partition(":")[0] != localpart:
            raise forbidden("The guest access token is not that of this guest")
        return guest

    async def _service_user(self, call: Call, body: Mapping[str, object]) -> dict[str, object]:
        service = await self._sessions.by_token(token_of(call), ip=call.client_ip)
        if service.appservice_id is None:
            raise MatrixError(401, "M_UNKNOWN_TOKEN", "The token is not an application service's")
        localpart = _username(body)
        if localpart is None:
            raise missing_param("username is missing")
        wanted = None if body.get("inhibit_login") is True else SignIn.of_body(body)
        return await self._registrar.register_service_user(service, localpart, wanted)

    @endpoint("GET", "/_matrix/client/v3/register/available", limit="registration", spec=SPEC)
    async def available(self, caller: Anyone, call: Call) -> dict[str, object]:
        self._registrar.require_open()
        username = call.query.get("username")
        if username is None:
            raise missing_param("username is missing")
        await self._registrar.check_name(username.lower())
        return {"available": True}

    @endpoint(
        "GET",
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        also=[
            "/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity"
        ],
        limit="registration",
        spec="https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration",
    )
    async def validity(self, caller: Anyone, call: Call) -> dict[str, object]:
        self._registrar.require_open()
        token = call.query.get("token")
        if token is None:
            raise missing_param("token is missing")
        return {"valid": await self._registrar.token_is_valid(token)}


def _username(body: Mapping[str, object]) -> str | None:
    """The local part asked for, in lower case; None when the server is to choose one."""
    username = body.get("username")
    if username is None:
        return None
    if not isinstance(username, str):
        raise bad_json("username must be a string")
    return username.lower()
