# SPDX-License-Identifier: Apache-2.0
"""Making accounts."""

import hashlib
import hmac
from typing import Any

from storage import registration_tokens
from tests.harness.server import EPOCH_MS, PASSWORD, HomeserverCase, Reply

REGISTER = "/_matrix/client/v3/register"
AVAILABLE = "/_matrix/client/v3/register/available"
VALIDITY = "/_matrix/client/v1/register/m.login.registration_token/validity"
SHARED = "/_synapse/admin/v1/register"
DUMMY = {"type": "m.login.dummy"}


class RegistrationTests(HomeserverCase):
    async def post(self, **body: Any) -> Reply:
        return await self.request("POST", REGISTER, body)

    async def test_an_empty_request_tells_the_flows(self) -> None:
        for reply in (
            await self.request("POST", REGISTER, {}),
            await self.request("POST", REGISTER, raw=b""),
        ):
            self.assertEqual(reply.status, 401)
            self.assertEqual(reply.json["flows"], [{"stages": ["m.login.dummy"]}])
            self.assertNotIn("errcode", reply.json)
            self.assertTrue(reply.json["session"])

    async def test_the_session_of_the_first_answer_leads_to_an_account(self) -> None:
        session = (await self.post(username="alice", password=PASSWORD)).json["session"]
        made = await self.post(username="alice", password=PASSWORD, auth={**DUMMY, "session": session})
        self.assertEqual(made.status, 200)
        self.assertEqual(made.json["user_id"], "@alice:parley.test")
        self.assertEqual(made.json["home_server"], "parley.test")
        self.assertNotIn("refresh_token", made.json)

    async def test_the_last_request_need_not_repeat_what_the_first_asked_for(self) -> None:
        session = (await self.post(username="alice", password=PASSWORD, device_id="PHONE")).json["session"]
        made = await self.post(auth={**DUMMY, "session": session})
        self.assertEqual((made.status, made.json["user_id"]), (200, "@alice:parley.test"))
        self.assertEqual(made.json["device_id"], "PHONE")
        session = (await self.post(username="bob", password=PASSWORD)).json["session"]
        self.clock.advance(3600)
        late = await self.post(auth={**DUMMY, "session": session})
        self.assertEqual((late.status, late.json["errcode"]), (400, "M_MISSING_PARAM"))

    async def test_a_dummy_stage_without_a_session_is_enough(self) -> None:
        made = await self.post(username="alice", password=PASSWORD, auth=DUMMY)
        self.assertEqual(made.status, 200)

    async def test_a_session_makes_one_account(self) -> None:
        session = (await self.post()).json["session"]
        auth = {**DUMMY, "session": session}
        self.assertEqual((await self.post(username="alice", password=PASSWORD, auth=auth)).status, 200)
        again = await self.post(username="bob", password=PASSWORD, auth={"session": session})
        self.assertEqual(again.status, 401)

    async def test_names_are_folded_and_checked(self) -> None:
        self.assertEqual((await self.post(username="ALICE", password=PASSWORD, auth=DUMMY)).status, 200)
        for name in ("q", "3", "a.b_c=d-e/f+g"):
            self.assertEqual((await self.post(username=name, password=PASSWORD, auth=DUMMY)).status, 200, name)
        for name in ("a b", "é", "@x:parley.test", "", "a\x00", "a:b", "_bot", "a" * 250):
            reply = await self.post(username=name, password=PASSWORD, auth=DUMMY)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_USERNAME"), name)
        self.assertEqual((await self.post(username=5, password=PASSWORD, auth=DUMMY)).json["errcode"], "M_BAD_JSON")

    async def test_a_taken_name_is_refused_before_authentication(self) -> None:
        await self.register("alice")
        for name in ("alice", "Alice"):
            reply = await self.post(username=name, password=PASSWORD)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_USER_IN_USE"))
            reply = await self.request("GET", AVAILABLE, query={"username": name})
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_USER_IN_USE"))

    async def test_available_names(self) -> None:
        reply = await self.request("GET", AVAILABLE, query={"username": "bob"})
        self.assertEqual((reply.status, reply.json), (200, {"available": True}))
        self.assertEqual((await self.request("GET", AVAILABLE)).json["errcode"], "M_MISSING_PARAM")
        reply = await self.request("GET", AVAILABLE, query={"username": "a b"})
        self.assertEqual(reply.json["errcode"], "M_INVALID_USERNAME")

    async def test_a_name_is_chosen_for_who_gives_none(self) -> None:
        one = await self.post(password=PASSWORD, auth=DUMMY)
        two = await self.post(password=PASSWORD, auth=DUMMY)
        self.assertEqual((one.status, two.status), (200, 200))
        self.assertNotEqual(one.json["user_id"], two.json["user_id"])

    async def test_a_person_needs_a_password(self) -> None:
        reply = await self.post(username="alice", auth=DUMMY)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))
        reply = await self.post(username="alice", password=7, auth=DUMMY)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        reply = await self.post(username="alice", password="", auth=DUMMY)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_WEAK_PASSWORD"))
        self.assertEqual((await self.request("GET", AVAILABLE, query={"username": "alice"})).status, 200)

    async def test_inhibited_login_and_wishes(self) -> None:
        made = await self.post(username="alice", password=PASSWORD, auth=DUMMY, inhibit_login=True)
        self.assertEqual(made.json, {"user_id": "@alice:parley.test"})
        made = await self.post(
            username="bob",
            password=PASSWORD,
            auth=DUMMY,
            device_id="PHONE",
            initial_device_display_name="My phone",
            refresh_token=True,
        )
        self.assertEqual(made.json["device_id"], "PHONE")
        self.assertEqual(made.json["expires_in_ms"], 3_600_000)
        devices = await self.request("GET", "/_matrix/client/v3/devices", token=made.json["access_token"])
        self.assertEqual(devices.json["devices"][0]["display_name"], "My phone")

    async def test_wrong_kinds_and_shapes(self) -> None:
        reply = await self.request("POST", REGISTER, {}, query={"kind": "robot"})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_INVALID_PARAM"))
        reply = await self.request("POST", REGISTER, {}, query={"kind": "guest"})
        self.assertEqual(reply.status, 403)
        reply = await self.post(username="alice", password=PASSWORD, auth="dummy")
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        reply = await self.post(username="alice", password=PASSWORD, auth={"type": 5})
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        reply = await self.post(username="alice", password=PASSWORD, auth={"type": "m.login.password"})
        self.assertEqual((reply.status, reply.json["errcode"]), (401, "M_UNRECOGNIZED"))
        reply = await self.post(username="alice", password=PASSWORD, auth=DUMMY, device_id=7)
        self.assertEqual(reply.status, 400)
        reply = await self.request("POST", REGISTER, raw=b"{", headers={"content-type": "application/json"})
        self.assertEqual(reply.json["errcode"], "M_NOT_JSON")

    async def test_services_need_their_token(self) -> None:
        body = {"type": "m.login.application_service", "username": "_bot"}
        alice = await self.register("alice")
        for token, errcode in ((None, "M_MISSING_TOKEN"), ("x", "M_UNKNOWN_TOKEN"), (alice, "M_UNKNOWN_TOKEN")):
            reply = await self.request("POST", REGISTER, body, token)
            self.assertEqual((reply.status, reply.json["errcode"]), (401, errcode))


