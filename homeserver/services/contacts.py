# SPDX-License-Identifier: Apache-2.0
"""How an e-mail address gets to an account: a mail asks whoever reads it, and only then it counts."""

from collections.abc import Mapping

import attrs

from homeserver.protocol.errors import MatrixError, bad_json, invalid_param, missing_param
from homeserver.runtime import Runtime
from homeserver.services.credentials import FailureLimits
from homeserver.services.database import Database
from homeserver.services.mail import Letter, Mailer, MailFailed
from storage import threepids, validations
from storage.threepids import Threepid
from storage.tokens import digest
from storage.validations import ADD, REGISTER, RESET, Validation

EMAIL = "email"
VALID_MS = 24 * 60 * 60 * 1000

LETTERS: Mapping[int, Letter] = {
    REGISTER: Letter(
        "Confirm your address for $server",
        "Somebody, hopefully you, wants to make an account on $server with this address.\n\n"
        "If it was you, confirm it. If not, do nothing.",
        "Confirm the address",
    ),
    ADD: Letter(
        "Confirm your address for $server",
        "Somebody, hopefully you, wants to add this address to an account on $server. It can then be used to reset the"
        " account's password.\n\nIf it was you, confirm it. If not, do nothing.",
        "Confirm the address",
    ),
    RESET: Letter(
        "Reset your password on $server",
        "Somebody, hopefully you, wants to set a new password for your account on $server.\n\n"
        "If it was you, confirm it. If not, do nothing: whoever asked can do nothing without you.",
        "Allow a new password",
    ),
}
TAKEN = Letter(
    "Your address on $server",
    "Somebody, hopefully you, wanted to use this address on $server, but an account there has it already.\n\n"
    "If you forgot the account's password, your app can reset it.",
)
UNKNOWN = Letter(
    "Your address on $server",
    "Somebody, hopefully you, wanted to reset a password on $server with this address, but no account there has it.",
)


@attrs.frozen
class Asked:
    """A client asks for a mail that proves an address."""

    purpose: int
    address: str
    secret: str
    attempt: int
    next_link: str | None = None
    id_server: str | None = None


