# SPDX-License-Identifier: Apache-2.0
"""The page of administrative contacts: e-mail addresses and phone numbers of an account."""

import re
from typing import Annotated, Literal

import msgspec

from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.protocol.errors import MatrixError, invalid_param
from homeserver.services.contacts import Asked, Contacts
from homeserver.services.uia import InteractiveAuth
from storage.validations import ADD, REGISTER, RESET

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information"
CLIENT_SECRET = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")


Attempt = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class EmailBody(msgspec.Struct):
    client_secret: str
    email: str
    send_attempt: Attempt
    next_link: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class PhoneBody(msgspec.Struct):
    client_secret: str
    country: str
    phone_number: str
    send_attempt: Attempt
    next_link: str | None = None
    id_server: str | None = None
    id_access_token: str | None = None


class Credentials(msgspec.Struct):
    client_secret: str
    sid: str
    id_server: str | None = None
    id_access_token: str | None = None


class AddBody(msgspec.Struct):
    client_secret: str
    sid: str
    auth: dict[str, object] | None = None


class DeprecatedAddBody(msgspec.Struct):
    three_pid_creds: Credentials


class BindBody(msgspec.Struct):
    client_secret: str
    sid: str
    id_server: str
    id_access_token: str


class AddressBody(msgspec.Struct):
    medium: Literal["email", "msisdn"]
    address: str
    id_server: str | None = None


class ThreepidPage:
    def __init__(self, contacts: Contacts, uia: InteractiveAuth) -> None:
        self._contacts = contacts
        self._uia = uia

    @endpoint("GET", "/_matrix/client/v3/account/3pid", spec=SPEC)
    async def addresses(self, caller: User) -> dict[str, object]:
        return {
            "threepids": [
                {"medium": t.medium, "address": t.address, "validated_at": t.validated, "added_at": t.added}
                for t in await self._contacts.of_user(caller.usr)
            ]
        }

    @endpoint("POST", "/_matrix/client/v3/account/3pid", limit="login", spec=SPEC)
    async def add_deprecated(self, caller: User, body: DeprecatedAddBody) -> dict[str, object]:
        given = body.three_pid_creds
        _check_secret(given.client_secret)
        await self._add(caller, given.sid, given.client_secret)
        return {}

    @endpoint("POST", "/_matrix/client/v3/account/3pid/add", limit="login", spec=SPEC)
    async def add(self, caller: User, call: Call, body: AddBody) -> dict[str, object]:
        _check_secret(body.client_secret)
        operation = {"endpoint": "3pid/add", "sid": body.sid}
        result = await self._uia.require(caller, body.auth, operation, ip=call.client_ip)
        await self._add(caller, body.sid, body.client_secret)
        await self._uia.finish(result)
        return {}

    async def _add(self, caller: User, sid: str, secret: str) -> None:
        proof = await self._contacts.proven((ADD,), {"sid": sid, "client_secret": secret})
        await self._contacts.add(caller.usr, proof)

    @endpoint("POST", "/_matrix/client/v3/account/3pid/bind", limit="login", spec=SPEC)
    async def bind(self, caller: User, body: BindBody) -> dict[str, object]:
        _check_secret(body.client_secret)
        raise MatrixError(400, "M_SERVER_NOT_TRUSTED", "This server works with no identity server")

    @endpoint("POST", "/_matrix/client/v3/account/3pid/delete", spec=SPEC)
    async def delete(self, caller: User, body: AddressBody) -> dict[str, object]:
        await self._contacts.remove(caller.usr, body.medium, body.address)
        return {"id_server_unbind_result": "no-support"}

    @endpoint("POST", "/_matrix/client/v3/account/3pid/unbind", spec=SPEC)
    async def unbind(self, caller: User, body: AddressBody) -> dict[str, object]:
        return {"id_server_unbind_result": "no-support"}

    @endpoint("POST", "/_matrix/client/v3/register/email/requestToken", limit="login", spec=SPEC)
    async def mail_for_registration(self, caller: Anyone, body: EmailBody) -> dict[str, object]:
        return await self._mail(REGISTER, body)

    @endpoint("POST", "/_matrix/client/v3/account/3pid/email/requestToken", limit="login", spec=SPEC)
    async def mail_for_account(self, caller: Anyone, body: EmailBody) -> dict[str, object]:
        return await self._mail(ADD, body)

    @endpoint("POST", "/_matrix/client/v3/account/password/email/requestToken", limit="login", spec=SPEC)
    async def mail_for_password(self, caller: Anyone, body: EmailBody) -> dict[str, object]:
        return await self._mail(RESET, body)

    async def _mail(self, purpose: int, body: EmailBody) -> dict[str, object]:
        _check_secret(body.client_secret)
        asked = Asked(purpose, body.email, body.client_secret, body.send_attempt, body.next_link, body.id_server)
        return {"sid": await self._contacts.ask_by_mail(asked)}

    @endpoint("POST", "/_matrix/client/v3/register/msisdn/requestToken", limit="login", spec=SPEC)
    async def phone_for_registration(self, caller: Anyone, body: PhoneBody) -> dict[str, object]:
        return await self._phone(REGISTER, body)

    @endpoint("POST", "/_matrix/client/v3/account/3pid/msisdn/requestToken", limit="login", spec=SPEC)
    async def phone_for_account(self, caller: Anyone, body: PhoneBody) -> dict[str, object]:
        return await self._phone(ADD, body)

    @endpoint("POST", "/_matrix/client/v3/account/password/msisdn/requestToken", limit="login", spec=SPEC)
    async def phone_for_password(self, caller: Anyone, body: PhoneBody) -> dict[str, object]:
        return await self._phone(RESET, body)

    async def _phone(self, purpose: int, body: PhoneBody) -> dict[str, object]:
        _check_secret(body.client_secret)
        raise await self._contacts.ask_by_phone(purpose, body.phone_number, body.id_server)


def _check_secret(secret: str) -> None:
    if not CLIENT_SECRET.fullmatch(secret):
        raise invalid_param("client_secret must be 1 to 255 characters of 0-9 a-z A-Z . = _ -")
