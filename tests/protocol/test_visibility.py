# SPDX-License-Identifier: Apache-2.0
"""History visibility at every boundary."""

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.room_versions import V11
from homeserver.protocol.visibility import can_see, can_see_event, server_can_see, visibility_in, visibility_of
from tests.protocol.dag import ALICE, BOB, Room

SETTINGS = ("world_readable", "shared", "invited", "joined")
MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")


class Messages(SynchronousTestCase):
    def test_every_case_of_setting_membership_and_later_join(self) -> None:
        for setting, membership, later in product(SETTINGS, MEMBERSHIPS, (False, True)):
            expected = (
                setting == "world_readable"
                or membership == "join"
                or (setting == "shared" and later)
                or (setting == "invited" and membership == "invite")
            )
            self.assertEqual(can_see(setting, membership, later), expected, (setting, membership, later))

    def test_who_left_sees_what_was_sent_before_and_not_what_comes_after(self) -> None:
        self.assertTrue(can_see("shared", "join", False))
        self.assertTrue(can_see("shared", "leave", True))
        self.assertFalse(can_see("shared", "leave", False))

    def test_joining_later_does_not_open_invited_and_joined_history(self) -> None:
        for setting in ("invited", "joined"):
            for membership in ("leave", "knock", "ban"):
                self.assertFalse(can_see(setting, membership, True))
        self.assertFalse(can_see("joined", "invite", True))


class Settings(SynchronousTestCase):
    def test_what_is_not_set_or_not_understood_is_shared(self) -> None:
        self.assertEqual(visibility_of(None), "shared")
        for value in ("", "Joined", "public", None, 7, ["joined"], {}):
            self.assertEqual(visibility_in(value), "shared")
        for value in SETTINGS:
            event = Room(V11).event("m.room.history_visibility", {"history_visibility": value}, ALICE, "")
            self.assertEqual(visibility_of(event), value)


class Boundaries(SynchronousTestCase):
    def change(self, before: str, after: str, state_key: str = "") -> bool:
        event = Room(V11).event("m.room.history_visibility", {"history_visibility": after}, ALICE, state_key)
        return can_see_event(event, BOB, before, "leave", False)

    def test_a_change_of_visibility_is_seen_if_before_or_after_allows_it(self) -> None:
        for before, after in product(SETTINGS, SETTINGS):
            self.assertEqual(self.change(before, after), "world_readable" in (before, after))
        self.assertFalse(self.change("joined", "world_readable", "other"))

    def member(self, user: str, before: str, after: object, setting: str = "joined") -> bool:
        event = Room(V11).event("m.room.member", {"membership": after}, user, BOB)
        return can_see_event(event, user, setting, before, False)

    def test_ones_own_membership_is_seen_if_before_or_after_allows_it(self) -> None:
        for before, after in product(MEMBERSHIPS, MEMBERSHIPS):
            self.assertEqual(self.member(BOB, before, after), "join" in (before, after))
            invited = {"join", "invite"} & {before, after}
            self.assertEqual(self.member(BOB, before, after, "invited"), bool(invited))

    def test_the_membership_of_others_changes_nothing(self) -> None:
        self.assertFalse(self.member(ALICE, "leave", "join"))
        self.assertTrue(self.member(ALICE, "join", "leave"))

    def test_a_malformed_membership_counts_as_leave(self) -> None:
        self.assertFalse(self.member(BOB, "leave", ["join"]))


class Servers(SynchronousTestCase):
    def test_a_server_gets_what_one_of_its_users_may_see(self) -> None:
        self.assertTrue(server_can_see("world_readable", []))
        self.assertTrue(server_can_see("shared", []))
        self.assertTrue(server_can_see("invited", ["leave", "invite"]))
        self.assertFalse(server_can_see("invited", ["leave", "knock"]))
        self.assertTrue(server_can_see("joined", ["leave", "join"]))
        self.assertFalse(server_can_see("joined", ["invite"]))
