# SPDX-License-Identifier: Apache-2.0
"""How often somebody may call."""

import attrs
from twisted.trial.unittest import TestCase

from homeserver.config.load import ConfigError, parse
from homeserver.http.dispatch import network_of
from homeserver.http.limits import Limits
from homeserver.protocol.errors import MatrixError
from tests.harness.server import HomeserverCase


@attrs.frozen
class Rate:
    per_second: float
    burst: int


class Buckets(TestCase):
    def setUp(self) -> None:
        self.limits = Limits({"default": Rate(1.0, 5), "login": Rate(0.5, 2)}, remembered=10)

    def refused(self, limit: str, who: object, now: float) -> int | None:
        try:
            self.limits.take(limit, who, now)  # type: ignore[arg-type]
        except MatrixError as error:
            self.assertEqual((error.status, error.errcode), (429, "M_LIMIT_EXCEEDED"))
            return error.retry_after_ms
        return None

    def test_a_burst_is_taken_and_then_the_rate(self) -> None:
        self.assertEqual([self.refused("login", 1, 0.0) for _ in range(3)], [None, None, 2000])
        self.assertEqual(self.refused("login", 1, 1.0), 1000)
        self.assertIsNone(self.refused("login", 1, 2.0))

    def test_a_refused_call_costs_nothing(self) -> None:
        for _ in range(20):
            self.refused("login", 1, 0.0)
        self.assertIsNone(self.refused("login", 1, 2.0))

    def test_everybody_has_a_bucket_of_their_own_for_each_limit(self) -> None:
        for _ in range(3):
            self.refused("login", 1, 0.0)
        self.assertIsNone(self.refused("login", 2, 0.0))
        self.assertIsNone(self.refused("other", 1, 0.0))

    def test_an_unnamed_limit_has_the_default_rate(self) -> None:
        self.assertEqual([self.refused("other", 1, 0.0) for _ in range(6)][-1], 1000)

    def test_some_users_may_call_more_often_or_less_or_as_they_like(self) -> None:
        rates = {"default": Rate(1.0, 5), "login": Rate(0.5, 2)}
        self.limits.change(rates, {"@bot:x": 10.0, "@free:x": 0.0, "@slow:x": 0.5})

        def calls(usr: int, user_id: str) -> int:
            for number in range(200):
                try:
                    self.limits.take_of_user("default", usr, user_id, 0.0)
                except MatrixError:
                    return number
            return 200

        taken = [calls(usr, f"@{name}:x") for usr, name in enumerate(("bot", "free", "slow", "other"))]
        self.assertEqual(taken, [50, 200, 2, 5])

    def test_memory_is_bounded(self) -> None:
        for who in range(100):
            self.refused("login", who, 0.0)
        self.assertLessEqual(len(self.limits._buckets["login"]), 11)

    def test_full_buckets_are_forgotten(self) -> None:
        for who in range(5):
            self.refused("other", who, 0.0)
        for _ in range(4):
            self.refused("other", "late", 1000.0)
        self.assertEqual(list(self.limits._buckets["other"]), ["late"])

    def test_limits_can_be_off_and_changed(self) -> None:
        self.limits.change(None)
        self.assertEqual([self.refused("login", 1, 0.0) for _ in range(9)], [None] * 9)
        self.limits.change({"default": Rate(1.0, 1)})
        self.assertEqual([self.refused("login", 1, 0.0) for _ in range(2)], [None, 1000])

    def test_ipv6_addresses_of_one_customer_count_as_one(self) -> None:
        self.assertEqual(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:2:ffff::9"))
        self.assertNotEqual(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:3::1"))
        self.assertEqual(network_of("192.0.2.1"), "192.0.2.1")


class Configured(HomeserverCase):
    settings = """
rate_limits:
  default: {per_second: 0.01, burst: 2}
  users: [{user: "@bot:parley.test", factor: 0}]
"""

    async def test_a_user_may_have_limits_of_their_own(self) -> None:
        for name, seen in (("bot", [200] * 4), ("alice", [200, 200, 429, 429])):
            user = await self.register(name)
            path = "/_matrix/client/v3/capabilities"
            self.assertEqual([(await self.request("GET", path, token=user)).status for _ in range(4)], seen)

    def test_what_is_no_user_is_refused(self) -> None:
        for wrong in ("{user: bot, factor: 1}", "{user: '@bot:x', factor: -1}", "{user: '@bot:x'}"):
            with self.assertRaises(ConfigError):
                parse(f"server_name: x\nrate_limits: {{users: [{wrong}]}}", "test.yaml", self.folder, {})