class ClosedRegistrationTests(HomeserverCase):
    settings = "registration: {enabled: false, shared_secret: sesame}"

    async def test_nobody_may_register(self) -> None:
        for reply in (
            await self.request("POST", REGISTER, {}),
            await self.request("POST", REGISTER, {"username": "a", "password": "b", "auth": DUMMY}),
            await self.request("GET", AVAILABLE, query={"username": "a"}),
        ):
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def make(self, admin: bool = False, secret: str = "sesame", name: str = "alice") -> Reply:
        nonce = (await self.request("GET", SHARED, expect=200)).json["nonce"]
        said = "\0".join([nonce, name, PASSWORD, "admin" if admin else "notadmin"])
        mac = hmac.new(secret.encode(), said.encode(), hashlib.sha1).hexdigest()
        self.sent = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac}
        return await self.request("POST", SHARED, self.sent)

    async def test_a_tool_with_the_secret_makes_accounts(self) -> None:
        made = await self.make(admin=True)
        self.assertEqual((made.status, made.json["user_id"]), (200, "@alice:parley.test"))
        whois = "/_matrix/client/v3/admin/whois/@bob:parley.test"
        self.assertEqual((await self.make(name="bob")).status, 200)
        await self.request("GET", whois, token=made.json["access_token"], expect=200)
        await self.login("alice")

    async def test_the_secret_and_the_nonce_are_checked(self) -> None:
        self.assertEqual((await self.make(secret="open")).status, 403)
        self.assertEqual((await self.make()).status, 200)
        self.assertEqual((await self.request("POST", SHARED, {**self.sent, "username": "bob"})).status, 400)
        self.assertEqual((await self.make()).json["errcode"], "M_USER_IN_USE")
        nonce = (await self.request("GET", SHARED, expect=200)).json["nonce"]
        self.clock.advance(61)
        said = {"nonce": nonce, "username": "bob", "password": "x", "mac": "00"}
        self.assertEqual((await self.request("POST", SHARED, said)).json["error"], "unrecognised nonce")
        for missing in said:
            body = {key: value for key, value in said.items() if key != missing}
            self.assertEqual((await self.request("POST", SHARED, body)).status, 400)


