# SPDX-License-Identifier: Apache-2.0
"""Server names lead to hosts, ports and certificates as the specification says."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import defer, reactor, task
from twisted.names import dns, server
from twisted.trial.unittest import TestCase

from federation.outbound.resolver import Resolver, in_order, service_finder
from federation.outbound.transport import Response, Target, Unreachable
from homeserver.runtime import Runtime

HOUR = 3_600


class World:
    """Well-known files and SRV records of a test. What is not there answers 404, or not at all."""

    def __init__(self, files: Mapping[str, Any] | None = None, records: Mapping[str, Any] | None = None) -> None:
        self.files = dict(files or {})
        self.records = dict(records or {})
        self.asked: list[str] = []
        self.clock = task.Clock()

    async def fetch(self, target: Target, path: str) -> Response:
        self.asked.append(target.host)
        found = self.files.get(target.host + path.removeprefix("/.well-known/matrix/server"))
        if found is None:
            raise Unreachable("nothing is there")
        if isinstance(found, Response):
            return found
        return Response(200, {}, found if isinstance(found, bytes) else b'{"m.server": "%s"}' % found.encode())

    async def look_up(self, name: str) -> Sequence[tuple[str, int]]:
        found = self.records.get(name, ())
        if isinstance(found, Unreachable):
            raise found
        return list(found)

    def resolver(self) -> Resolver:
        return Resolver(Runtime(reactor, clock=self.clock, epoch_ms=0), self.fetch, self.look_up)


class Names(TestCase):
    async def check(self, world: World, name: str, *wanted: Target) -> None:
        self.assertEqual((await world.resolver().resolve(name)).targets, wanted, name)

    async def test_addresses_and_ports_stand_for_themselves(self) -> None:
        world = World({"a.test": "b.test"})
        await self.check(world, "192.0.2.1", Target("192.0.2.1", 8448, "192.0.2.1", "192.0.2.1"))
        await self.check(world, "192.0.2.1:80", Target("192.0.2.1", 80, "192.0.2.1", "192.0.2.1:80"))
        await self.check(world, "[2001:db8::1]", Target("2001:db8::1", 8448, "2001:db8::1", "[2001:db8::1]"))
        await self.check(world, "[2001:db8::1]:1", Target("2001:db8::1", 1, "2001:db8::1", "[2001:db8::1]:1"))
        await self.check(world, "a.test:99", Target("a.test", 99, "a.test", "a.test:99"))
        self.assertEqual(world.asked, [])

    async def test_a_well_known_file_delegates(self) -> None:
        world = World(
            {"ip.test": "192.0.2.7", "port.test": "b.test:7", "srv.test": "c.test", "plain.test": "d.test"},
            {"_matrix-fed._tcp.c.test": [("x.c.test", 1), ("y.c.test", 2)], "_matrix-fed._tcp.srv.test": [("no", 1)]},
        )
        await self.check(world, "ip.test", Target("192.0.2.7", 8448, "192.0.2.7", "192.0.2.7"))
        await self.check(world, "port.test", Target("b.test", 7, "b.test", "b.test:7"))
        one, two = Target("x.c.test", 1, "c.test", "c.test"), Target("y.c.test", 2, "c.test", "c.test")
        await self.check(world, "srv.test", one, two)
        await self.check(world, "plain.test", Target("d.test", 8448, "d.test", "d.test"))

    async def test_without_one_records_count_and_then_the_port(self) -> None:
        records = {"_matrix-fed._tcp.new.test": [("n", 1)], "_matrix._tcp.new.test": [("o", 2)]}
        world = World(
            {}, {**records, "_matrix._tcp.old.test": [("o", 2)], "_matrix-fed._tcp.old.test": Unreachable("")}
        )
        await self.check(world, "new.test", Target("n", 1, "new.test", "new.test"))
        await self.check(world, "old.test", Target("o", 2, "old.test", "old.test"))
        await self.check(world, "none.test", Target("none.test", 8448, "none.test", "none.test"))

    async def test_bad_files_count_as_none(self) -> None:
        for body in (b"", b"[]", b"{}", b'{"m.server": 5}', b'{"m.server": "not a name"}', b"<html>"):
            await self.check(World({"a.test": body}), "a.test", Target("a.test", 8448, "a.test", "a.test"))
        wrong = World({"a.test": Response(500, {}, b'{"m.server": "b.test:1"}')})
        await self.check(wrong, "a.test", Target("a.test", 8448, "a.test", "a.test"))
        for name in ("", "a b", "a.test:port", "[::1"):
            with self.assertRaises(Unreachable):
                await World().resolver().resolve(name)

    async def test_redirects_are_followed_but_not_for_ever(self) -> None:
        there = Response(302, {"location": "https://b.test/x"}, b"")
        world = World({"a.test": there, "b.test/x": "c.test:5"})
        await self.check(world, "a.test", Target("c.test", 5, "c.test", "c.test:5"))
        round_and_round = Response(302, {"location": "/.well-known/matrix/server"}, b"")
        await self.check(World({"a.test": round_and_round}), "a.test", Target("a.test", 8448, "a.test", "a.test"))
        plain = Response(302, {"location": "http://b.test/"}, b"")
        await self.check(World({"a.test": plain}), "a.test", Target("a.test", 8448, "a.test", "a.test"))

    async def test_files_are_remembered_as_long_as_they_say(self) -> None:
        world = World({"a.test": Response(200, {"cache-control": f"public, max-age={HOUR}"}, b'{"m.server":"b:1"}')})
        resolver = world.resolver()
        for _ in range(3):
            await resolver.resolve("a.test")
        self.assertEqual(world.asked, ["a.test"])
        world.clock.advance(HOUR + 1)
        await resolver.resolve("a.test")
        self.assertEqual(len(world.asked), 2)
        del world.files["a.test"]
        world.clock.advance(HOUR + 1)
        found = await resolver.resolve("a.test")
        self.assertEqual(found.targets[0].host, "b", "one that worked is kept over a failure")

    async def test_failures_are_remembered_for_an_hour(self) -> None:
        world = World()
        resolver = world.resolver()
        await resolver.resolve("a.test")
        await resolver.resolve("a.test")
        self.assertEqual(world.asked, ["a.test"])
        world.clock.advance(HOUR + 1)
        await resolver.resolve("a.test")
        self.assertEqual(len(world.asked), 2)


class Records:
    """The zone of a DNS server of the test's own."""

    def __init__(self, records: Mapping[str, Sequence[Any]]) -> None:
        self._records = records

    def query(self, query: Any, timeout: Any = None) -> Any:
        name = query.name.name.decode()
        found = [
            dns.RRHeader(name, record.TYPE, dns.IN, 60, record)
            for record in self._records.get(name, ())
            if record.TYPE == query.type
        ]
        return defer.succeed((found, [], []))


