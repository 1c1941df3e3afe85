# SPDX-License-Identifier: Apache-2.0
"""Numbers of names: given once, found from anywhere, forgotten with a failed transaction; ids survive packing."""

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.room_versions import ROOM_VERSIONS
from storage import membership, names, rooms
from storage.caches import Budget, Cache
from storage.db import Txn
from storage.events import pack_id, unpack_id
from tests.storage.temporary import Waiter

ODD = "@nul\0 ü☃:example.org"


class NamesTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiter = Waiter()
        self.addCleanup(self.waiter.close)

    def test_a_name_has_one_number_for_ever(self) -> None:
        first = self.waiter.write(names.intern_user, ODD, False)
        self.assertEqual(self.waiter.write(names.intern_user, ODD, False), first)
        self.waiter.engine.names.clear()
        self.assertEqual(self.waiter.read(names.user_nid, ODD), first)
        self.assertEqual(self.waiter.read(names.user_id, first), ODD)
        self.waiter.engine.names.clear()
        self.assertEqual(self.waiter.read(names.user_ids, [first]), {first: ODD})
        self.assertEqual(self.waiter.read(names.user_nids, [ODD, "@nobody:x"]), {ODD: first})

    def test_state_keys_are_numbered_by_type_and_key(self) -> None:
        one = self.waiter.write(names.intern_skey, "m.room.member", ODD)
        other = self.waiter.write(names.intern_skey, "m.room.name", "")
        self.assertNotEqual(one, other)
        self.waiter.engine.names.clear()
        found = self.waiter.read(names.skeys, [one, other])
        self.assertEqual(found, {one: ("m.room.member", ODD), other: ("m.room.name", "")})

    def test_a_number_given_in_a_write_that_fails_is_not_remembered(self) -> None:
        def fails(txn: Txn) -> None:
            names.intern_user(txn, "@gone:x", True)
            raise ValueError

        self.assertRaises(ValueError, self.waiter.write, fails)
        self.assertIsNone(self.waiter.read(names.user_nid, "@gone:x"))
        other = self.waiter.write(names.intern_user, "@other:x", True)
        self.assertEqual(self.waiter.read(names.user_id, other), "@other:x")

    def test_memberships_move_their_beginning_with_their_kind_only(self) -> None:
        def step(txn: Txn, kind: int, event: int) -> membership.Membership:
            membership.put(txn, 1, 2, kind, event, event)
            found = membership.of(txn, 1, 2)
            assert found is not None
            return found

        self.assertEqual(self.waiter.write(step, membership.INVITE, 5).since, 5)
        self.assertEqual(self.waiter.write(step, membership.JOIN, 7).since, 7)
        self.assertEqual(self.waiter.write(step, membership.JOIN, 9)[3:5], (9, 7))
        self.assertFalse(self.waiter.write(membership.forget, 1, 2))
        self.waiter.write(step, membership.LEAVE, 11)
        self.assertTrue(self.waiter.write(membership.forget, 1, 2))
        self.assertEqual(self.waiter.read(membership.of_user, 1, (membership.LEAVE,)), [])
        self.assertFalse(self.waiter.write(step, membership.JOIN, 13).forgotten)

    def test_heads_survive_the_room_row(self) -> None:
        heads = [rooms.Head(2**40, 17), rooms.Head(3, 2**33)]
        nid = self.waiter.write(rooms.create, "!room:x", "10")
        self.waiter.write(lambda txn: rooms.advance(txn, nid, last=5, state=17, next_row=2, heads=heads))
        row = self.waiter.read(rooms.get, nid)
        self.assertEqual((row.heads, row.version, row.last, row.room_id), (tuple(heads), "10", 5, "!room:x"))


class Ids(SynchronousTestCase):
    @given(st.binary(min_size=32, max_size=32))
    def test_ids_made_of_hashes_take_32_bytes(self, digest: bytes) -> None:
        urlsafe = "$" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
        plain = "$" + base64.b64encode(digest).decode().rstrip("=")
        self.assertEqual((pack_id(urlsafe), pack_id(plain)), (digest, digest))
        self.assertEqual(unpack_id(digest, ROOM_VERSIONS["12"]), urlsafe)
        self.assertEqual(unpack_id(digest, ROOM_VERSIONS["3"]), plain)

    @given(st.text(max_size=60))
    def test_other_ids_are_their_text(self, text: str) -> None:
        event_id = f"${text}:example.org"
        self.assertEqual(unpack_id(pack_id(event_id), ROOM_VERSIONS["1"]), event_id)

    def test_a_second_spelling_of_a_hash_is_another_id(self) -> None:
        digest = b"\xff" * 32
        canonical = "$" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
        other = canonical[:-1] + chr(ord(canonical[-1]) + 1)  # differs in the two spare bits
        self.assertNotEqual(pack_id(other), digest)


class Caches(SynchronousTestCase):
    def test_the_budget_is_kept_by_the_largest_cache_and_its_oldest_entries(self) -> None:
        budget = Budget(1000)
        small: Cache[int, bytes] = Cache("small", budget, lambda key, value: len(value))
        large: Cache[int, bytes] = Cache("large", budget, lambda key, value: len(value))
        small.put(1, b"x" * 100)
        for key in range(9):
            large.put(key, b"x" * 100)
        large.get(0)
        large.put(9, b"x" * 100)
        self.assertEqual((budget.used, small.get(1), large.get(1)), (1000, b"x" * 100, None))
        self.assertIsNotNone(large.get(0))
        self.assertEqual(budget.report(), {"small": (1, 100), "large": (9, 900)})
        large.drop(0)
        large.clear()
        self.assertEqual((budget.used, large.bytes), (100, 0))