class TokenRegistrationTests(HomeserverCase):
    settings = "registration: {enabled: true, token_required: true}"

    async def setUp(self) -> None:
        await super().setUp()
        await self.app.base.db.write(registration_tokens.add, "once", EPOCH_MS, 1, None)
        await self.app.base.db.write(registration_tokens.add, "early", EPOCH_MS, None, EPOCH_MS + 60_000)

    async def stage(self, name: str, token: object) -> Reply:
        auth = {"type": "m.login.registration_token", "token": token}
        return await self.request("POST", REGISTER, {"username": name, "password": PASSWORD, "auth": auth})

    async def valid(self, token: str) -> bool:
        return bool((await self.request("GET", VALIDITY, query={"token": token}, expect=200)).json["valid"])

    async def test_a_token_makes_as_many_accounts_as_it_says(self) -> None:
        self.assertTrue(await self.valid("once"))
        self.assertEqual((await self.stage("alice", "once")).status, 200)
        self.assertFalse(await self.valid("once"))
        refused = await self.stage("bob", "once")
        self.assertEqual((refused.status, refused.json["errcode"]), (401, "M_UNAUTHORIZED"))
        self.assertEqual(refused.json["flows"], [{"stages": ["m.login.registration_token"]}])

    async def test_a_token_ends(self) -> None:
        self.assertTrue(await self.valid("early"))
        self.clock.advance(61)
        self.assertFalse(await self.valid("early"))
        self.assertEqual((await self.stage("alice", "early")).status, 401)

    async def test_two_who_finish_the_stage_with_the_last_use_get_one_account(self) -> None:
        sessions = []
        for name in ("alice", "bob"):
            first = await self.request("POST", REGISTER, {"username": name, "password": PASSWORD})
            sessions.append(first.json["session"])
        statuses = []
        for name, session in zip(("alice", "bob"), sessions, strict=True):
            auth = {"type": "m.login.registration_token", "token": "once", "session": session}
            body = {"username": name, "password": PASSWORD, "auth": auth}
            statuses.append((await self.request("POST", REGISTER, body)).status)
        self.assertEqual(statuses, [200, 401])

    async def test_wrong_tokens(self) -> None:
        for token in ("other", "", None, 5):
            self.assertEqual((await self.stage("alice", token)).status, 401)
        self.assertFalse(await self.valid("other"))
        self.assertEqual((await self.request("GET", VALIDITY)).json["errcode"], "M_MISSING_PARAM")
        dummy = {"username": "alice", "password": PASSWORD, "auth": DUMMY}
        self.assertEqual((await self.request("POST", REGISTER, dummy)).status, 401)


