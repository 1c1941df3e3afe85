# SPDX-License-Identifier: Apache-2.0
"""How a request proves, in stages, that the person behind it may do something sensitive."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import orjson

from homeserver.protocol.canonical_json import encode
from homeserver.protocol.errors import MatrixError, bad_json, forbidden, missing_param, not_found
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.contacts import Contacts
from homeserver.services.credentials import Credentials
from homeserver.services.database import Database
from storage import registration_tokens, uia_sessions
from storage.tokens import digest
from storage.validations import REGISTER, RESET

PASSWORD = "m.login.password"
DUMMY = "m.login.dummy"
REGISTRATION_TOKEN = "m.login.registration_token"
EMAIL = "m.login.email.identity"
SESSION_MS = 30 * 60 * 1000

Flow = Sequence[str]


@attrs.frozen
class UiaResult:
    """A completed flow: what each stage proved, and the stored session, if there is one, for the caller to end."""

    session: str | None
    completed: Mapping[str, object]

    @property
    def user_id(self) -> str | None:
        """Who the password stage says it is."""
        value = self.completed.get(PASSWORD)
        return value if isinstance(value, str) else None

    @property
    def address_proof(self) -> Mapping[str, object] | None:
        """The credentials of a proven address, for `Contacts.proven`."""
        value = self.completed.get(EMAIL)
        return value if isinstance(value, dict) else None

    @property
    def registration_token(self) -> str | None:
        value = self.completed.get(REGISTRATION_TOKEN)
        return value if isinstance(value, str) else None


@attrs.frozen
class Attempt:
    """A session as this request continues it; not yet stored when `stored` is False."""

    session: str
    stored: bool
    completed: dict[str, object]


class SomebodyElse(MatrixError):
    """The credentials are right, but not those of the caller: trying again is no use."""


class InteractiveAuth:
    """User-interactive authentication. Sessions are stored, and bound to one operation and one account."""

    def __init__(self, database: Database, runtime: Runtime, credentials: Credentials, contacts: Contacts) -> None:
        self._database = database
        self._runtime = runtime
        self._credentials = credentials
        self._contacts = contacts
        self._stages: Mapping[str, Callable[[int, Mapping[str, object]], Awaitable[object]]] = {
            DUMMY: self._dummy,
            PASSWORD: self._password,
            REGISTRATION_TOKEN: self._registration_token,
            EMAIL: self._email,
        }

    async def flows_for(self, user: User) -> list[Flow]:
        """How this account can prove who it is: its password; without one the access token is all there is."""
        return [[PASSWORD]] if await self._credentials.has_password(user.usr) else [[DUMMY]]

    async def require(
        self,
        caller: User | None,
        auth: object,
        operation: Mapping[str, object],
        flows: Sequence[Flow] | None = None,
        ip: str = "",
        *,
        params: Mapping[str, object] | None = None,
    ) -> UiaResult:
        """Return when a flow is complete, else raise the 401 that says what is missing.

        `auth` is the body's "auth"; `operation` is what the session is bound to (name the endpoint, and of the body
        what must not change meanwhile). `flows` defaults to those of the caller. Application services, which have no
        password to give, pass.
        """
        if caller is not None and caller.appservice_id is not None:
            return UiaResult(None, {})
        if flows is None:
            assert caller is not None
            flows = await self.flows_for(caller)
        if auth is not None and not isinstance(auth, dict):
            raise bad_json("auth must be an object")
        bound = digest(encode(dict(operation)).decode()).hex()
        usr = 0 if caller is None else caller.usr
        attempt = await self._attempt(auth, bound, usr)
        error: MatrixError | None = None
        if auth and "type" in auth:
            error = await self._take_stage(usr, auth, attempt, flows)
        if error is None and any(set(flow) <= attempt.completed.keys() for flow in flows) and auth:
            return UiaResult(attempt.session if attempt.stored else None, attempt.completed)
        await self._keep(attempt, bound, usr, params)
        raise _unauthorized(attempt, flows, params, error)

    async def finish(self, result: UiaResult) -> None:
        """End the session of a flow whose operation was done, so that it is done once."""
        if result.session is not None:
            await self._database.write(uia_sessions.delete, result.session)

    async def _attempt(self, auth: dict[str, object] | None, bound: str, usr: int) -> Attempt:
        session = auth.get("session") if auth else None
        if session is not None:
            if not isinstance(session, str):
                raise bad_json("auth.session must be a string")
            stored = await self._database.point(uia_sessions.find, session)
            fresh = self._runtime.now_ms() - SESSION_MS
            if stored is not None and stored.created >= fresh:
                if stored.operation != bound or stored.usr != usr:
                    raise forbidden("This authentication session belongs to another request")
                return Attempt(session, True, orjson.loads(stored.completed))
        return Attempt(self._runtime.token(18), False, {})

    async def _take_stage(
        self, usr: int, auth: dict[str, object], attempt: Attempt, flows: Sequence[Flow]
    ) -> MatrixError | None:
        stage = auth["type"]
        if not isinstance(stage, str):
            raise bad_json("auth.type must be a string")
        # "Completed stages cannot be retried by clients"
        if stage in attempt.completed:
            return None
        if not any(stage in flow for flow in flows):
            return MatrixError(401, "M_UNRECOGNIZED", f"{stage[:100]!r} is not a stage of this request")
        try:
            attempt.completed[stage] = await self._stages[stage](usr, auth)
        except SomebodyElse:
            raise
        except MatrixError as error:
            if error.status == 429:
                raise
            return error
        if attempt.stored:
            await self._database.write(uia_sessions.set_completed, attempt.session, orjson.dumps(attempt.completed))
        return None

    async def _keep(self, attempt: Attempt, bound: str, usr: int, params: Mapping[str, object] | None) -> None:
        if attempt.stored:
            return
        now = self._runtime.now_ms()
        session = uia_sessions.UiaSession(
            attempt.session, bound, usr, now, orjson.dumps(attempt.completed), orjson.dumps(params or {})
        )
        await self._database.write(uia_sessions.add, session, now - SESSION_MS)

    async def take_by_web(self, session: str, stage: str, given: Mapping[str, object]) -> None:
        """Complete a stage of a stored session from a web page.

        Raises M_NOT_FOUND for a session or stage that does not exist, and what the stage raises.
        """
        stored = await self._database.point(uia_sessions.find, session)
        fresh = self._runtime.now_ms() - SESSION_MS
        if stored is None or stored.created < fresh or stage not in self._stages:
            raise not_found("There is no such authentication session")
        completed = orjson.loads(stored.completed)
        if stage not in completed:
            completed[stage] = await self._stages[stage](stored.usr, given)
            await self._database.write(uia_sessions.set_completed, session, orjson.dumps(completed))

    async def _dummy(self, usr: int, auth: Mapping[str, object]) -> object:
        return True

    async def _password(self, usr: int, auth: Mapping[str, object]) -> object:
        account = await self._credentials.check(auth)
        if usr and account.usr != usr:
            raise SomebodyElse(403, "M_FORBIDDEN", "This is the password of another account")
        return account.user_id

    async def _email(self, usr: int, auth: Mapping[str, object]) -> object:
        credentials = auth.get("threepid_creds", auth.get("threepidCreds"))
        proof = await self._contacts.proven((REGISTER, RESET), credentials)
        return {"sid": proof.sid, "client_secret": proof.secret}

    async def _registration_token(self, usr: int, auth: Mapping[str, object]) -> object:
        token = auth.get("token")
        if not isinstance(token, str):
            raise missing_param("Missing registration token")
        found = await self._database.point(registration_tokens.find, token)
        if found is None or not found.valid(self._runtime.now_ms()):
            raise MatrixError(401, "M_UNAUTHORIZED", "Invalid registration token")
        return token


def _unauthorized(
    attempt: Attempt, flows: Sequence[Flow], params: Mapping[str, object] | None, error: MatrixError | None
) -> MatrixError:
    """The 401 with flows, session and params; with errcode and error only when a stage failed."""
    body: dict[str, object] = {
        "flows": [{"stages": list(flow)} for flow in flows],
        "params": dict(params or {}),
        "session": attempt.session,
    }
    if attempt.completed:
        body["completed"] = list(attempt.completed)
    if error is None:
        return InteractionRequired(body)
    return MatrixError(401, error.errcode, error.message, **body)


class InteractionRequired(MatrixError):
    """The 401 that asks for the next stage; it is no failure and so has no errcode."""

    def __init__(self, body: dict[str, object]) -> None:
        super().__init__(401, "M_FORBIDDEN", "Interactive authentication is required", **body)
        self.session = str(body["session"])

    def body(self) -> dict[str, object]:
        return dict(self.extra)