class Contacts:
    """Addresses of accounts. Without a mailer none can be proven; phone numbers never can."""

    def __init__(
        self, database: Database, runtime: Runtime, limits: FailureLimits, base_url: str, mailer: Mailer | None
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._limits = limits
        self._base_url = base_url
        self._mailer = mailer

    @property
    def can_mail(self) -> bool:
        return self._mailer is not None

    async def of_user(self, usr: int) -> list[Threepid]:
        return await self._database.read(threepids.of_user, usr)

    async def remove(self, usr: int, medium: str, address: str) -> None:
        """Take an address off the account; one that is not there is no error."""
        await self._database.write(threepids.delete, usr, medium, canonical(medium, address))

    async def ask_by_phone(self, purpose: int, number: str, id_server: str | None) -> MatrixError:
        """The answer to who wants to prove a phone number, which nothing can do here."""
        return await self._refusal(purpose, "msisdn", canonical("msisdn", number), id_server)

    async def ask_by_mail(self, asked: Asked) -> str:
        """Send a mail with a link that proves the address; returns the proof's id.

        The same whether an account has the address or not: the mail says it, not the answer. Without a mailer raises
        the specification's errors.
        """
        address = canonical(EMAIL, asked.address)
        if self._mailer is None:
            raise await self._refusal(asked.purpose, EMAIL, address, asked.id_server)
        if asked.next_link is not None and not asked.next_link.startswith(("https://", "http://")):
            raise invalid_param("next_link must be an http or https address")
        self._limits.take("mail", address, self._runtime.monotonic())
        token, now = self._runtime.token(24), self._runtime.now_ms()
        wanted = Validation(
            self._runtime.token(18),
            asked.secret,
            asked.purpose,
            EMAIL,
            address,
            digest(token),
            asked.attempt,
            now,
            next_link=asked.next_link,
        )
        sid, due = await self._database.write(validations.begin, wanted, now - VALID_MS)
        if due:
            await self._mail(self._mailer, asked.purpose, address, sid, token)
        return sid

    async def _mail(self, mailer: Mailer, purpose: int, address: str, sid: str, token: str) -> None:
        owned = await self._database.point(threepids.owner, EMAIL, address) is not None
        try:
            if owned == (purpose == RESET):
                link = f"{self._base_url}/_parley/email/confirm?sid={sid}&token={token}"
                await mailer.send(LETTERS[purpose], address, link)
            else:
                await mailer.send(UNKNOWN if purpose == RESET else TAKEN, address)
        except MailFailed:
            await self._database.write(validations.delete, sid)  # so that the same attempt may be made again
            raise MatrixError(500, "M_UNKNOWN", "The mail could not be sent") from None

    async def _refusal(self, purpose: int, medium: str, address: str, id_server: str | None) -> MatrixError:
        if id_server is not None:
            return MatrixError(400, "M_SERVER_NOT_TRUSTED", "This server works with no identity server")
        owned = await self._database.point(threepids.owner, medium, address) is not None
        if purpose == RESET and not owned:
            return MatrixError(400, "M_THREEPID_NOT_FOUND", "No account has this address")
        if purpose != RESET and owned:
            return MatrixError(400, "M_THREEPID_IN_USE", "The address belongs to an account already")
        means = "mail" if medium == EMAIL else "text messages"
        return MatrixError(403, "M_THREEPID_DENIED", f"This server sends no {means}")

    async def confirm(self, sid: str, token: str) -> str | None:
        """Somebody follows the link of a mail; returns where the client wants them to go on.

        Raises M_TOKEN_INCORRECT for a link that is wrong or too old.
        """
        now = self._runtime.now_ms()
        found = await self._database.write(validations.confirm, sid, digest(token), now, now - VALID_MS)
        if found is None:
            raise MatrixError(400, "M_TOKEN_INCORRECT", "This link is wrong or too old")
        return found.next_link

    async def proven(self, purposes: tuple[int, ...], credentials: object) -> Validation:
        """The proof that "threepid_creds" name, once its link was followed; raises M_UNAUTHORIZED or M_THREEPID_…"""
        if not isinstance(credentials, Mapping):
            raise bad_json("threepid_creds must be an object")
        sid, secret = credentials.get("sid"), credentials.get("client_secret")
        if not isinstance(sid, str) or not isinstance(secret, str):
            raise missing_param("sid and client_secret must be strings")
        found = await self._database.point(validations.find, sid)
        fresh = self._runtime.now_ms() - VALID_MS
        good = found is not None and found.secret == secret and found.purpose in purposes and found.created >= fresh
        if found is None or not good or found.validated is None:
            raise MatrixError(403, "M_THREEPID_AUTH_FAILED", "The address is not proven")
        return found

    async def owner(self, proof: Validation) -> int | None:
        return await self._database.point(threepids.owner, proof.medium, proof.address)

    async def add(self, usr: int, proof: Validation) -> None:
        """Give an account a proven address; raises M_THREEPID_IN_USE when another has it."""
        if not await self._database.write(threepids.add_proven, usr, proof, self._runtime.now_ms()):
            raise MatrixError(400, "M_THREEPID_IN_USE", "The address belongs to an account already")


def canonical(medium: str, address: str) -> str:
    """The form an address is kept in; raises M_INVALID_PARAM for what cannot be one."""
    if medium == EMAIL:
        local, at, domain = address.rpartition("@")
        printable = all(c.isprintable() and not c.isspace() and c not in '<>,;:"()[]\\' for c in address)
        if not local or not at or not domain or "@" in local or not printable or len(address) > 254:
            raise invalid_param("This is not an e-mail address")
        return address.casefold()
    digits = "".join(c for c in address if c.isascii() and c.isdigit())
    if not 3 <= len(digits) <= 15:
        raise invalid_param("This is not a phone number")
    return digits