class GuestTests(HomeserverCase):
    settings = "registration: {enabled: false, guests: true}"

    async def test_a_guest_may_do_what_the_specification_lets_guests(self) -> None:
        made = await self.request("POST", REGISTER, {"device_id": "MINE"}, query={"kind": "guest"}, expect=200)
        token = made.json["access_token"]
        self.assertNotEqual(made.json["device_id"], "MINE")
        whoami = await self.request("GET", "/_matrix/client/v3/account/whoami", token=token, expect=200)
        self.assertTrue(whoami.json["is_guest"])
        profile = f"/_matrix/client/v3/profile/{made.json['user_id']}"
        await self.request("PUT", f"{profile}/displayname", {"displayname": "Guest"}, token, expect=200)
        refused = await self.request("PUT", f"{profile}/avatar_url", {"avatar_url": "mxc://a/b"}, token)
        self.assertEqual((refused.status, refused.json["errcode"]), (403, "M_GUEST_ACCESS_FORBIDDEN"))
        for method, path in (
            ("GET", "/_matrix/client/v3/account/3pid"),
            ("POST", "/_matrix/client/v3/account/password"),
            ("POST", "/_matrix/client/v3/account/deactivate"),
        ):
            refused = await self.request(method, path, {"new_password": "x"}, token)
            self.assertEqual((refused.status, refused.json["errcode"]), (403, "M_GUEST_ACCESS_FORBIDDEN"), path)


class GuestUpgradeTests(HomeserverCase):
    settings = "registration: {enabled: true, guests: true}"

    async def guest(self) -> tuple[str, str]:
        made = (await self.request("POST", REGISTER, {}, query={"kind": "guest"}, expect=200)).json
        return made["user_id"][1:].partition(":")[0], made["access_token"]

    async def test_a_guest_becomes_a_person(self) -> None:
        name, token = await self.guest()
        body = {"username": name, "password": PASSWORD, "guest_access_token": token, "auth": DUMMY}
        made = (await self.request("POST", REGISTER, body, expect=200)).json
        self.assertEqual(made["user_id"], f"@{name}:parley.test")
        for known in (token, made["access_token"], (await self.login(name)).token):
            whoami = await self.request("GET", "/_matrix/client/v3/account/whoami", token=known, expect=200)
            self.assertFalse(whoami.json["is_guest"])

    async def test_nobody_upgrades_another_guest(self) -> None:
        name, token = await self.guest()
        other, _ = await self.guest()
        person = await self.register("alice")
        for username, guest_access_token, status in (
            (other, token, 403),
            (None, token, 403),
            (name, "nonsense", 403),
            ("alice", person.token, 403),
            (name, 5, 400),
        ):
            body = {"username": username, "password": PASSWORD, "guest_access_token": guest_access_token}
            reply = await self.request("POST", REGISTER, {**body, "auth": DUMMY})
            self.assertEqual(reply.status, status, username)
        whoami = await self.request("GET", "/_matrix/client/v3/account/whoami", token=token, expect=200)
        self.assertTrue(whoami.json["is_guest"])


class SetupTests(HomeserverCase):
    async def test_the_setup_token_makes_one_administrator(self) -> None:
        registrar = self.app_registrar()
        self.assertTrue(await registrar.needs_setup())
        token = await registrar.setup_token()
        self.assertEqual(await registrar.set_up(token, "root", PASSWORD), "@root:parley.test")
        self.assertFalse(await registrar.needs_setup())
        with self.assertRaisesRegex(Exception, "M_FORBIDDEN"):
            await registrar.set_up(token, "root2", PASSWORD)
        root = await self.login("root")
        await self.request("GET", "/_matrix/client/v3/admin/whois/@root:parley.test", token=root, expect=200)

    async def test_the_setup_token_ends_after_a_day_and_with_a_new_one(self) -> None:
        registrar = self.app_registrar()
        first = await registrar.setup_token()
        second = await registrar.setup_token()
        with self.assertRaisesRegex(Exception, "M_FORBIDDEN"):
            await registrar.set_up(first, "root", PASSWORD)
        self.clock.advance(24 * 60 * 60 + 1)
        with self.assertRaisesRegex(Exception, "M_FORBIDDEN"):
            await registrar.set_up(second, "root", PASSWORD)

    def app_registrar(self) -> Any:
        return self.app.registrar
