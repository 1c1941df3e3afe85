# SPDX-License-Identifier: Apache-2.0
"""Whose devices a client must look at again, and whom it stops tracking, compared with the definition."""

import itertools
from unittest import TestCase

import attrs
import hypothesis.strategies as st
from hypothesis import given, settings

from storage import device_lists, membership
from storage.txn import Txn
from tests.e2e.case import V3, EncryptionCase
from tests.harness.server import PASSWORD, Session
from tests.storage.temporary import Waiter

USERS, ROOMS = 3, 2
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("kind"), st.integers(0, USERS - 1), st.integers(0, ROOMS - 1), st.sampled_from((0, 1, 1, 4))),
        st.tuples(st.just("keys"), st.integers(0, USERS - 1), st.just(0), st.just(0)),
        st.tuples(st.just("sign"), st.integers(0, USERS - 1), st.integers(0, USERS - 1), st.just(0)),
    ),
    min_size=8,
    max_size=30,
)


@attrs.define
class World:
    """The definition: who was joined where, and who changed keys, at every position."""

    joined: list[tuple[int, frozenset[tuple[int, int]]]]
    keys: list[tuple[int, int, int]]

    def shares(self, one: int, other: int, pos: int) -> bool:
        now = [pairs for at, pairs in self.joined if at <= pos][-1]
        rooms = {room for usr, room in now if usr == one}
        return any((other, room) in now for room in rooms)

    def answer(self, usr: int, everybody: list[int], since: int, upto: int) -> tuple[list[int], list[int]]:
        changed, left = set(), set()
        window = [(who, viewer) for pos, who, viewer in self.keys if since < pos <= upto]
        changed |= {who for who, viewer in window if usr in (who, viewer) and viewer in (0, usr)}
        for other in everybody:
            if other == usr:
                continue
            before, after = self.shares(usr, other, since), self.shares(usr, other, upto)
            if after and (not before or (other, 0) in window):
                changed.add(other)
            elif before and not after:
                left.add(other)
        return sorted(changed), sorted(left)


