# SPDX-License-Identifier: Apache-2.0
"""Profiles, field by field."""

from typing import Any

from tests.harness.server import HomeserverCase, Reply, Session

UNSTABLE = "/_matrix/client/unstable/uk.tcpip.msc4133/profile"


class ProfileTests(HomeserverCase):
    async def setUp(self) -> None:
        await super().setUp()
        self.alice = await self.register("alice")

    async def get(self, field: str = "", user: str = "@alice:parley.test") -> Reply:
        return await self.request("GET", f"/_matrix/client/v3/profile/{user}{'/' + field if field else ''}")

    async def put(self, field: str, value: Any, who: Session | None = None, user: str = "@alice:parley.test") -> Reply:
        return await self.request(
            "PUT", f"/_matrix/client/v3/profile/{user}/{field}", {field: value}, who or self.alice
        )

    async def delete(self, field: str, who: Session | None = None) -> Reply:
        return await self.request(
            "DELETE", f"/_matrix/client/v3/profile/@alice:parley.test/{field}", None, who or self.alice
        )

    async def test_fields_are_set_shown_and_deleted(self) -> None:
        self.assertEqual((await self.get()).json, {})
        wanted = {
            "displayname": "Alice ✨",
            "avatar_url": "mxc://parley.test/abc",
            "m.tz": "Europe/Berlin",
            "org.example.any": {"list": [1, 2.5, None, "x"]},
            "org.example.null": None,
        }
        for field, value in wanted.items():
            self.assertEqual((await self.put(field, value)).status, 200, field)
            self.assertEqual((await self.get(field)).json, {field: value})
        self.assertEqual((await self.get()).json, wanted)
        for field in wanted:
            for _ in range(2):
                self.assertEqual((await self.delete(field)).status, 200)
            self.assertEqual((await self.get(field)).json["errcode"], "M_NOT_FOUND")
        self.assertEqual((await self.get()).json, {})

    async def test_an_empty_name_is_no_name(self) -> None:
        await self.put("displayname", "Alice")
        self.assertEqual((await self.put("displayname", "")).status, 200)
        self.assertEqual((await self.get("displayname")).status, 404)

    async def test_old_and_unstable_paths(self) -> None:
        path = "/_matrix/client/r0/profile/@alice:parley.test/displayname"
        await self.request("PUT", path, {"displayname": "A"}, self.alice, expect=200)
        self.assertEqual((await self.request("GET", path)).json, {"displayname": "A"})
        path = f"{UNSTABLE}/@alice:parley.test/org.example.x"
        await self.request("PUT", path, {"org.example.x": 1}, self.alice, expect=200)
        self.assertEqual((await self.request("GET", path)).json, {"org.example.x": 1})
        await self.request("DELETE", path, None, self.alice, expect=200)
        self.assertEqual((await self.request("GET", f"{UNSTABLE}/@alice:parley.test")).json, {"displayname": "A"})

    async def test_only_ones_own(self) -> None:
        bob = await self.register("bob")
        reply = await self.put("displayname", "Mallory", bob)
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))
        self.assertEqual((await self.delete("displayname", bob)).status, 403)
        path = "/_matrix/client/v3/profile/@alice:parley.test/displayname"
        self.assertEqual((await self.request("PUT", path, {"displayname": "x"})).status, 401)
        self.assertEqual((await self.get()).json, {})

    async def test_users_that_are_not_there(self) -> None:
        for user, status, errcode in (
            ("@nobody:parley.test", 404, "M_NOT_FOUND"),
            ("@x:elsewhere.test", 404, "M_NOT_FOUND"),
            ("nobody", 400, "M_INVALID_PARAM"),
        ):
            for field in ("", "displayname"):
                reply = await self.get(field, user)
                self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode))

    async def test_an_avatar_that_is_no_media_is_the_clients_business(self) -> None:
        self.assertEqual((await self.put("avatar_url", "https://example.org/a.png")).status, 200)

    async def test_wrong_values(self) -> None:
        for field, value, errcode in (
            ("displayname", 5, "M_BAD_JSON"),
            ("displayname", None, "M_BAD_JSON"),
            ("displayname", "x" * 257, "M_INVALID_PARAM"),
            ("avatar_url", "mxc://example.org/" + "x" * 1_000, "M_INVALID_PARAM"),
            ("avatar_url", {"mxc": 1}, "M_BAD_JSON"),
            ("m.tz", [], "M_BAD_JSON"),
            ("Org.Example", 1, "M_INVALID_PARAM"),
            ("org example", 1, "M_INVALID_PARAM"),
            ("o" * 256, 1, "M_KEY_TOO_LARGE"),
            ("org.example.big", "x" * 65_536, "M_PROFILE_TOO_LARGE"),
        ):
            reply = await self.put(field, value)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), field)
        path = "/_matrix/client/v3/profile/@alice:parley.test/displayname"
        reply = await self.request("PUT", path, {"name": "x"}, self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))
        reply = await self.request("PUT", path, ["x"], self.alice)
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_BAD_JSON"))
        reply = await self.request("PUT", path, None, self.alice, raw=b"nonsense")
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_NOT_JSON"))
        self.assertEqual((await self.get()).json, {})

    async def test_many_fields_fill_a_profile(self) -> None:
        for number in range(6):
            self.assertEqual((await self.put(f"org.example.f{number}", "x" * 10_000)).status, 200)
        self.assertEqual((await self.put("org.example.f6", "x" * 10_000)).json["errcode"], "M_PROFILE_TOO_LARGE")
        self.assertEqual((await self.put("org.example.f5", "x" * 15_000)).status, 200)


class OpenIdTests(HomeserverCase):
    async def test_an_openid_token_proves_who_one_is(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        path = "/_matrix/client/v3/user/@alice:parley.test/openid/request_token"
        reply = await self.request("POST", path, {}, alice, expect=200)
        self.assertEqual((reply.json["token_type"], reply.json["expires_in"]), ("Bearer", 3600))
        self.assertEqual(reply.json["matrix_server_name"], "parley.test")
        whoami = await self.request("GET", "/_matrix/client/v3/account/whoami", token=reply.json["access_token"])
        self.assertEqual(whoami.status, 401)
        self.assertEqual((await self.request("POST", path, {}, bob)).json["errcode"], "M_FORBIDDEN")
        self.assertEqual((await self.request("POST", path, {})).status, 401)
