# SPDX-License-Identifier: Apache-2.0
"""A server with an application service beside it."""

from collections.abc import Callable
from typing import Any

from tests.appservices.service import AS_TOKEN, HS_TOKEN, Service
from tests.harness.server import HomeserverCase, Reply

V3 = "/_matrix/client/v3"
BOT = "@ircbot:parley.test"
ANN = "@irc_ann:parley.test"


class ServiceCase(HomeserverCase):
    """`service` listens; its namespaces are @irc_.*, #irc_.* and rooms whose ids start with !irc."""

    settings = "appservices: [irc.yaml]"
    registration = ""
    has_url = True
    rate_limited = "false"

    async def setUp(self) -> None:  # type: ignore[override]
        self.service = Service()
        self.service.start()
        self.addCleanup(self.service.stop)
        await super().setUp()

    async def start_server(self) -> None:
        (self.folder / "irc.yaml").write_text(
            f"""
id: irc
url: {self.service.url if self.has_url else "null"}
as_token: {AS_TOKEN}
hs_token: {HS_TOKEN}
sender_localpart: ircbot
rate_limited: {self.rate_limited}
namespaces:
  users: [{{regex: "@irc_.*:parley\\\\.test", exclusive: true}}]
  aliases: [{{regex: "#irc_.*", exclusive: true}}]
  rooms: []
protocols: [irc]
{self.registration}
"""
        )
        await super().start_server()

    async def run_service(
        self, method: str, path: str, body: Any = None, *, user: str | None = None, **more: Any
    ) -> Reply:
        """A request of the service, as one of its users."""
        query = {**more.pop("query", {}), **({} if user is None else {"user_id": user})}
        return await self.request(method, path, body, AS_TOKEN, query=query, **more)

    async def make_ann(self) -> None:
        body = {"type": "m.login.application_service", "username": "irc_ann", "inhibit_login": True}
        await self.run_service("POST", f"{V3}/register", body, expect=200)

    async def until(self, condition: Callable[[], object], step: float = 0.01) -> None:
        """Wait for something to become true, time going on in steps of `step` seconds."""
        for _ in range(1500):
            if condition():
                return
            self.clock.advance(step)
            await self.settle(0.002)
        raise AssertionError(f"it did not happen; faults: {self.service.faults}, asked: {self.service.asked[-3:]}")

    async def nothing_more(self) -> None:
        """Let what may come come."""
        for _ in range(15):
            self.clock.advance(0.01)
            await self.settle(0.002)
        self.assertEqual(self.service.faults, [])
