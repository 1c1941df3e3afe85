# SPDX-License-Identifier: Apache-2.0
"""Application services: their users, their names, and acting as somebody."""

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from homeserver.config import appservice
from tests.harness.server import PASSWORD, HomeserverCase, Reply

TOKEN = "the-token-of-the-service"
V3 = "/_matrix/client/v3"
SERVICE = "m.login.application_service"
FILE = f"""
id: irc
url: null
as_token: {TOKEN}
hs_token: the-token-of-the-server
sender_localpart: ircbot
rate_limited: false
namespaces:
  users: [{{regex: "@irc_.*:parley\\\\.test", exclusive: true}}, {{regex: "@shared_.*", exclusive: false}}]
  aliases: [{{regex: "#irc_.*", exclusive: true}}]
  rooms: []
org.example.own: 1
"""


class ServiceCase(HomeserverCase):
    settings = "appservices: [irc.yaml]"

    async def start_server(self) -> None:
        (self.folder / "irc.yaml").write_text(FILE)
        await super().start_server()

    async def make(self, name: str, token: Any = TOKEN, **more: Any) -> Reply:
        return await self.request("POST", f"{V3}/register", {"type": SERVICE, "username": name, **more}, token)

    async def whoami(self, **query: str) -> Reply:
        return await self.request("GET", f"{V3}/account/whoami", token=TOKEN, query=query)


class ActingTests(ServiceCase):
    async def test_it_speaks_as_its_own_user(self) -> None:
        self.assertEqual((await self.whoami()).json, {"user_id": "@ircbot:parley.test", "is_guest": False})
        await self.restart_server()
        self.assertEqual((await self.whoami()).status, 200)

    async def test_it_makes_users_and_acts_as_them(self) -> None:
        made = await self.make("irc_ann", inhibit_login=True)
        self.assertEqual((made.status, made.json), (200, {"user_id": "@irc_ann:parley.test"}))
        for _ in range(2):
            reply = await self.whoami(user_id="@irc_ann:parley.test")
            self.assertEqual(reply.json["user_id"], "@irc_ann:parley.test")
        path = f"{V3}/profile/@irc_ann:parley.test/displayname?user_id=@irc_ann:parley.test"
        await self.request("PUT", path, {"displayname": "Ann"}, TOKEN, expect=200)
        self.assertEqual((await self.make("irc_ann")).json["errcode"], "M_USER_IN_USE")

    async def test_it_acts_as_nobody_else(self) -> None:
        await self.register("alice")
        for user_id in ("@alice:parley.test", "@irc_nobody:parley.test", "@irc_x:elsewhere", "nonsense"):
            reply = await self.whoami(user_id=user_id)
            self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"), user_id)

    async def test_it_acts_as_devices_that_it_made(self) -> None:
        await self.make("irc_ann", inhibit_login=True)
        who = {"user_id": "@irc_ann:parley.test"}
        reply = await self.whoami(**who, device_id="X")
        self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_UNKNOWN_DEVICE"))
        for status in (201, 200):
            reply = await self.request("PUT", f"{V3}/devices/X", {"display_name": "Ann"}, TOKEN, query=who)
            self.assertEqual((reply.status, reply.json), (status, {}))
        self.assertEqual((await self.whoami(**who, device_id="X")).json["device_id"], "X")
        devices = (await self.request("GET", f"{V3}/devices", token=TOKEN, query=who)).json["devices"]
        self.assertEqual([one["device_id"] for one in devices], ["X"])
        await self.request("DELETE", f"{V3}/devices/X", {}, TOKEN, query=who, expect=200)
        self.assertEqual((await self.whoami(**who, device_id="X")).status, 400)

    async def test_a_closed_user_is_gone(self) -> None:
        await self.make("irc_ann", inhibit_login=True)
        who = {"user_id": "@irc_ann:parley.test"}
        self.assertEqual((await self.whoami(**who)).status, 200)
        await self.request("POST", f"{V3}/account/deactivate", {}, TOKEN, query=who, expect=200)
        self.assertEqual((await self.whoami(**who)).status, 403)

    async def test_it_signs_its_users_in(self) -> None:
        await self.make("irc_ann", inhibit_login=True)
        await self.register("alice")

        async def log_in(name: str) -> Reply:
            body = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": name}}
            return await self.request("POST", f"{V3}/login", body, TOKEN)

        session = (await log_in("irc_ann")).json
        reply = await self.request("GET", f"{V3}/account/whoami", token=session["access_token"])
        self.assertEqual(reply.json["user_id"], "@irc_ann:parley.test")
        self.assertEqual((await log_in("alice")).json["errcode"], "M_EXCLUSIVE")
        self.assertEqual((await log_in("irc_nobody")).json["errcode"], "M_FORBIDDEN")