class DefinitionTest(TestCase):
    """One database serves all examples; each has users and rooms of its own."""

    def setUp(self) -> None:
        self.waiter = Waiter()
        self.examples = itertools.count(1)

    def tearDown(self) -> None:
        self.waiter.close()

    @settings(max_examples=150, deadline=None)
    @given(STEPS, st.booleans())
    def test_every_window_of_every_history(self, steps: list[tuple[str, int, int, int]], many: bool) -> None:
        base = next(self.examples) * 100
        everybody = [base + n for n in range(USERS)]
        start = self.waiter.write(lambda txn: txn.position())
        world = World([(0, frozenset())], [])
        positions = [start]
        for step, who, where, kind in steps:
            usr = base + who
            if step == "kind":
                pos = self.waiter.write(_set_membership, usr, base + where, kind)
                pairs = world.joined[-1][1] - {(usr, base + where)}
                world.joined.append((pos, pairs | {(usr, base + where)} if kind == 1 else pairs))
            else:
                viewer = 0 if step == "keys" else base + where
                pos = self.waiter.write(device_lists.record, usr, viewer)
                world.keys.append((pos, usr, viewer))
            positions.append(pos)
        checked = [*positions[:: 1 + len(positions) // 8], positions[-1]]
        for since, upto in itertools.combinations(checked, 2):
            for usr in everybody:
                found = self.waiter.read(device_lists.changed, usr, since, upto, 1 if many else 2000, snapshot=True)
                self.assertEqual(found, world.answer(usr, everybody, since, upto), (usr, since, upto))


def _set_membership(txn: Txn, usr: int, room: int, kind: int) -> int:
    pos = txn.position()
    membership.put(txn, usr, room, kind, pos, pos)
    return pos


class DeviceListsTest(EncryptionCase):
    """The same through the endpoints."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = await self.register("alice"), await self.register("bob")
        self.alice_usr, _ = await self.numbers(self.alice)
        self.bob_usr, _ = await self.numbers(self.bob)
        await self.set_membership(self.alice_usr, 1, membership.JOIN)
        await self.set_membership(self.bob_usr, 1, membership.JOIN)
        self.since = self.app.base.db.published

    async def changes(self, session: Session) -> tuple[list[str], list[str]]:
        upto = self.app.base.db.published
        path = f"{V3}/keys/changes?from=s{self.since}_0&to=s{upto}_0"
        answer = (await self.request("GET", path, None, session, expect=200)).json
        self.since = upto
        return answer["changed"], answer["left"]

    async def test_new_identity_keys_are_a_change_for_oneself_and_for_those_who_share_a_room(self) -> None:
        carol = await self.register("carol")
        since = self.since
        await self.publish(self.bob)
        for session in (self.alice, self.bob):
            self.since = since
            self.assertEqual(await self.changes(session), ([self.bob.user_id], []))
        self.since = since
        self.assertEqual(await self.changes(carol), ([], []))

    async def test_one_time_keys_are_no_change(self) -> None:
        await self.publish(self.bob)
        self.since = self.app.base.db.published
        await self.upload(self.bob, one_time_keys=self.device(self.bob).one_time(1))
        await self.claim(self.alice, self.bob)
        self.assertEqual(await self.changes(self.alice), ([], []))

    async def test_a_deleted_device_with_keys_is_a_change(self) -> None:
        second = await self.login("bob")
        await self.publish(second)
        self.since = self.app.base.db.published
        await self.request("POST", f"{V3}/logout", None, second, expect=200)
        self.assertEqual(await self.changes(self.alice), ([self.bob.user_id], []))

    async def test_a_device_without_keys_is_none(self) -> None:
        second = await self.login("bob")
        await self.request("POST", f"{V3}/logout", None, second, expect=200)
        self.assertEqual(await self.changes(self.alice), ([], []))

    async def test_cross_signing_keys_and_signatures_are_changes(self) -> None:
        await self.publish(self.bob)
        self.since = self.app.base.db.published
        owner = await self.cross_sign(self.bob)
        self.assertEqual(await self.changes(self.alice), ([self.bob.user_id], []))
        signed = owner.sign_with("self_signing", self.device(self.bob).keys())
        body = {self.bob.user_id: {self.bob.device_id: signed}}
        for expected in ([self.bob.user_id], []):
            await self.request("POST", f"{V3}/keys/signatures/upload", body, self.bob, expect=200)
            self.assertEqual(await self.changes(self.alice), (expected, []))

    async def test_signing_somebody_is_news_to_the_signer_only(self) -> None:
        carol = await self.register("carol")
        mine, theirs = await self.cross_sign(self.alice), await self.cross_sign(carol)
        self.since = since = self.app.base.db.published
        signed = mine.sign_with("user_signing", theirs.bare("master"))
        body = {carol.user_id: {theirs.public("master"): signed}}
        await self.request("POST", f"{V3}/keys/signatures/upload", body, self.alice, expect=200)
        self.assertEqual(await self.changes(self.alice), ([carol.user_id], []))
        for session in (carol, self.bob):
            self.since = since
            self.assertEqual(await self.changes(session), ([], []))

    async def test_a_reset_of_cross_signing_is_a_change(self) -> None:
        await self.cross_sign(self.bob)
        self.since = self.app.base.db.published
        await self.cross_sign(self.bob, generation=1)
        self.assertEqual(await self.changes(self.alice), ([self.bob.user_id], []))

    async def test_a_closed_account_has_left(self) -> None:
        await self.publish(self.bob)
        self.since = self.app.base.db.published
        await self.set_membership(self.bob_usr, 1, membership.LEAVE)
        auth = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "bob"},
            "password": PASSWORD,
        }
        await self.request("POST", f"{V3}/account/deactivate", {"auth": auth}, self.bob)
        self.assertEqual(await self.changes(self.alice), ([], [self.bob.user_id]))

    async def test_malformed_tokens_are_refused(self) -> None:
        for query, errcode in (
            ("", "M_MISSING_PARAM"),
            ("?from=s1_0", "M_MISSING_PARAM"),
            ("?from=x&to=s1_0", "M_INVALID_PARAM"),
            ("?from=s1_0&to=s-1_0", "M_INVALID_PARAM"),
        ):
            reply = await self.request("GET", f"{V3}/keys/changes{query}", None, self.alice)
            self.assertEqual((reply.status, reply.json["errcode"]), (400, errcode), query)