class Dns(TestCase):
    async def test_records_are_looked_up_at_the_servers_of_the_configuration(self) -> None:
        records = {
            "_matrix-fed._tcp.a.test": [dns.Record_SRV(10, 1, 2, "second.test"), dns.Record_SRV(5, 1, 1, "first.test")],
            "_matrix-fed._tcp.off.test": [dns.Record_SRV(0, 0, 0, "")],
        }
        protocol = dns.DNSDatagramProtocol(server.DNSServerFactory(clients=[Records(records)]))
        port: Any = reactor.listenUDP(0, protocol, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        look_up = service_finder(Runtime(reactor), [f"127.0.0.1:{port.getHost().port}"])
        self.assertEqual(await look_up("_matrix-fed._tcp.a.test"), [("first.test", 1), ("second.test", 2)])
        self.assertEqual(list(await look_up("_matrix-fed._tcp.none.test")), [])
        with self.assertRaises(Unreachable):
            await look_up("_matrix-fed._tcp.off.test")

    def test_weights_share_out_the_load(self) -> None:
        import random

        records = [dns.Record_SRV(1, weight, weight, f"w{weight}") for weight in (1, 9)]
        chance = random.Random(4)
        first = [in_order(records, chance)[0][0] for _ in range(1_000)]
        self.assertTrue(820 < first.count("w9") < 980, first.count("w9"))
