# SPDX-License-Identifier: Apache-2.0
"""What holds for every interleaving: messages arrive in order and once kept never get lost; keys are given once."""

import itertools
from unittest import TestCase

import hypothesis.strategies as st
from hypothesis import given, settings

from homeserver.services.e2e_keys import Target, claim_keys
from storage import one_time_keys, to_device
from storage.one_time_keys import Key
from storage.to_device import Addressed
from tests.storage.temporary import Waiter

LIMIT = 3
SEND_OR_SYNC = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 2)),
        st.tuples(st.just("sync"), st.booleans()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=30,
)
UPLOAD_OR_CLAIM = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), st.lists(st.integers(0, 12), min_size=1, max_size=4)),
        st.tuples(st.just("claim"), st.integers(1, 4)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


class Client:
    """A device that syncs: it knows what it has seen and the position its token carries."""

    def __init__(self, waiter: Waiter, device: int) -> None:
        self.waiter = waiter
        self.device = device
        self.position = 0
        self.seen: list[bytes] = []

    def sync(self, upto: int, *, answer_arrives: bool) -> int:
        """One sync: the token acknowledges, then messages come, and the new token, unless the answer is lost."""
        self.waiter.write(to_device.acknowledge, self.device, self.position)
        messages, position = self.waiter.read(to_device.for_sync, self.device, self.position, upto, LIMIT)
        if answer_arrives:
            self.seen += messages
            self.position = position
        return len(messages)


class PropertyTest(TestCase):
    """One database serves all examples; each uses a device of its own."""

    def setUp(self) -> None:
        self.waiter = Waiter()
        self.numbers = itertools.count(1)

    def tearDown(self) -> None:
        self.waiter.close()

    def restart(self) -> None:
        self.waiter.close()
        self.waiter = Waiter(self.waiter.url)

    @settings(max_examples=40, deadline=None)
    @given(SEND_OR_SYNC)
    def test_to_device_messages_arrive_in_order_and_none_is_lost(self, steps: list[tuple[str, int]]) -> None:
        client = Client(self.waiter, next(self.numbers))
        sent: list[bytes] = []
        published = 0
        for step, argument in steps:
            if step == "send":
                new = [b"%d" % (len(sent) + n) for n in range(argument)]
                sent += new
                published = self.waiter.write(to_device.queue, [Addressed(1, client.device, one) for one in new])
            elif step == "sync":
                client.sync(published, answer_arrives=bool(argument))
            else:
                self.restart()
                client.waiter = self.waiter
            self.assertEqual(client.seen, sent[: len(client.seen)])
        while client.sync(published, answer_arrives=True):
            pass
        self.assertEqual(client.seen, sent)
        client.sync(published, answer_arrives=True)
        self.assertFalse(self.waiter.read(to_device.has_acknowledged, client.device, published))

    @settings(max_examples=40, deadline=None)
    @given(UPLOAD_OR_CLAIM)
    def test_a_one_time_key_is_given_once_and_in_order(self, steps: list[tuple[str, object]]) -> None:
        device = next(self.numbers)
        line: list[str] = []
        given_out: list[str] = []
        for step, argument in steps:
            if step == "upload":
                assert isinstance(argument, list)
                self.upload(device, argument)
                line += sorted({str(n).zfill(3) for n in argument} - {*line, *given_out})
            elif step == "claim":
                assert isinstance(argument, int)
                for key in self.claim_at_once(device, argument):
                    self.assertEqual(key, line.pop(0) if line else None)
                    given_out += [key] if key else []
            else:
                self.restart()
        self.assertEqual(len(given_out), len(set(given_out)))
        counts = self.waiter.read(one_time_keys.counts, device)
        self.assertEqual(counts.one_time, {"a": len(line)} if line else {})

    def upload(self, device: int, numbers: list[int]) -> None:
        keys = [Key("a", str(n).zfill(3), b'"%d"' % n) for n in set(numbers)]
        self.waiter.write(lambda txn: one_time_keys.add(txn, device, keys, txn.position()))

    def claim_at_once(self, device: int, times: int) -> list[str | None]:
        """Claims that wait together, and so go through group commits as they fall."""
        target = Target("@a:parley.test", 1, "A", device, "a")
        claims = [self.waiter.submit(claim_keys, [target]) for _ in range(times)]
        keys = [claim()[1][0].key for claim in claims]
        return [None if key is None else key.id for key in keys]
