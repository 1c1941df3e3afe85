# SPDX-License-Identifier: Apache-2.0
"""How a mail leaves this server: built from a template, handed to the configured mail server."""

import io
import logging
from email.message import EmailMessage
from email.utils import formatdate
from html import escape
from string import Template
from typing import Any, cast

import attrs
from twisted.internet import defer
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from homeserver.config.model import Email
from homeserver.runtime import Runtime

TIMEOUT_S = 30

_log = logging.getLogger(__name__)

PAGE = Template(
    '<!doctype html><html><body style="font:16px sans-serif;max-width:34em;margin:2em auto;color:#222">'
    "$paragraphs</body></html>"
)
BUTTON = Template(
    '<p><a href="$link" style="background:#2457a6;color:#fff;padding:.6em 1.2em;text-decoration:none">$text</a></p>'
)


@attrs.frozen
class Letter:
    """A mail's template: `$server`, `$address` and `$link` are filled in; `button` is the text of the link, if any."""

    subject: str
    text: str
    button: str | None = None


class MailFailed(Exception):
    """The mail server could not be reached or did not take the mail."""


class Mailer:
    """Sends mails, one connection each; never on behalf of somebody else's address."""

    def __init__(self, runtime: Runtime, settings: Email, server_name: str) -> None:
        self._runtime = runtime
        self._settings = settings
        self._server_name = server_name

    async def send(self, letter: Letter, address: str, link: str | None = None) -> None:
        """Hand a letter to the mail server; raises MailFailed."""
        from twisted.mail.smtp import ESMTPSenderFactory  # takes a while to import

        smtp = self._settings.smtp
        content = build(letter, self._settings.sender, address, self._server_name, link, self._runtime.now_ms() / 1000)
        done: defer.Deferred[Any] = defer.Deferred()
        tls = self._tls()
        factory = cast(Any, ESMTPSenderFactory)(
            None if smtp.user is None else smtp.user.encode(),
            None if smtp.password is None else smtp.password.encode(),
            self._settings.sender.encode(),
            [address.encode()],
            io.BytesIO(content),
            done,
            retries=0,
            timeout=TIMEOUT_S,
            contextFactory=tls if smtp.tls == "starttls" else None,
            requireAuthentication=smtp.user is not None,
            requireTransportSecurity=smtp.tls == "starttls",
            hostname=smtp.host,
        )
        reactor: Any = self._runtime.reactor
        try:
            # Not through an endpoint: the factory must hear of a connection that breaks.
            if smtp.tls == "tls":
                reactor.connectSSL(smtp.host, smtp.port, factory, tls, timeout=TIMEOUT_S)
            else:
                reactor.connectTCP(smtp.host, smtp.port, factory, timeout=TIMEOUT_S)
            await done.addTimeout(4 * TIMEOUT_S, reactor)
        except Exception as error:
            _log.error("the mail server %s:%d did not take a mail: %s", smtp.host, smtp.port, _said(error))
            raise MailFailed from None

    def _tls(self) -> Any:
        smtp = self._settings.smtp
        trusted = None
        if smtp.ca_file is not None:
            trusted = cast(Any, trustRootFromCertificates)([Certificate.loadPEM(smtp.ca_file.read_bytes())])
        return optionsForClientTLS(smtp.host, trustRoot=trusted)


def _said(error: Exception) -> str:
    """What went wrong, without the conversation: that holds the password."""
    code, answer = getattr(error, "code", None), getattr(error, "resp", b"")
    if code is None or code < 0:
        return f"{type(error).__name__}: {answer.decode(errors='replace') if answer else error}"[:300]
    return f"{code} {answer.decode(errors='replace') if isinstance(answer, bytes) else answer}"[:300]


def build(letter: Letter, sender: str, address: str, server_name: str, link: str | None, now: float) -> bytes:
    """The mail's bytes, with lines that end as the sender of Twisted wants them."""
    filled = {"server": server_name, "address": address, "link": link or ""}
    text = Template(letter.text).substitute(filled)
    message = EmailMessage()
    message["Subject"] = Template(letter.subject).substitute(filled)
    message["From"] = sender
    message["To"] = address
    message["Date"] = formatdate(now)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text if link is None else f"{text}\n\n{link}\n")
    paragraphs = "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))
    if link is not None and letter.button is not None:
        paragraphs += BUTTON.substitute(link=escape(link), text=escape(letter.button))
    message.add_alternative(PAGE.substitute(paragraphs=paragraphs), subtype="html")
    return message.as_bytes()
