# SPDX-License-Identifier: Apache-2.0
"""Other networks, as several services bridge them."""

from typing import Any

from tests.appservices.case import V3, ServiceCase
from tests.appservices.service import AS_TOKEN, HS_TOKEN, Asked, Service
from tests.harness.server import Reply, Session

THIRD = f"{V3}/thirdparty"


def network(name: str) -> dict[str, Any]:
    return {
        "user_fields": ["nick"],
        "location_fields": ["channel"],
        "icon": "mxc://example.org/icon",
        "field_types": {"nick": {"regexp": ".+", "placeholder": "nick"}},
        "instances": [{"desc": name, "icon": "mxc://example.org/x", "fields": {}, "network_id": name}],
    }


LOCATION = {"alias": "#irc_a:parley.test", "protocol": "irc", "fields": {"channel": "#a"}}
PERSON = {"userid": "@irc_ann:parley.test", "protocol": "irc", "fields": {"nick": "ann"}}


class NetworkTests(ServiceCase):
    """A second service bridges the same protocol and one of its own."""

    settings = "appservices: [irc.yaml, other.yaml]"

    async def setUp(self) -> None:  # type: ignore[override]
        self.other = Service()
        self.other.start()
        self.addCleanup(self.other.stop)
        await super().setUp()
        self.alice = await self.register("alice")

    async def start_server(self) -> None:
        (self.folder / "other.yaml").write_text(
            f"""
id: other
url: {self.other.url}/
as_token: another-{AS_TOKEN}
hs_token: {HS_TOKEN}
sender_localpart: otherbot
namespaces: {{users: [], aliases: [], rooms: []}}
protocols: [irc, gitter]
"""
        )
        await super().start_server()

    async def ask(self, path: str, user: Session | None = None, **query: str) -> Reply:
        return await self.request("GET", f"{THIRD}/{path}", token=user or self.alice, query=query)

    async def test_protocols_of_all(self) -> None:
        self.service.knows["thirdparty/protocol/irc"] = network("libera")
        self.other.knows["thirdparty/protocol/irc"] = network("oftc")
        self.other.knows["thirdparty/protocol/gitter"] = {"icon": 5}
        found = (await self.ask("protocols")).json
        self.assertEqual(list(found), ["irc"])
        self.assertEqual(
            [(one["network_id"], one["instance_id"]) for one in found["irc"]["instances"]],
            [("libera", "irc|libera"), ("oftc", "other|oftc")],
        )
        self.assertEqual((await self.ask("protocol/irc")).json, found["irc"])
        asked = [one.path for one in self.service.asked]
        self.assertEqual(asked, ["/_matrix/app/v1/thirdparty/protocol/irc"])

    async def test_what_is_not_bridged(self) -> None:
        for path in ("protocol/irc", "protocol/xmpp", "location/xmpp", "user/xmpp", "location/irc", "user/irc"):
            reply = await self.ask(path)
            self.assertEqual((reply.status, reply.json["errcode"]), (404, "M_NOT_FOUND"), path)
        self.assertEqual((await self.ask("protocols")).json, {})
        for path in ("protocols", "protocol/irc", "location", "user", "location/irc", "user/irc"):
            self.assertEqual((await self.request("GET", f"{THIRD}/{path}")).status, 401)

    async def test_places_and_people(self) -> None:
        self.service.knows["thirdparty/location/irc"] = [LOCATION, {"alias": "incomplete"}, 5]
        self.other.knows["thirdparty/location/irc"] = [{**LOCATION, "fields": {"channel": "#b"}}]
        self.other.knows["thirdparty/user/irc"] = [PERSON]
        found = (await self.ask("location/irc", channel="#a", access_token="x")).json
        self.assertEqual([one["fields"]["channel"] for one in found], ["#a", "#b"])
        self.assertEqual(self.service.asked[-1].query, {"channel": "#a"})
        self.assertEqual((await self.ask("user/irc", nick="ann")).json, [PERSON])

    async def test_what_an_id_stands_for(self) -> None:
        self.service.knows["thirdparty/location"] = [LOCATION]
        self.other.knows["thirdparty/user"] = [PERSON]
        self.assertEqual((await self.ask("location", alias="#irc_a:parley.test")).json, [LOCATION])
        self.assertEqual((await self.ask("user", userid="@irc_ann:parley.test")).json, [PERSON])
        self.assertEqual(self.other.asked[-1].query, {"userid": "@irc_ann:parley.test"})
        for path in ("location", "user"):
            reply = await self.ask(path)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, "M_MISSING_PARAM"))

    async def test_one_that_is_down_or_talks_nonsense_is_left_out(self) -> None:
        self.service.knows["thirdparty/user/irc"] = [PERSON]
        await self.other.stop()
        self.assertEqual((await self.ask("user/irc")).json, [PERSON])
        self.other.start()

        def babble(asked: Asked) -> tuple[int, bytes]:
            return 200, b'[{"userid":'

        self.other.answer = babble
        self.assertEqual((await self.ask("user/irc")).json, [PERSON])

    async def test_drafts_had_other_paths(self) -> None:
        def old(asked: Asked) -> tuple[int, Any]:
            is_new = "/v1/" in asked.path
            return (404, b"nothing here") if is_new else (200, [PERSON])

        self.service.answer = old
        self.assertEqual((await self.ask("user/irc")).json, [PERSON])
        self.assertEqual(self.service.asked[-1].path, "/_matrix/app/unstable/thirdparty/user/irc")
        self.assertEqual(self.service.asked[-1].query, {"access_token": HS_TOKEN})
