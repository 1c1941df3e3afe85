# SPDX-License-Identifier: Apache-2.0
"""Signing in, staying signed in and signing out."""

from typing import Any

import bcrypt

from storage import account_removal, accounts, sign_in, threepids
from tests.harness.server import EPOCH_MS, PASSWORD, HomeserverCase, Reply, Session

WHOAMI = "/_matrix/client/v3/account/whoami"
LOGIN = "/_matrix/client/v3/login"
GET_TOKEN = "/_matrix/client/v1/login/get_token"
REFRESH = "/_matrix/client/v3/refresh"


class LoginCase(HomeserverCase):
    async def post(self, **body: Any) -> Reply:
        return await self.request("POST", LOGIN, {"type": "m.login.password", "password": PASSWORD, **body})

    async def whoami(self, token: str | Session) -> Reply:
        return await self.request("GET", WHOAMI, token=token)


class LoginTests(LoginCase):
    async def test_somebody_who_registered_is_signed_in(self) -> None:
        alice = await self.register("alice")
        reply = await self.whoami(alice)
        self.assertEqual(reply.json, {"user_id": "@alice:parley.test", "device_id": alice.device_id, "is_guest": False})

    async def test_flows(self) -> None:
        reply = await self.request("GET", LOGIN, expect=200)
        types = [flow["type"] for flow in reply.json["flows"]]
        self.assertEqual(types, ["m.login.password", "m.login.token", "m.login.application_service"])

    async def test_every_way_to_name_an_account(self) -> None:
        alice = await self.register("alice")
        usr = (await self.app.base.db.read(accounts.find, alice.user_id)).usr
        for address in (threepids.Threepid("email", "a@b.c", 1, 1), threepids.Threepid("msisdn", "491511234", 1, 1)):
            self.assertTrue(await self.app.base.db.write(threepids.add, usr, address))
        for named in (
            {"identifier": {"type": "m.id.user", "user": "alice"}},
            {"identifier": {"type": "m.id.user", "user": "Alice"}},
            {"identifier": {"type": "m.id.user", "user": "@alice:parley.test"}},
            {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "A@b.c"}},
            {"identifier": {"medium": "email", "address": "a@b.c"}},
            {"identifier": {"type": "m.id.phone", "country": "DE", "phone": "+49 151 1234"}},
            {"user": "alice"},
            {"medium": "email", "address": "a@b.c"},
        ):
            reply = await self.post(**named)
            self.assertEqual((reply.status, reply.json.get("user_id")), (200, alice.user_id), named)

    async def test_wrong_names_and_passwords(self) -> None:
        await self.register("alice")
        user = {"type": "m.id.user", "user": "alice"}
        for status, errcode, body in (
            (403, "M_FORBIDDEN", {"identifier": user, "password": "wrong"}),
            (403, "M_FORBIDDEN", {"identifier": user, "password": ""}),
            (403, "M_FORBIDDEN", {"identifier": {"type": "m.id.user", "user": "nobody"}}),
            (403, "M_FORBIDDEN", {"identifier": {"type": "m.id.user", "user": "@alice:elsewhere"}}),
            (403, "M_FORBIDDEN", {"identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "x@y.z"}}),
            (400, "M_MISSING_PARAM", {"identifier": user, "password": None}),
            (400, "M_MISSING_PARAM", {"identifier": {"type": "m.id.user"}}),
            (400, "M_MISSING_PARAM", {}),
            (400, "M_BAD_JSON", {"identifier": "alice"}),
            (400, "M_UNKNOWN", {"identifier": {"type": "m.id.moon"}}),
            (400, "M_UNKNOWN", {"identifier": user, "type": "m.login.moon"}),
            (400, "M_MISSING_PARAM", {"identifier": user, "type": 1}),
            (400, "M_INVALID_PARAM", {"identifier": user, "device_id": ""}),
            (400, "M_INVALID_PARAM", {"identifier": user, "initial_device_display_name": 5}),
            (400, "M_TOO_LARGE", {"identifier": user, "initial_device_display_name": "n" * 101}),
        ):
            reply = await self.post(**body)
            self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), body)

    async def test_a_stale_token_does_not_hinder_signing_in(self) -> None:
        await self.register("alice")
        body = {"type": "m.login.password", "password": PASSWORD, "user": "alice"}
        await self.request("POST", LOGIN, body, "stale", expect=200)

    async def test_signing_in_on_a_known_device_ends_its_tokens_only(self) -> None:
        first = await self.register("alice", device_id="PHONE")
        other = await self.login("alice", device_id="TABLET")
        second = await self.login("alice", device_id="PHONE")
        self.assertEqual((await self.whoami(first)).status, 401)
        self.assertEqual((await self.whoami(second)).status, 200)
        self.assertEqual((await self.whoami(other)).status, 200)
        devices = await self.request("GET", "/_matrix/client/v3/devices", token=second, expect=200)
        self.assertEqual(sorted(d["device_id"] for d in devices.json["devices"]), ["PHONE", "TABLET"])

    async def test_an_imported_password_works_and_is_hashed_anew(self) -> None:
        alice = await self.register("alice")
        account = await self.app.base.db.read(accounts.find, alice.user_id)
        imported = bcrypt.hashpw(b"old password", bcrypt.gensalt(4)).decode()
        await self.app.base.db.write(accounts.set_password, account.usr, imported)
        self.assertEqual((await self.post(user="alice", password="old passwor")).status, 403)
        self.assertEqual((await self.post(user="alice", password="old password")).status, 200)
        account = await self.app.base.db.read(accounts.find, alice.user_id)
        self.assertTrue(account.password.startswith("$argon2id$"))
        self.assertEqual((await self.post(user="alice", password="old password")).status, 200)

    async def test_an_account_that_is_closed_while_somebody_signs_in_stays_closed(self) -> None:
        alice = await self.register("alice")
        signing_in = self.begin("POST", LOGIN, {"type": "m.login.password", "user": "alice", "password": PASSWORD})
        usr = (await self.app.base.db.read(accounts.find, alice.user_id)).usr
        await self.app.base.db.write(account_removal.close, usr, False)
        reply = await signing_in
        if reply.status == 200:  # it came before the closing, which then ended it
            reply = await self.whoami(reply.json["access_token"])
        self.assertIn(reply.json["errcode"], ("M_USER_DEACTIVATED", "M_UNKNOWN_TOKEN"))
        session = sign_in.NewSession("LATE", None, sign_in.NewTokens(b"hash", 0))
        self.assertIsNone(await self.app.base.db.write(sign_in.start, usr, session))

    async def test_only_services_sign_in_as_services(self) -> None:
        alice = await self.register("alice")
        body = {"type": "m.login.application_service", "user": "alice"}
        self.assertEqual((await self.request("POST", LOGIN, body)).json["errcode"], "M_MISSING_TOKEN")
        for token in ("x", alice):
            reply = await self.request("POST", LOGIN, body, token)
            self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_UNKNOWN_TOKEN"))

    async def test_tokens(self) -> None:
        reply = await self.request("GET", WHOAMI)
        self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_MISSING_TOKEN"))
        reply = await self.whoami("nonsense")
        self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_UNKNOWN_TOKEN"))
        alice = await self.register("alice")
        await self.restart_server()
        self.assertEqual((await self.whoami(alice)).status, 200)


