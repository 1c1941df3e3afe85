# SPDX-License-Identifier: Apache-2.0
"""How many sliding sync connections are remembered."""

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.errors import MatrixError
from homeserver.services.sync.sliding import connections
from homeserver.services.sync.sliding.connections import Connections, SentRoom, Step
from homeserver.services.sync.sliding.request import parse_today
from homeserver.services.sync.sliding.state_config import RoomConfig
from homeserver.services.sync.tokens import SyncToken


class ConnectionsTest(SynchronousTestCase):
    def setUp(self) -> None:
        self.known = Connections()

    def begin(self, usr: int, name: str = "", rooms: int = 0) -> str:
        """A connection that was sent some rooms; gives its position."""
        connection = self.known.open(usr, 1, parse_today({"conn_id": name}, None, 0, "online"), "nonce")
        sent = {room: SentRoom(RoomConfig(1), 1) for room in range(rooms)}
        connection.step = Step(connection.next_seq(), SyncToken(5), sent, {}, frozenset(), None)
        return connection.pos(connection.step)

    def come_back(self, usr: int, pos: str, name: str = "") -> None:
        self.known.open(usr, 1, parse_today({"conn_id": name}, pos, 0, "online"), "other")

    def test_a_device_has_a_few_connections(self) -> None:
        first = self.begin(1, "0")
        for number in range(1, connections.PER_DEVICE + 1):
            self.begin(1, str(number))
        self.assertEqual(len(self.known), connections.PER_DEVICE)
        self.assertRaises(MatrixError, self.come_back, 1, first, "0")

    def test_all_together_remember_a_bounded_number_of_rooms(self) -> None:
        self.patch(connections, "ROOMS_REMEMBERED", 1_000)
        positions = {usr: self.begin(usr, rooms=300) for usr in (1, 2, 3, 4)}
        for usr in (1, 2, 3):
            self.come_back(usr, positions[usr])
        self.assertEqual(len(self.known), 4)
        self.come_back(4, positions[4])
        self.assertFalse(self.known.knows(1, 1, ""))
        self.assertTrue(self.known.knows(4, 1, ""))

    def test_an_answer_counts_once_its_position_comes_back(self) -> None:
        pos = self.begin(1, rooms=3)
        connection = self.known._known[1, 1, ""]
        self.assertEqual(len(connection.sent), 0)
        self.come_back(1, pos)
        self.assertEqual(len(connection.sent), 3)
        self.come_back(1, pos)
        error = self.assertRaises(MatrixError, self.come_back, 1, pos.replace("nonce", "forged"))
        self.assertEqual(error.errcode, "M_UNKNOWN_POS")
