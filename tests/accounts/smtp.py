# SPDX-License-Identifier: Apache-2.0
"""A mail server of the test's own, on a real socket."""

import email
import email.policy
from email.message import EmailMessage
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import defer, reactor, ssl, task
from twisted.mail import imap4, smtp
from zope.interface import implementer


@implementer(smtp.IMessage)
class _Incoming:
    def __init__(self, server: "MailServer") -> None:
        self._server = server
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        self._lines.append(line)

    def eomReceived(self) -> Any:  # noqa: N802
        parsed = email.message_from_bytes(b"\n".join(self._lines), policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self._server.taken.append(parsed)
        return defer.succeed(None)

    def connectionLost(self) -> None:  # noqa: N802
        """What was not finished is no mail."""


@implementer(smtp.IMessageDelivery)
class _Delivery:
    def __init__(self, server: "MailServer") -> None:
        self._server = server

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:  # noqa: N802
        return b"Received: by the test"

    def validateFrom(self, helo: Any, origin: Any) -> Any:  # noqa: N802
        return origin

    def validateTo(self, user: Any) -> Any:  # noqa: N802
        if str(user.dest) in self._server.refused:
            raise smtp.SMTPBadRcpt(user)
        return lambda: _Incoming(self._server)


@implementer(IRealm)
class _Realm:
    def __init__(self, server: "MailServer") -> None:
        self._server = server

    def requestAvatar(self, who: Any, mind: Any, *interfaces: Any) -> Any:  # noqa: N802
        return smtp.IMessageDelivery, _Delivery(self._server), lambda: None


class _Connection(smtp.ESMTP):
    def connectionMade(self) -> None:  # noqa: N802
        self.factory.server.open.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        self.factory.server.open.discard(self)
        super().connectionLost(reason)


class _Factory(smtp.SMTPFactory):
    protocol = _Connection
    noisy = False

    def __init__(self, server: "MailServer") -> None:
        users = InMemoryUsernamePasswordDatabaseDontUse()
        users.addUser(b"parley", b"sesame")
        super().__init__(Portal(_Realm(server), [users]))
        self.server = server

    def buildProtocol(self, address: Any) -> Any:  # noqa: N802
        built = super().buildProtocol(address)
        built.challengers = {b"PLAIN": imap4.PLAINCredentials, b"LOGIN": imap4.LOGINCredentials}
        built.ctx = self.server.context
        if self.server.context is None:
            built.delivery = _Delivery(self.server)
        return built


class MailServer:
    """Listens on a free port of 127.0.0.1; with a certificate it wants STARTTLS and the user parley with sesame."""

    def __init__(self, certificate: ssl.PrivateCertificate | None = None) -> None:
        self.taken: list[EmailMessage] = []
        self.refused: set[str] = set()
        self.open: set[object] = set()
        self.context = None if certificate is None else certificate.options()
        self.port: Any = reactor.listenTCP(0, _Factory(self), interface="127.0.0.1")  # type: ignore[attr-defined]

    @property
    def number(self) -> int:
        return int(self.port.getHost().port)

    async def stop(self) -> None:
        """Stop listening, and wait until those who are connected have said goodbye."""
        await defer.maybeDeferred(self.port.stopListening)
        for _ in range(500):
            await task.deferLater(reactor, 0.002, lambda: None)  # type: ignore[arg-type]
            if not self.open:
                break

    def text(self) -> str:
        """What the last mail says."""
        body = self.taken[-1].get_body(("plain",))
        assert body is not None
        return str(body.get_content())