class LogoutTests(LoginCase):
    async def test_logout_ends_the_device(self) -> None:
        alice, tablet = await self.register("alice"), await self.login("alice")
        await self.request("POST", "/_matrix/client/v3/logout", token=alice, expect=200)
        self.assertEqual((await self.whoami(alice)).json["errcode"], "M_UNKNOWN_TOKEN")
        devices = await self.request("GET", "/_matrix/client/v3/devices", token=tablet, expect=200)
        self.assertEqual([d["device_id"] for d in devices.json["devices"]], [tablet.device_id])

    async def test_logout_of_all_devices(self) -> None:
        alice, tablet, bob = await self.register("alice"), await self.login("alice"), await self.register("bob")
        await self.request("POST", "/_matrix/client/v3/logout/all", token=alice, expect=200)
        for session, status in ((alice, 401), (tablet, 401), (bob, 200)):
            self.assertEqual((await self.whoami(session)).status, status)

    async def test_logout_needs_a_token(self) -> None:
        for path in ("/_matrix/client/v3/logout", "/_matrix/client/v3/logout/all"):
            self.assertEqual((await self.request("POST", path)).status, 401)


class LoginTokenTests(LoginCase):
    async def token(self, session: Session) -> str:
        first = await self.request("POST", GET_TOKEN, {}, session)
        self.assertEqual(first.status, 401)
        auth = {
            "type": "m.login.password",
            "session": first.json["session"],
            "identifier": {"type": "m.id.user", "user": session.user_id},
            "password": PASSWORD,
        }
        reply = await self.request("POST", GET_TOKEN, {"auth": auth}, session, expect=200)
        self.assertEqual(reply.json["expires_in_ms"], 120_000)
        return str(reply.json["login_token"])

    async def test_a_login_token_signs_in_once(self) -> None:
        alice = await self.register("alice")
        token = await self.token(alice)
        reply = await self.post(type="m.login.token", token=token)
        self.assertEqual((reply.status, reply.json["user_id"]), (200, alice.user_id))
        reply = await self.post(type="m.login.token", token=token)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_a_login_token_ends(self) -> None:
        token = await self.token(await self.register("alice"))
        self.clock.advance(121)
        self.assertEqual((await self.post(type="m.login.token", token=token)).status, 403)
        self.assertEqual((await self.post(type="m.login.token")).json["errcode"], "M_MISSING_PARAM")


