# SPDX-License-Identifier: Apache-2.0
"""The page of one's own account: who am I, changing the password, closing the account."""

import msgspec

from homeserver.http.endpoint import Call, MaybeUser, User, endpoint
from homeserver.protocol.errors import forbidden, guest_forbidden
from homeserver.services.accounts import Accounts
from homeserver.services.callers import user_locked
from homeserver.services.contacts import Contacts
from homeserver.services.passwords import Passwords
from homeserver.services.uia import EMAIL, PASSWORD, Flow, InteractiveAuth, UiaResult
from storage.accounts import Account
from storage.validations import RESET

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#legacy-account-management"


class PasswordBody(msgspec.Struct):
    new_password: str
    logout_devices: bool = True
    auth: dict[str, object] | None = None


class DeactivateBody(msgspec.Struct):
    auth: dict[str, object] | None = None
    id_server: str | None = None
    erase: bool = False


class AccountPage:
    def __init__(self, accounts: Accounts, uia: InteractiveAuth, passwords: Passwords, contacts: Contacts) -> None:
        self._accounts = accounts
        self._uia = uia
        self._passwords = passwords
        self._contacts = contacts

    @endpoint(
        "GET",
        "/_matrix/client/v3/account/whoami",
        guests=True,
        spec="https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami",
    )
    async def whoami(self, caller: User) -> dict[str, object]:
        answer: dict[str, object] = {"user_id": caller.user_id, "is_guest": caller.is_guest}
        if caller.device_id is not None:
            answer["device_id"] = caller.device_id
        return answer

    @endpoint("POST", "/_matrix/client/v3/account/password", limit="login", spec=SPEC)
    async def change_password(self, caller: MaybeUser, call: Call, body: PasswordBody) -> dict[str, object]:
        self._passwords.check_strength(body.new_password)
        result = await self._authenticate(
            caller.user, call, body.auth, {"endpoint": "password"}, self._contacts.can_mail
        )
        account = await self._meant(caller.user, result)
        await self._accounts.change_password(
            account.usr,
            body.new_password,
            keep_device=None if caller.user is None else caller.user.device_id,
            log_out=body.logout_devices,
        )
        await self._uia.finish(result)
        return {}

    @endpoint("POST", "/_matrix/client/v3/account/deactivate", limit="login", optional_body=True, spec=SPEC)
    async def deactivate(self, caller: MaybeUser, call: Call, body: DeactivateBody) -> dict[str, object]:
        result = await self._authenticate(caller.user, call, body.auth, {"endpoint": "deactivate"}, False)
        account = await self._meant(caller.user, result)
        await self._accounts.deactivate(account, erase=body.erase)
        await self._uia.finish(result)
        # No identity server ever learned of an address through this server.
        return {"id_server_unbind_result": "success"}

    async def _authenticate(
        self, caller: User | None, call: Call, auth: dict[str, object] | None, operation: dict[str, object], mail: bool
    ) -> UiaResult:
        if caller is not None and caller.is_guest:
            raise guest_forbidden()
        flows: list[Flow] | None = None
        if caller is None:
            flows = [[PASSWORD], [EMAIL]] if mail else [[PASSWORD]]
        return await self._uia.require(caller, auth, operation, flows, call.client_ip)

    async def _meant(self, caller: User | None, result: UiaResult) -> Account:
        """The account to change: the caller's, that of the password given, or that of the address proven."""
        user_id = result.user_id if caller is None else caller.user_id
        if caller is None and user_id is None and result.address_proof is not None:
            proof = await self._contacts.proven((RESET,), result.address_proof)
            user_id = await self._accounts.user_id(await self._contacts.owner(proof))
        if user_id is None:
            raise forbidden("Nobody was authenticated")
        account = await self._accounts.find_local(user_id)
        if account.locked:
            raise user_locked()
        return account
