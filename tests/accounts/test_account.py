# SPDX-License-Identifier: Apache-2.0
"""Changing and closing one's account, and proving who one is while doing so."""

from typing import Any

from storage import accounts, threepids
from tests.harness.server import PASSWORD, HomeserverCase, Reply, Session

WHOAMI = "/_matrix/client/v3/account/whoami"
PASSWORD_PATH = "/_matrix/client/v3/account/password"
DEACTIVATE = "/_matrix/client/v3/account/deactivate"
LOGIN = "/_matrix/client/v3/login"


class AccountCase(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice = await self.register("alice")

    def proof(self, session: str | None = None, user: str = "alice", password: str = PASSWORD) -> dict[str, object]:
        auth: dict[str, object] = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
        }
        return auth if session is None else {**auth, "session": session}

    async def status(self, who: Session) -> int:
        return (await self.request("GET", WHOAMI, token=who)).status

    async def sign_in(self, password: str = PASSWORD) -> Reply:
        body = {"type": "m.login.password", "user": "alice", "password": password}
        return await self.request("POST", LOGIN, body)


class PasswordTests(AccountCase):
    async def change(self, token: Session | None, **body: Any) -> Reply:
        return await self.request("POST", PASSWORD_PATH, {"new_password": "another one", **body}, token)

    async def test_a_change_needs_the_old_password(self) -> None:
        first = await self.change(self.alice)
        self.assertEqual((first.status, first.json["flows"]), (401, [{"stages": ["m.login.password"]}]))
        session = first.json["session"]
        wrong = await self.change(self.alice, auth=self.proof(session, password="wrong"))
        self.assertEqual((wrong.status, wrong.json["errcode"], wrong.json["session"]), (401, "M_FORBIDDEN", session))
        self.assertEqual((await self.sign_in("another one")).status, 403)
        self.assertEqual((await self.change(self.alice, auth=self.proof(session))).status, 200)
        self.assertEqual((await self.sign_in("another one")).status, 200)
        self.assertEqual((await self.sign_in()).status, 403)

    async def test_other_devices_are_signed_out_unless_told_otherwise(self) -> None:
        other = await self.login("alice")
        self.assertEqual((await self.change(self.alice, auth=self.proof(), logout_devices=False)).status, 200)
        self.assertEqual((await self.status(self.alice), await self.status(other)), (200, 200))
        again = self.proof(password="another one")
        self.assertEqual((await self.change(self.alice, auth=again)).status, 200)
        self.assertEqual((await self.status(self.alice), await self.status(other)), (200, 401))

    async def test_without_a_token_the_password_says_whose_it_is(self) -> None:
        self.assertEqual((await self.change(None)).status, 401)
        self.assertEqual((await self.change(None, auth=self.proof())).status, 200)
        self.assertEqual(await self.status(self.alice), 401)
        self.assertEqual((await self.sign_in("another one")).status, 200)

    async def test_somebody_elses_password_proves_nothing(self) -> None:
        await self.register("bob")
        reply = await self.change(self.alice, auth=self.proof(user="bob"))
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_wrong_bodies(self) -> None:
        for body in ({}, {"new_password": 5}, {"new_password": "a", "logout_devices": "no"}, {"new_password": None}):
            reply = await self.request("POST", PASSWORD_PATH, {**body, "auth": self.proof()}, self.alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"), body)
        reply = await self.change(self.alice, new_password="", auth=self.proof())
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_WEAK_PASSWORD"))
        self.assertEqual((await self.sign_in()).status, 200)


class InteractiveTests(AccountCase):
    """User-interactive authentication, seen at a password change."""

    async def ask(self, auth: object, path: str = PASSWORD_PATH, token: Session | None = None) -> Reply:
        body = {"new_password": "x", "auth": auth}
        return await self.request("POST", path, body, token or self.alice)

    async def test_a_session_belongs_to_one_operation_and_one_account(self) -> None:
        session = (await self.ask(None)).json["session"]
        bob = await self.register("bob")
        reply = await self.ask(self.proof(session, "bob"), token=bob)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        reply = await self.ask(self.proof(session), path=DEACTIVATE)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual(await self.status(self.alice), 200)

    async def test_a_session_outlives_a_restart(self) -> None:
        session = (await self.ask(None)).json["session"]
        await self.restart_server()
        reply = await self.ask({"session": session})
        self.assertEqual((reply.status, reply.json["session"]), (401, session))
        self.assertEqual((await self.ask(self.proof(session))).status, 200)

    async def test_an_old_or_unknown_session_is_replaced(self) -> None:
        session = (await self.ask(None)).json["session"]
        self.clock.advance(31 * 60)
        for old in (session, "unknown"):
            reply = await self.ask({"session": old})
            self.assertEqual(reply.status, 401)
            self.assertNotEqual(reply.json["session"], old)

    async def test_a_finished_session_does_nothing_more(self) -> None:
        session = (await self.ask(None)).json["session"]
        self.assertEqual((await self.ask(self.proof(session))).status, 200)
        self.assertEqual((await self.ask({"session": session})).status, 401)

    async def test_stages_that_are_not_offered(self) -> None:
        reply = await self.ask({"type": "m.login.dummy"})
        self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_UNRECOGNIZED"))
        reply = await self.ask({"session": 5, "type": "m.login.password"})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        reply = await self.ask({})
        self.assertEqual(reply.status, 401)


class DeactivationTests(AccountCase):
    async def close(self, **body: Any) -> Reply:
        return await self.request("POST", DEACTIVATE, {"auth": self.proof(), **body}, self.alice)

    async def test_nothing_opens_a_closed_account(self) -> None:
        await self.request(
            "PUT", "/_matrix/client/v3/profile/@alice:parley.test/displayname", {"displayname": "A"}, self.alice
        )
        other = await self.login("alice")
        reply = await self.close()
        self.assertEqual((reply.status, reply.json), (200, {"id_server_unbind_result": "success"}))
        for session in (self.alice, other):
            self.assertEqual(await self.status(session), 401)
        self.assertEqual((await self.sign_in()).json["errcode"], "M_USER_DEACTIVATED")
        taken = await self.request("GET", "/_matrix/client/v3/register/available", query={"username": "alice"})
        self.assertEqual(taken.json["errcode"], "M_USER_IN_USE")
        profile = await self.request("GET", "/_matrix/client/v3/profile/@alice:parley.test")
        self.assertEqual(profile.status, 404)

    async def test_erasure_is_remembered(self) -> None:
        self.assertEqual((await self.close(erase=True)).status, 200)
        db = self.app.base.db
        account = await db.read(accounts.find, self.alice.user_id)
        self.assertEqual(await db.read(accounts.erased, [account.usr, account.usr + 1]), {account.usr})

    async def test_without_a_token(self) -> None:
        self.assertEqual((await self.request("POST", DEACTIVATE, {})).status, 401)
        reply = await self.request("POST", DEACTIVATE, {"auth": self.proof()})
        self.assertEqual(reply.status, 200)
        self.assertEqual(await self.status(self.alice), 401)

    async def test_it_needs_proof(self) -> None:
        for auth in (None, self.proof(password="wrong")):
            reply = await self.request("POST", DEACTIVATE, {"auth": auth}, self.alice)
            self.assertEqual(reply.status, 401)
        reply = await self.request("POST", DEACTIVATE, {"erase": "yes"}, self.alice)
        self.assertEqual(reply.json["errcode"], "M_BAD_JSON")
        self.assertEqual(await self.status(self.alice), 200)


class ContactTests(AccountCase):
    async def setUp(self) -> None:
        await super().setUp()
        usr = (await self.app.base.db.read(accounts.find, self.alice.user_id)).usr
        await self.app.base.db.write(threepids.add, usr, threepids.Threepid("email", "a@b.c", 7, 8))

    async def post(self, path: str, body: object, token: Session | None = None) -> Reply:
        return await self.request("POST", f"/_matrix/client/v3/{path}", body, token)

    async def test_addresses_are_listed_and_removed(self) -> None:
        listed = await self.request("GET", "/_matrix/client/v3/account/3pid", token=self.alice, expect=200)
        shown = {"medium": "email", "address": "a@b.c", "validated_at": 7, "added_at": 8}
        self.assertEqual(listed.json, {"threepids": [shown]})
        bob = await self.register("bob")
        address = {"medium": "email", "address": "A@b.c"}
        for who, left in ((bob, 1), (self.alice, 0), (self.alice, 0)):
            reply = await self.post("account/3pid/delete", address, who)
            self.assertEqual((reply.status, reply.json), (200, {"id_server_unbind_result": "no-support"}))
            listed = await self.request("GET", "/_matrix/client/v3/account/3pid", token=self.alice)
            self.assertEqual(len(listed.json["threepids"]), left)
        reply = await self.post("account/3pid/unbind", address, self.alice)
        self.assertEqual(reply.json, {"id_server_unbind_result": "no-support"})
        for wrong in ({"medium": "pigeon", "address": "a"}, {"medium": "email"}, {}):
            reply = await self.post("account/3pid/delete", wrong, self.alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))

    async def test_nothing_can_be_added_without_a_provider(self) -> None:
        creds = {"client_secret": "s", "sid": "1", "id_server": "x", "id_access_token": "y"}
        reply = await self.post("account/3pid", {"three_pid_creds": creds}, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_THREEPID_AUTH_FAILED"))
        reply = await self.post("account/3pid/add", {"client_secret": "s", "sid": "1"}, self.alice)
        self.assertEqual((reply.status, "flows" in reply.json), (401, True))
        body = {"client_secret": "s", "sid": "1", "auth": self.proof()}
        reply = await self.post("account/3pid/add", body, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_THREEPID_AUTH_FAILED"))
        reply = await self.post("account/3pid/bind", creds, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_SERVER_NOT_TRUSTED"))
        for path in ("account/3pid", "account/3pid/add", "account/3pid/bind"):
            self.assertEqual((await self.post(path, {}, self.alice)).status, 400)
            self.assertEqual((await self.post(path, {})).status, 401)

    async def test_tokens_for_addresses(self) -> None:
        secret = {"client_secret": "s", "send_attempt": 1}
        used, free = {**secret, "email": "a@b.c"}, {**secret, "email": "x@y.z"}
        phone = {**secret, "country": "DE", "phone_number": "0151 1234567"}
        for path, body, status, errcode in (
            ("register/email/requestToken", used, 400, "M_THREEPID_IN_USE"),
            ("register/email/requestToken", free, 403, "M_THREEPID_DENIED"),
            ("account/3pid/email/requestToken", used, 400, "M_THREEPID_IN_USE"),
            ("account/3pid/email/requestToken", free, 403, "M_THREEPID_DENIED"),
            ("account/password/email/requestToken", used, 403, "M_THREEPID_DENIED"),
            ("account/password/email/requestToken", free, 400, "M_THREEPID_NOT_FOUND"),
            ("register/msisdn/requestToken", phone, 403, "M_THREEPID_DENIED"),
            ("account/3pid/msisdn/requestToken", phone, 403, "M_THREEPID_DENIED"),
            ("account/password/msisdn/requestToken", phone, 400, "M_THREEPID_NOT_FOUND"),
            ("register/email/requestToken", {**free, "id_server": "x"}, 400, "M_SERVER_NOT_TRUSTED"),
            ("register/email/requestToken", {**free, "client_secret": "a b"}, 400, "M_INVALID_PARAM"),
            ("register/email/requestToken", {**free, "email": "nobody"}, 400, "M_INVALID_PARAM"),
            ("register/email/requestToken", {**free, "send_attempt": "one"}, 400, "M_BAD_JSON"),
            ("register/msisdn/requestToken", {**phone, "phone_number": "x"}, 400, "M_INVALID_PARAM"),
        ):
            reply = await self.post(path, body)
            self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), path)
