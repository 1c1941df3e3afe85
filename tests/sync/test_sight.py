# SPDX-License-Identifier: Apache-2.0
"""When an event's state must be asked whether the user may see it."""

from twisted.trial.unittest import SynchronousTestCase

from homeserver.services.sync.sight import Viewer, needs_settings
from storage.events import StoredEvent
from storage.membership import JOIN, LEAVE
from storage.sync_reads import EventRow, Membership

VIEWER = Viewer(1, "@alice:home.test")


def row(nid: int, sender: str) -> EventRow:
    event = StoredEvent(nid, nid << 20, 7, "$x", "m.room.message", None, sender, 0, b"{}", 0, None, 1)
    return EventRow(nid, nid << 20, event, 16, None, 2)


class SightTest(SynchronousTestCase):
    def test_what_neighbors_send_after_the_join_is_seen(self) -> None:
        self.assertFalse(needs_settings(VIEWER, Membership(7, JOIN, 5, 5, 0), [row(5, "@bob:home.test")]))

    def test_what_was_before_the_join_depends_on_the_room(self) -> None:
        self.assertTrue(needs_settings(VIEWER, Membership(7, JOIN, 5, 5, 0), [row(4, "@bob:home.test")]))

    def test_what_comes_from_elsewhere_depends_on_the_room(self) -> None:
        for sender in ("@carol:away.test", "@carol:home.test.evil", "@carol:evilhome.test"):
            self.assertTrue(needs_settings(VIEWER, Membership(7, JOIN, 5, 5, 0), [row(9, sender)]), sender)

    def test_for_who_is_not_joined_each_event_decides(self) -> None:
        self.assertFalse(needs_settings(VIEWER, Membership(7, LEAVE, 5, 5, 0), [row(4, "@bob:home.test")]))
