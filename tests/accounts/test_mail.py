# SPDX-License-Identifier: Apache-2.0
"""E-mail addresses, proven by mails that a real mail server takes."""

import datetime
import ipaddress
import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import ssl

from tests.accounts.smtp import MailServer
from tests.harness.server import PASSWORD, HomeserverCase, Reply

V3 = "/_matrix/client/v3"
LINK = re.compile(r"https://parley\.test(/_parley/email/confirm\?sid=\S+)")


def certificate(name: str) -> tuple[ssl.PrivateCertificate, bytes]:
    """A certificate for localhost that is its own authority, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
            ),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ssl.PrivateCertificate.loadPEM(pem + secret), pem


class MailCase(HomeserverCase):
    more = ""

    async def setUp(self) -> None:
        self.mail = MailServer()
        self.addCleanup(self.mail.stop)
        smtp = f"{{host: 127.0.0.1, port: {self.mail.number}, tls: none}}"
        self.settings = f"email: {{sender: chat@parley.test, smtp: {smtp}}}\n{self.more}"
        await super().setUp()

    async def ask(self, purpose: str, address: str = "ann@example.org", **more: Any) -> Reply:
        body = {"client_secret": "secret", "email": address, "send_attempt": 1, **more}
        return await self.request("POST", f"{V3}/{purpose}/email/requestToken", body)

    def link(self) -> str:
        found = LINK.search(self.mail.text())
        assert found is not None, self.mail.text()
        return found[1]

    async def prove(self, purpose: str, address: str = "ann@example.org", **more: Any) -> dict[str, str]:
        reply = await self.ask(purpose, address, **more)
        self.assertEqual(reply.status, 200, reply.json)
        await self.request("GET", self.link(), expect=200)
        done = await self.request("POST", self.link())
        self.assertEqual(done.status, 200)
        return {"sid": reply.json["sid"], "client_secret": "secret"}

    async def with_address(self, name: str = "alice", address: str = "ann@example.org") -> Any:
        session = await self.register(name)
        creds = await self.prove("account/3pid", address)
        auth = {"type": "m.login.password", "user": name, "password": PASSWORD}
        reply = await self.request("POST", f"{V3}/account/3pid/add", {**creds, "auth": auth}, session)
        self.assertEqual(reply.status, 200, reply.json)
        return session


class AddressTests(MailCase):
    async def test_an_address_is_added_once_its_link_was_followed(self) -> None:
        alice = await self.with_address()
        listed = (await self.request("GET", f"{V3}/account/3pid", token=alice)).json["threepids"]
        self.assertEqual([(one["medium"], one["address"]) for one in listed], [("email", "ann@example.org")])
        body = {"type": "m.login.password", "password": PASSWORD}
        identifier = {"type": "m.id.thirdparty", "medium": "email", "address": "Ann@example.org"}
        self.assertEqual((await self.request("POST", f"{V3}/login", {**body, "identifier": identifier})).status, 200)
        mail = self.mail.taken[0]
        self.assertEqual((mail["From"], mail["To"]), ("chat@parley.test", "ann@example.org"))
        self.assertEqual({part.get_content_type() for part in mail.iter_parts()}, {"text/plain", "text/html"})

    async def test_an_address_is_added_in_the_old_way(self) -> None:
        alice = await self.register("alice")
        body = {"three_pid_creds": {**await self.prove("account/3pid"), "id_server": "x", "id_access_token": "x"}}
        wrong = {"three_pid_creds": {**body["three_pid_creds"], "client_secret": "other"}}
        refused = await self.request("POST", f"{V3}/account/3pid", wrong, alice)
        self.assertEqual((refused.status, refused.json["errcode"]), (403, "M_THREEPID_AUTH_FAILED"))
        await self.request("POST", f"{V3}/account/3pid", body, alice, expect=200)
        listed = (await self.request("GET", f"{V3}/account/3pid", token=alice)).json["threepids"]
        self.assertEqual([one["address"] for one in listed], ["ann@example.org"])

    async def test_looking_at_the_link_confirms_nothing(self) -> None:
        alice = await self.register("alice")
        sid = (await self.ask("account/3pid")).json["sid"]
        await self.request("GET", self.link(), expect=200)
        auth = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
        creds = {"sid": sid, "client_secret": "secret", "auth": auth}
        reply = await self.request("POST", f"{V3}/account/3pid/add", creds, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_THREEPID_AUTH_FAILED"))
        await self.request("POST", self.link(), expect=200)
        reply = await self.request("POST", f"{V3}/account/3pid/add", {**creds, "client_secret": "other"}, alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_THREEPID_AUTH_FAILED"))
        self.assertEqual((await self.request("POST", f"{V3}/account/3pid/add", creds, alice)).status, 200)

    async def test_an_attempt_is_mailed_once(self) -> None:
        first = (await self.ask("register")).json
        self.assertEqual((await self.ask("register")).json, first)
        self.assertEqual(len(self.mail.taken), 1)
        old = self.link()
        self.assertEqual((await self.ask("register", send_attempt=2)).json, first)
        self.assertEqual(len(self.mail.taken), 2)
        self.assertEqual((await self.request("POST", old)).status, 400)
        self.assertEqual((await self.request("POST", self.link())).status, 200)

    async def test_links_end(self) -> None:
        await self.ask("register")
        self.clock.advance(24 * 3600 + 1)
        self.assertEqual((await self.request("POST", self.link())).status, 400)
        for link in ("/_parley/email/confirm", "/_parley/email/confirm?sid=x&token=y"):
            self.assertEqual((await self.request("POST", link)).status, 400)

    async def test_only_the_mail_says_that_an_address_is_taken(self) -> None:
        await self.with_address()
        for purpose, address, said in (
            ("register", "ann@example.org", "has it already"),
            ("account/3pid", "ANN@example.org", "has it already"),
            ("account/password", "bob@example.org", "no account there has it"),
        ):
            reply = await self.ask(purpose, address, client_secret="other")
            self.assertEqual((reply.status, list(reply.json)), (200, ["sid"]))
            self.assertIn(said, " ".join(self.mail.text().split()))
            self.assertNotIn("_parley", self.mail.text())

    async def test_a_link_onward(self) -> None:
        await self.ask("register", next_link="https://app.example/?a=1&b=<x>")
        reply = await self.request("POST", self.link())
        self.assertIn(b'href="https://app.example/?a=1&amp;b=&lt;x&gt;"', reply.body)
        reply = await self.ask("register", "x@example.org", next_link="javascript:alert(1)")
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"))

    async def test_wrong_addresses(self) -> None:
        for address in ("ann", "ann@", "@example.org", "a b@example.org", "a@b\r\nBcc: x@y.z", "a@b,c@d.e", "<a@b.c>"):
            reply = await self.ask("register", address)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"), address)
        self.assertEqual(self.mail.taken, [])

    async def test_a_mail_server_that_refuses_or_is_away(self) -> None:
        self.mail.refused.add("ann@example.org")
        self.assertEqual((await self.ask("register")).status, 500)
        await self.mail.stop()
        self.assertEqual((await self.ask("register")).status, 500)

    async def test_the_capability(self) -> None:
        alice = await self.register("alice")
        shown = (await self.request("GET", f"{V3}/capabilities", token=alice)).json["capabilities"]
        self.assertEqual(shown["m.3pid_changes"], {"enabled": True})


class LimitedMailTests(MailCase):
    more = "rate_limits: {mail: {per_second: 0.01, burst: 2}, login: {per_second: 100, burst: 1000}}"

    async def test_an_address_is_not_flooded(self) -> None:
        statuses = [(await self.ask("register", send_attempt=n)).status for n in range(4)]
        self.assertEqual(statuses, [200, 200, 429, 429])
        self.assertEqual((await self.ask("register", "bob@example.org")).status, 200)


class RegistrationByMailTests(MailCase):
    async def test_flows(self) -> None:
        flows = (await self.request("POST", f"{V3}/register", {})).json["flows"]
        self.assertEqual(flows, [{"stages": ["m.login.email.identity"]}, {"stages": ["m.login.dummy"]}])

    async def test_an_account_with_a_proven_address(self) -> None:
        auth = {"type": "m.login.email.identity", "threepid_creds": await self.prove("register")}
        body = {"username": "ann", "password": PASSWORD, "auth": auth}
        made = await self.request("POST", f"{V3}/register", body)
        self.assertEqual(made.status, 200, made.json)
        listed = await self.request("GET", f"{V3}/account/3pid", token=made.json["access_token"])
        self.assertEqual(listed.json["threepids"][0]["address"], "ann@example.org")
        again = await self.request("POST", f"{V3}/register", {**body, "username": "ann2"})
        self.assertEqual(again.status, 401)

    async def test_proofs_that_are_none(self) -> None:
        other = await self.prove("account/3pid")
        unproven = {"sid": (await self.ask("register")).json["sid"], "client_secret": "secret"}
        for creds in (other, unproven, {"sid": "x", "client_secret": "y"}, {}, None, "x"):
            auth = {"type": "m.login.email.identity", "threepid_creds": creds}
            body = {"username": "ann", "password": PASSWORD, "auth": auth}
            self.assertEqual((await self.request("POST", f"{V3}/register", body)).status, 401, creds)


class RequiredMailTests(MailCase):
    more = "registration: {enabled: true, email_required: true, token_required: true}"

    async def test_flows(self) -> None:
        flows = (await self.request("POST", f"{V3}/register", {})).json["flows"]
        self.assertEqual(flows, [{"stages": ["m.login.registration_token", "m.login.email.identity"]}])


class ResetTests(MailCase):
    async def test_a_forgotten_password_is_replaced(self) -> None:
        alice = await self.with_address()
        path = f"{V3}/account/password"
        flows = (await self.request("POST", path, {"new_password": "a new one"})).json["flows"]
        self.assertEqual(flows, [{"stages": ["m.login.password"]}, {"stages": ["m.login.email.identity"]}])
        auth = {"type": "m.login.email.identity", "threepid_creds": await self.prove("account/password")}
        reply = await self.request("POST", path, {"new_password": "a new one", "auth": auth})
        self.assertEqual(reply.status, 200, reply.json)
        self.assertEqual((await self.request("GET", f"{V3}/account/whoami", token=alice)).status, 401)
        await self.login("alice", "a new one")

    async def test_proofs_for_something_else_reset_nothing(self) -> None:
        await self.with_address()
        for purpose in ("register", "account/3pid"):
            sid = (await self.ask(purpose, client_secret="secret2")).json["sid"]
            auth = {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": "secret2"}}
            reply = await self.request("POST", f"{V3}/account/password", {"new_password": "x", "auth": auth})
            self.assertEqual(reply.status, 401)
        first = {"type": "m.login.email.identity", "threepid_creds": await self.prove("register", "new@example.org")}
        reply = await self.request("POST", f"{V3}/account/password", {"new_password": "x", "auth": first})
        self.assertEqual(reply.status, 403)
        await self.login("alice")


class EncryptedMailTests(HomeserverCase):
    async def start(self, tls: str, password: str = "sesame", trusted: bool = True) -> Reply:
        made, pem = certificate("localhost")
        self.mail = MailServer(made)
        self.addCleanup(self.mail.stop)
        (self.folder / "ca.pem").write_bytes(pem if trusted else certificate("other")[1])
        smtp = f"host: localhost, port: {self.mail.number}, tls: {tls}, user: parley, password: {password}"
        smtp += ", ca_file: ca.pem"
        self.settings = f"email: {{sender: chat@parley.test, smtp: {{{smtp}}}}}"
        await self.restart_server()
        body = {"client_secret": "s", "email": "ann@example.org", "send_attempt": 1}
        return await self.request("POST", f"{V3}/register/email/requestToken", body)

    async def test_signed_in_over_starttls(self) -> None:
        self.assertEqual((await self.start("starttls")).status, 200)
        self.assertEqual(len(self.mail.taken), 1)

    async def test_a_wrong_password_or_certificate_sends_nothing(self) -> None:
        with self.assertLogs("homeserver", "INFO") as logged:
            self.assertEqual((await self.start("starttls", password="wrong")).status, 500)
        self.assertNotIn("d3Jvbmc=", " ".join(logged.output))
        self.assertEqual((await self.start("starttls", trusted=False)).status, 500)
        self.assertEqual(self.mail.taken, [])
