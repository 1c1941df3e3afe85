# SPDX-License-Identifier: Apache-2.0
"""Authentication in a browser, for clients that cannot do a stage themselves."""

from urllib.parse import urlencode

from tests.harness.server import PASSWORD, HomeserverCase, Reply

REGISTER = "/_matrix/client/v3/register"
SSO = "/_matrix/client/v3/login/sso/redirect"


class FallbackTests(HomeserverCase):
    def path(self, stage: str, session: str) -> str:
        return f"/_matrix/client/v3/auth/{stage}/fallback/web?session={session}"

    async def submit(self, stage: str, session: str, **form: str) -> Reply:
        raw = urlencode(form).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await self.request("POST", self.path(stage, session), raw=raw, headers=headers)

    async def test_a_stage_done_in_the_browser_lets_the_request_pass(self) -> None:
        body = {"username": "alice", "password": PASSWORD}
        session = (await self.request("POST", REGISTER, body)).json["session"]
        shown = await self.request("GET", self.path("m.login.dummy", session), expect=200)
        self.assertEqual(shown.headers["content-type"], "text/html; charset=utf-8")
        self.assertIn(b"<form", shown.body)
        done = await self.submit("m.login.dummy", session)
        self.assertIn(b"onAuthDone", done.body)
        made = await self.request("POST", REGISTER, {**body, "auth": {"session": session}})
        self.assertEqual((made.status, made.json["user_id"]), (200, "@alice:parley.test"))

    async def test_a_password_in_the_browser_must_be_the_accounts_own(self) -> None:
        alice = await self.register("alice")
        await self.register("bob")
        path = "/_matrix/client/v1/login/get_token"
        session = (await self.request("POST", path, {}, alice)).json["session"]
        for user, password, good in (("bob", PASSWORD, False), ("alice", "x", False), ("alice", PASSWORD, True)):
            reply = await self.submit("m.login.password", session, user=user, password=password)
            self.assertEqual((reply.status, b"onAuthDone" in reply.body), (200, good))
            status = (await self.request("POST", path, {"auth": {"session": session}}, alice)).status
            self.assertEqual(status, 200 if good else 401)

    async def test_what_does_not_exist(self) -> None:
        self.assertEqual((await self.request("GET", self.path("m.login.moon", "x"))).status, 404)
        self.assertEqual((await self.submit("m.login.dummy", "unknown")).status, 404)
        reply = await self.request("GET", "/_matrix/client/v3/auth/m.login.dummy/fallback/web")
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))

    async def test_complaints_are_escaped(self) -> None:
        session = (await self.request("POST", REGISTER, {})).json["session"]
        reply = await self.submit("m.login.registration_token", session, token="<script>")
        self.assertNotIn(b"<script>", reply.body)
        self.assertIn(b"Invalid registration token", reply.body)

    async def test_the_page_for_signing_in(self) -> None:
        for path in ("/_matrix/static/client/login/", "/_matrix/static/client/login/?device_id=X"):
            reply = await self.request("GET", path, expect=200)
            self.assertIn(b"matrixLogin", reply.body)
            self.assertIn("connect-src 'self'", reply.headers["content-security-policy"])

    async def test_there_is_no_single_sign_on(self) -> None:
        for path in (SSO, f"{SSO}/idp"):
            reply = await self.request("GET", path, query={"redirectUrl": "https://app.example"})
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"))
            self.assertEqual((await self.request("GET", path)).json["errcode"], "M_MISSING_PARAM")
