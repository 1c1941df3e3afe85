# SPDX-License-Identifier: Apache-2.0
"""What memory knows of recent changes, and who wakes."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from homeserver.runtime import Runtime
from homeserver.services.notifier import Notifier
from homeserver.services.streams import LastPositions, Ring, Streams
from storage.txn import Change


class RingTest(SynchronousTestCase):
    def test_gives_what_changed_after_a_position(self) -> None:
        ring = Ring(floor=10)
        ring.add(11, 1)
        ring.add(12, 2)
        ring.add(13, 1)
        self.assertEqual(ring.since(10), {1, 2})
        self.assertEqual(ring.since(12), {1})
        self.assertEqual(ring.since(13), frozenset())
        self.assertEqual(ring.since(99), frozenset())

    def test_says_when_memory_does_not_reach_back(self) -> None:
        self.assertIsNone(Ring(floor=10).since(9))

    def test_forgets_the_oldest_and_raises_its_floor(self) -> None:
        ring = Ring(size=10)
        for position in range(1, 20_001):
            ring.add(position, position)
        self.assertIsNone(ring.since(5))
        self.assertEqual(ring.since(19_999), {20_000})

    def test_last_positions_forget_the_oldest_key(self) -> None:
        last: LastPositions[int] = LastPositions(size=2)
        for key, position in ((1, 5), (2, 6), (3, 7)):
            last.set(key, position)
        self.assertTrue(last.changed(1, 4))
        self.assertFalse(last.changed(1, 5))
        self.assertTrue(last.changed(3, 6))
        self.assertFalse(last.changed(3, 7))


class StreamsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.streams = Streams()
        self.streams.begin(100)

    def test_an_event_changes_its_room_for_everybody(self) -> None:
        self.streams.record(101, [Change(101, "event", room=7)])
        self.assertEqual(self.streams.rooms_since(100), {7})
        self.assertEqual(self.streams.published, 101)

    def test_personal_streams_change_no_room(self) -> None:
        self.streams.record(101, [Change(101, "account_data", room=7, user=3), Change(101, "private_receipt", 7, 3)])
        self.assertEqual(self.streams.rooms_since(100), frozenset())
        self.assertTrue(self.streams.own_changed(3, 1, 100))
        self.assertFalse(self.streams.own_changed(4, 1, 100))

    def test_a_device_stream_changes_that_device_only(self) -> None:
        self.streams.record(101, [Change(101, "to_device", user=3, device=9)])
        self.assertTrue(self.streams.own_changed(3, 9, 100))
        self.assertFalse(self.streams.own_changed(3, 8, 100))

    def test_before_its_beginning_everything_may_have_changed(self) -> None:
        self.assertIsNone(self.streams.rooms_since(99))
        self.assertTrue(self.streams.own_changed(3, 9, 99))
        self.assertIsNone(self.streams.users_since("device_list", 99))

    def test_device_lists_and_memberships_are_known_apart(self) -> None:
        self.streams.record(102, [Change(101, "device_list", user=3), Change(102, "membership", room=7, user=4)])
        self.assertEqual(self.streams.users_since("device_list", 100), {3})
        self.assertEqual(self.streams.rooms_since(100), {7})
        self.assertTrue(self.streams.membership_changed(4, 100))
        self.assertFalse(self.streams.membership_changed(3, 100))

    def test_typing_is_counted_apart_from_positions(self) -> None:
        number = self.streams.touch_typing(7)
        self.assertEqual(self.streams.typing_since(number - 1), {7})
        self.assertEqual(self.streams.typing_since(number), frozenset())
        self.assertEqual(self.streams.published, 100)


class NotifierTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.streams = Streams()
        self.notifier = Notifier(Runtime(self.clock, clock=self.clock), self.streams)
        self.notifier.begin(100)
        self.notifier.listen(3, frozenset({7, 8}))

    def publish(self, *changes: Change) -> None:
        self.notifier.publish(changes[-1].pos, changes)
        self.clock.advance(0)

    def test_a_change_in_a_room_wakes_who_listens_to_it(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.publish(Change(101, "event", room=9))
        self.assertNoResult(waiter)
        self.publish(Change(102, "event", room=7))
        self.assertTrue(self.successResultOf(waiter))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waiters_resume_after_the_writer(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.notifier.publish(101, [Change(101, "event", room=7)])
        self.assertNoResult(waiter)
        self.clock.advance(0)
        self.successResultOf(waiter)

    def test_a_wait_ends_without_news(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.clock.advance(30)
        self.assertFalse(self.successResultOf(waiter))
        self.assertEqual(self.notifier.waiting(), 0)

    def test_a_client_that_hangs_up_waits_no_more(self) -> None:
        waiter: Deferred[bool] = self.notifier.wait(3, 30)
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)
        self.assertEqual(self.notifier.waiting(), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_invitation_wakes_the_invited_user(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.publish(Change(101, "membership", room=55, user=3))
        self.successResultOf(waiter)

    def test_other_peoples_private_changes_wake_nobody(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.publish(Change(101, "account_data", room=7, user=4))
        self.assertNoResult(waiter)
        waiter.cancel()
        self.failureResultOf(waiter, CancelledError)

    def test_rooms_that_the_user_left_wake_no_more(self) -> None:
        self.notifier.listen(3, frozenset({8}))
        waiter = self.notifier.wait(3, 30)
        self.publish(Change(101, "event", room=7))
        self.assertNoResult(waiter)
        self.publish(Change(102, "event", room=8))
        self.successResultOf(waiter)

    def test_typing_wakes_the_room(self) -> None:
        waiter = self.notifier.wait(3, 30)
        self.notifier.typing_changed(8)
        self.clock.advance(0)
        self.successResultOf(waiter)
