# SPDX-License-Identifier: Apache-2.0
"""How a shop's backend signs its users in: a signed token says who they are, and what they are called."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from homeserver.config.model import JwtIssuer
from homeserver.protocol.errors import MatrixError, forbidden, missing_param
from homeserver.protocol.ids import MAX_ID_BYTES, parse_mxc
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from storage import accounts, profiles
from storage.accounts import Account, NewAccount
from storage.txn import Txn

if TYPE_CHECKING:
    from jwt import PyJWK

LEEWAY_S = 30
MAX_TOKEN = 8_192
MAX_NAME = 256
ROLE = "chat.parley.role"
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")


@attrs.frozen
class Claims:
    """What a token that can be trusted says."""

    user_id: str
    profile: Mapping[str, bytes]


class JwtLogin:
    """Accounts by signed token. The claims: `sub` (whose shop account), `exp`, and if wanted `name`, `avatar_url`
    (an mxc address) and `role`, which become the profile.
    """

    def __init__(self, server_name: str, issuers: Sequence[JwtIssuer], database: Database, runtime: Runtime) -> None:
        self._server_name = server_name
        self._issuers = issuers
        self._database = database
        self._runtime = runtime
        self._keys: dict[JwtIssuer, Callable[[Mapping[str, Any]], Any]] = {}

    async def account(self, body: Mapping[str, object], service: object) -> Account:
        """The account that the body's token is for, made when it is new; raises M_FORBIDDEN."""
        token = body.get("token")
        if not isinstance(token, str):
            raise missing_param("token must be a string")
        claims = self._read(token)
        known = await self._database.point(accounts.find, claims.user_id)
        stored = {} if known is None else await self._database.point(profiles.fields, known.usr)
        if known is not None and (known.deactivated or claims.profile.items() <= stored.items()):
            return known
        await self._database.write(_provide, NewAccount(claims.user_id, self._runtime.now_ms()), claims.profile)
        found = await self._database.point(accounts.find, claims.user_id)
        assert found is not None
        return found

    def _read(self, token: str) -> Claims:
        from jwt import InvalidTokenError  # takes a while to import

        if len(token) > MAX_TOKEN:
            raise forbidden("The token is too long")
        refusal = "no backend is configured"
        for issuer in self._issuers:
            try:
                return self._claims(issuer, self._verified(issuer, token))
            except InvalidTokenError as error:
                refusal = str(error)
        raise forbidden(f"The token is not valid: {refusal}")

    def _verified(self, issuer: JwtIssuer, token: str) -> Mapping[str, Any]:
        import jwt

        options: Any = {
            "require": ["exp", "sub"],
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": issuer.audience is not None,
        }
        if issuer not in self._keys:
            self._keys[issuer] = _key_finder(issuer)
        claims: Mapping[str, Any] = jwt.decode(
            token,
            self._keys[issuer](jwt.get_unverified_header(token)),
            algorithms=list(issuer.algorithms),
            audience=issuer.audience,
            issuer=issuer.issuer,
            options=options,
        )
        now = self._runtime.now_ms() / 1000
        # The library would read the system's clock.
        if _seconds(claims, "exp") <= now - LEEWAY_S:
            raise jwt.ExpiredSignatureError("it has expired")
        if "nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY_S:
            raise jwt.ImmatureSignatureError("it is not valid yet")
        return claims

    def _claims(self, issuer: JwtIssuer, claims: Mapping[str, Any]) -> Claims:
        user_id = f"@{issuer.prefix}{encoded(claims['sub'])}:{self._server_name}"
        if len(user_id) > MAX_ID_BYTES or not claims["sub"]:
            raise forbidden("The token's subject cannot be a user name")
        profile: dict[str, bytes] = {}
        name, avatar, role = claims.get("name"), claims.get("avatar_url"), claims.get("role")
        if isinstance(name, str) and 0 < len(name) <= MAX_NAME:
            profile["displayname"] = orjson.dumps(name)
        if isinstance(avatar, str) and _is_mxc(avatar):
            profile["avatar_url"] = orjson.dumps(avatar)
        if isinstance(role, str) and 0 < len(role) <= MAX_NAME:
            profile[ROLE] = orjson.dumps(role)
        return Claims(user_id, profile)


def encoded(subject: str) -> str:
    """Any text as the rest of a local part, each text as another one.

    https://spec.matrix.org/v1.19/appendices/#mapping-from-other-character-sets
    """
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02x}" for byte in subject.encode())


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    from jwt import DecodeError

    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(f"{name} is not a number")
    return float(value)


def _is_mxc(value: str) -> bool:
    try:
        parse_mxc(value)
    except MatrixError:
        return False
    return True


def _key_finder(issuer: JwtIssuer) -> Callable[[Mapping[str, Any]], Any]:
    """From a token's header to the key that its signature is checked with."""
    if issuer.secret is not None:
        return lambda header: issuer.secret
    if issuer.public_key_file is not None:
        pem = issuer.public_key_file.read_text()
        return lambda header: pem
    assert issuer.jwks_file is not None
    from jwt import DecodeError, PyJWKSet

    keys = PyJWKSet.from_json(issuer.jwks_file.read_text()).keys

    def find(header: Mapping[str, Any]) -> "PyJWK":
        wanted = [key for key in keys if key.key_id == header.get("kid")] or (keys if len(keys) == 1 else [])
        if not wanted:
            raise DecodeError("its key is not known")
        return wanted[0]

    return find


def _provide(txn: Txn, account: NewAccount, profile: Mapping[str, bytes]) -> None:
    """Make the account if it is new, and have its profile say what the token says."""
    known = accounts.find(txn, account.user_id)
    usr = known.usr if known is not None else accounts.create(txn, account)
    assert usr is not None
    stored = profiles.fields(txn, usr)
    for name, value in profile.items():
        if stored.get(name) != value:
            profiles.put(txn, usr, name, value)