class NameTests(ServiceCase):
    async def test_names_in_exclusive_namespaces_are_the_services(self) -> None:
        for name, errcode in (("irc_x", "M_EXCLUSIVE"), ("ircbot", "M_EXCLUSIVE"), ("shared_x", None)):
            body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
            reply = await self.request("POST", f"{V3}/register", body)
            self.assertEqual(reply.json.get("errcode"), errcode, name)
            reply = await self.request("GET", f"{V3}/register/available", query={"username": name + "2"})
        self.assertEqual((await self.make("shared_y")).status, 200)
        for name in ("alice", "other_x"):
            reply = await self.make(name)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_EXCLUSIVE"))
        for token, errcode in ((None, "M_MISSING_TOKEN"), ("wrong", "M_UNKNOWN_TOKEN")):
            self.assertEqual((await self.make("irc_y", token)).json["errcode"], errcode)

    async def test_a_made_user_is_signed_in_unless_told_otherwise(self) -> None:
        made = (await self.make("irc_ann", device_id="D")).json
        reply = await self.request("GET", f"{V3}/account/whoami", token=made["access_token"])
        self.assertEqual((reply.json["user_id"], reply.json["device_id"]), ("@irc_ann:parley.test", "D"))


class FileTests(TestCase):
    def test_what_is_read(self) -> None:
        found = appservice.parse(FILE, "irc.yaml")
        self.assertEqual((found.id, found.url, found.rate_limited), ("irc", None, False))
        self.assertTrue(found.aliases[0].covers("#irc_x:parley.test"))

    def test_what_is_wrong_is_said(self) -> None:
        for text, said in (
            ("[]", "keys and values"),
            ("{", "not valid YAML"),
            (FILE.replace("id: irc", "id: 5"), "id: expected text"),
            (FILE.replace("url: null", "url: ftp://x"), "url: expected"),
            (FILE.replace(TOKEN, "short"), "as_token: expected at least"),
            (FILE.replace("@irc_.*", "@irc_("), "no regular expression"),
            (FILE.replace("rooms: []", "rooms: 5"), "namespaces.rooms: expected a list"),
            (FILE.replace("sender_localpart: ircbot", "sender_localpart: A B"), "sender_localpart"),
        ):
            with self.assertRaises(appservice.Unusable) as caught:
                appservice.parse(text, "irc.yaml")
            self.assertIn(said, str(caught.exception))

    def test_faults_name_file_line_and_key(self) -> None:
        lines = {line.partition(":")[0].strip(): number for number, line in enumerate(FILE.splitlines(), 1)}
        for text, fault in (
            (FILE.replace("id: irc", "id: ''"), f"irc.yaml:{lines['id']}: id: expected text"),
            (
                FILE.replace("rate_limited: false", "rate_limited: 1"),
                f"{lines['rate_limited']}: rate_limited: expected",
            ),
            (FILE.replace("url: null", "url: http://[x"), f"irc.yaml:{lines['url']}: url: expected an http"),
            (FILE.replace("url: null\n", ""), ": url: expected an http or https address, or null"),
            (FILE + "protocols: {a: b}", f":{len(FILE.splitlines()) + 1}: protocols: expected a list of words"),
            (FILE + "id: again", f":{len(FILE.splitlines()) + 1}: id: given twice"),
            (FILE.replace("exclusive: true", "exclusive: 1"), f":{lines['users']}: namespaces.users: expected a regex"),
            (FILE.replace("rooms: []", "romos: []"), f":{lines['rooms']}: namespaces.romos: expected users"),
            (FILE + "a: &x 1\nb: *x", "aliases (*name) are not allowed"),
        ):
            with self.assertRaises(appservice.Unusable) as caught:
                appservice.parse(text, "irc.yaml")
            self.assertIn(fault, str(caught.exception))

    def test_two_services_share_nothing_that_is_exclusive(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        files = [folder / "one.yaml", folder / "two.yaml"]
        files[0].write_text(FILE)
        files[1].write_text(FILE.replace("id: irc", "id: two"))
        with self.assertRaises(appservice.Unusable) as caught:
            appservice.load([*files, folder / "three.yaml"])
        for part in (
            "one.yaml: as_token: another",
            "two.yaml: sender_localpart: another",
            "'#irc_.*' is exclusive to another",
            "three.yaml: cannot be read",
        ):
            self.assertIn(part, str(caught.exception))
        self.assertNotIn("shared_", str(caught.exception))
        files[1].write_text(
            FILE.replace("id: irc", "id: two").replace(TOKEN, "another-token").replace("irc", "tg").replace("#tg", "#t")
        )
        self.assertEqual([one.id for one in appservice.load(files)], ["irc", "two"])
