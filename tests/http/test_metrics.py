# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads, and health."""

import re

from tests.harness.server import HomeserverCase


class Seen(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def values(self) -> dict[str, float]:
        text = (await self.request("GET", "/metrics", expect=200)).body.decode()
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*) (\S+)$", text, re.MULTILINE)}

    async def test_requests_commits_position_and_caches_are_measured(self) -> None:
        alice = await self.register("alice")
        await self.send(alice, await self.create_room(alice))
        seen = await self.values()
        path = "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}"
        self.assertEqual(seen[f'parley_http_requests_total{{method="PUT",path="{path}",status="200"}}'], 1)
        self.assertEqual(seen[f'parley_http_seconds_count{{method="PUT",path="{path}"}}'], 1)
        self.assertEqual(seen["parley_stream_position"], self.app.base.db.published)
        self.assertGreater(seen["parley_commit_seconds_count"], 2)
        self.assertEqual(seen["parley_commit_seconds_count"], seen["parley_commit_writes_count"])
        self.assertGreater(sum(value for name, value in seen.items() if name.startswith("parley_cache_bytes{")), 0)

    async def test_open_long_polls_are_counted(self) -> None:
        alice = await self.register("alice")
        since = (await self.sync(alice))["next_batch"]
        query = {"timeout": 30_000, "since": since}
        polling = self.begin("GET", "/_matrix/client/v3/sync", None, alice, query=query)
        await self.settle(0.05)
        self.assertEqual((await self.values())["parley_long_polls"], 1)
        self.clock.advance(31)
        await self.eventually(polling, 1.0)
        self.assertEqual((await self.values())["parley_long_polls"], 0)

    async def test_no_label_holds_what_a_client_chose(self) -> None:
        await self.request("GET", "/_matrix/client/v3/rooms/!secret/messages", expect=401)
        await self.request("GET", "/never-heard-of/secret", expect=404)
        self.assertNotIn("secret", "".join(await self.values()))

    async def test_a_stopping_server_is_live_but_not_ready(self) -> None:
        await self.request("GET", "/health/ready", expect=200)
        self.app.stopping = True
        self.addCleanup(setattr, self.app, "stopping", False)
        reply = await self.request("GET", "/health", expect=503, validate=False)
        self.assertEqual(reply.json["status"], "unready")
        await self.request("GET", "/health/live", expect=200)