class RefreshTests(LoginCase):
    async def sign_in(self) -> Any:
        await self.register("alice")
        return (await self.post(user="alice", refresh_token=True)).json

    async def refresh(self, token: str) -> Reply:
        return await self.request("POST", REFRESH, {"refresh_token": token})

    async def test_an_access_token_ends_softly_and_is_refreshed(self) -> None:
        one = await self.sign_in()
        self.clock.advance(3600)
        reply = await self.whoami(one["access_token"])
        self.assertEqual(
            (reply.status, reply.json["errcode"], reply.json["soft_logout"]), (401, "M_UNKNOWN_TOKEN", True)
        )
        two = (await self.refresh(one["refresh_token"])).json
        reply = await self.whoami(two["access_token"])
        self.assertEqual((reply.status, reply.json["device_id"]), (200, one["device_id"]))

    async def test_old_tokens_work_until_a_new_one_is_used(self) -> None:
        one = await self.sign_in()
        lost = (await self.refresh(one["refresh_token"])).json
        self.assertEqual((await self.whoami(one["access_token"])).status, 200)
        two = (await self.refresh(one["refresh_token"])).json
        self.assertEqual((await self.whoami(two["access_token"])).status, 200)
        self.assertEqual((await self.whoami(one["access_token"])).status, 401)
        self.assertEqual((await self.whoami(lost["access_token"])).status, 401)
        for gone in (one, lost):
            self.assertEqual((await self.refresh(gone["refresh_token"])).json["errcode"], "M_UNKNOWN_TOKEN")
        self.assertEqual((await self.whoami(two["access_token"])).status, 200)

    async def test_using_the_new_refresh_token_ends_the_old_tokens(self) -> None:
        one = await self.sign_in()
        two = (await self.refresh(one["refresh_token"])).json
        three = (await self.refresh(two["refresh_token"])).json
        self.assertEqual((await self.refresh(one["refresh_token"])).status, 401)
        self.assertEqual((await self.whoami(one["access_token"])).status, 401)
        self.assertEqual((await self.whoami(three["access_token"])).status, 200)

    async def test_logout_ends_refresh_tokens(self) -> None:
        one = await self.sign_in()
        await self.request("POST", "/_matrix/client/v3/logout", token=one["access_token"], expect=200)
        self.assertEqual((await self.refresh(one["refresh_token"])).status, 401)

    async def test_wrong_refresh_tokens(self) -> None:
        self.assertEqual((await self.refresh("x")).json["errcode"], "M_UNKNOWN_TOKEN")
        self.assertEqual((await self.request("POST", REFRESH, {})).json["errcode"], "M_BAD_JSON")


class RefreshLifetimeTests(LoginCase):
    settings = "sessions: {refresh_token_lifetime: 2h}"

    async def test_a_refresh_token_that_lay_too_long_ends_softly(self) -> None:
        await self.register("alice")
        one = (await self.post(user="alice", refresh_token=True)).json
        self.clock.advance(2 * 3600)
        reply = await self.request("POST", REFRESH, {"refresh_token": one["refresh_token"]})
        self.assertEqual((reply.status, reply.json["soft_logout"]), (401, True))


class LimitTests(LoginCase):
    settings = """
rate_limits:
  login: {per_second: 100, burst: 1000}
  login_failures: {per_second: 0.1, burst: 3}
"""

    async def test_passwords_cannot_be_guessed_fast(self) -> None:
        await self.register("alice")
        await self.register("bob")
        for _ in range(3):
            self.assertEqual((await self.post(user="alice", password="wrong")).status, 403)
        self.assertEqual((await self.post(user="alice", password="wrong")).status, 429)
        reply = await self.post(user="alice")
        self.assertEqual((reply.status, reply.json["errcode"]), (429, "M_LIMIT_EXCEEDED"))
        self.assertGreater(reply.json["retry_after_ms"], 0)
        self.assertEqual((await self.post(user="bob")).status, 200)
        self.clock.advance(11)
        self.assertEqual((await self.post(user="alice")).status, 200)


