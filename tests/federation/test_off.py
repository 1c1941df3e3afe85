# SPDX-License-Identifier: Apache-2.0
"""Without federation nothing of it is there."""

from tests.harness.server import HomeserverCase


class Off(HomeserverCase):
    listener = ("client", "federation")

    async def test_no_page_for_other_servers_is_shown(self) -> None:
        for method, path in (
            ("GET", "/_matrix/key/v2/server"),
            ("GET", "/_matrix/federation/v1/version"),
            ("PUT", "/_matrix/federation/v1/send/1"),
            ("GET", "/_matrix/federation/v1/query/profile"),
        ):
            reply = await self.request(method, path, {} if method == "PUT" else None, expect=404)
            self.assertEqual(reply.json["errcode"], "M_UNRECOGNIZED")
        await self.request("GET", "/.well-known/matrix/server", expect=404)

    async def test_nobody_elsewhere_can_be_reached(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice)
        await self.request("POST", "/_matrix/client/v3/join/!x:other.test", {}, alice, expect=404)
        await self.request("POST", "/_matrix/client/v3/join/%23x:other.test", {}, alice, expect=404)
        body = {"user_id": "@bob:other.test"}
        await self.request("POST", f"/_matrix/client/v3/rooms/{room}/invite", body, alice, expect=403)
        await self.request("GET", "/_matrix/client/v3/profile/@bob:other.test", expect=404)