class ModerationTests(LoginCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice = await self.register("alice")
        self.admin = await self.register("root")
        usr = (await self.app.base.db.read(accounts.find, self.admin.user_id)).usr
        await self.app.base.db.write(accounts.set_admin, usr, True)

    async def put(self, what: str, value: object, who: str = "@alice:parley.test", by: Session | None = None) -> Reply:
        path = f"/_matrix/client/v1/admin/{'lock' if what == 'locked' else 'suspend'}/{who}"
        return await self.request("PUT", path, {what: value}, by or self.admin)

    async def test_a_locked_account_can_only_log_out(self) -> None:
        self.assertEqual((await self.put("locked", True)).json, {"locked": True})
        reply = await self.whoami(self.alice)
        self.assertEqual((reply.status, reply.json["errcode"], reply.json["soft_logout"]), (401, "M_USER_LOCKED", True))
        self.assertEqual((await self.post(user="alice")).json["errcode"], "M_USER_LOCKED")
        self.assertEqual((await self.put("locked", False)).status, 200)
        self.assertEqual((await self.whoami(self.alice)).status, 200)
        await self.put("locked", True)
        await self.request("POST", "/_matrix/client/v3/logout", token=self.alice, expect=200)
        await self.put("locked", False)
        self.assertEqual((await self.whoami(self.alice)).json["errcode"], "M_UNKNOWN_TOKEN")

    async def test_administrators_see_whether_an_account_is_locked(self) -> None:
        path = "/_matrix/client/v1/admin/lock/@alice:parley.test"
        for value in (True, False):
            await self.put("locked", value)
            self.assertEqual((await self.request("GET", path, token=self.admin, expect=200)).json, {"locked": value})
        self.assertEqual((await self.request("GET", path, token=self.alice)).json["errcode"], "M_FORBIDDEN")

    async def test_no_way_leads_into_a_locked_account(self) -> None:
        refreshable = (await self.post(user="alice", refresh_token=True)).json
        await self.put("locked", True)
        proof = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
        for path, body in (
            (REFRESH, {"refresh_token": refreshable["refresh_token"]}),
            ("/_matrix/client/v3/account/password", {"new_password": "x", "auth": proof}),
            ("/_matrix/client/v3/account/deactivate", {"auth": proof}),
        ):
            reply = await self.request("POST", path, body)
            self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_USER_LOCKED"), path)
        await self.put("locked", False)
        self.assertEqual((await self.whoami(self.alice)).status, 200)
        reply = await self.request("POST", REFRESH, {"refresh_token": refreshable["refresh_token"]})
        self.assertEqual(reply.status, 200)

    async def test_a_suspended_account_may_read(self) -> None:
        self.assertEqual((await self.put("suspended", True)).json, {"suspended": True})
        path = "/_matrix/client/v1/admin/suspend/@alice:parley.test"
        self.assertEqual((await self.request("GET", path, token=self.admin)).json, {"suspended": True})
        self.assertEqual((await self.whoami(self.alice)).status, 200)
        profile = f"/_matrix/client/v3/profile/{self.alice.user_id}/displayname"
        reply = await self.request("PUT", profile, {"displayname": "A"}, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_USER_SUSPENDED"))

    async def test_who_may_lock_whom(self) -> None:
        for errcode, who, by in (
            ("M_FORBIDDEN", "@root:parley.test", self.alice),
            ("M_FORBIDDEN", "@root:parley.test", self.admin),
            ("M_INVALID_PARAM", "@alice:elsewhere", self.admin),
            ("M_INVALID_PARAM", "alice", self.admin),
            ("M_NOT_FOUND", "@nobody:parley.test", self.admin),
        ):
            for what in ("locked", "suspended"):
                reply = await self.put(what, True, who, by)
                self.assertEqual(reply.json["errcode"], errcode, (what, who))
        self.assertEqual((await self.put("locked", "yes")).json["errcode"], "M_BAD_JSON")
        self.assertEqual((await self.whoami(self.alice)).status, 200)

    async def test_whois(self) -> None:
        path = "/_matrix/client/v3/admin/whois/@alice:parley.test"
        await self.request("GET", WHOAMI, token=self.alice, ip="192.0.2.7", headers={"user-agent": "Test"})
        for who in (self.alice, self.admin):
            shown = (await self.request("GET", path, token=who, expect=200)).json
            sessions = shown["devices"][self.alice.device_id]["sessions"]
            self.assertEqual(shown["user_id"], self.alice.user_id)
        self.assertEqual(
            sessions[0]["connections"][0], {"ip": "127.0.0.1", "last_seen": EPOCH_MS + 1000, "user_agent": ""}
        )
        bob = await self.register("bob")
        self.assertEqual((await self.request("GET", path, token=bob)).status, 403)
