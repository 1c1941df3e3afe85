# SPDX-License-Identifier: Apache-2.0
"""What tests of user data begin with: calls, and rooms made straight in the database."""

from typing import Any
from urllib.parse import quote

from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import DEFAULT, ROOM_VERSIONS
from storage import membership, names, rooms, unread
from storage.txn import Change
from tests.harness.server import HomeserverCase, Reply, Session
from tests.userdata.unread_world import store

V3 = "/_matrix/client/v3"
Json = dict[str, Any]


class UserDataCase(HomeserverCase):
    """Users, rooms with members, and events in them."""

    made = 0

    async def make_room(self, *members: Session) -> str:
        """A room with these members."""
        self.made += 1
        room_id = f"!room{self.made}:parley.test"
        await self.app.base.db.write(rooms.create, room_id, DEFAULT)
        for member in members:
            await self.set_membership(room_id, member, membership.JOIN)
        return room_id

    async def set_membership(self, room_id: str, member: Session, kind: int) -> None:
        def put(txn: Any) -> None:
            usr, room, pos = names.user_nid(txn, member.user_id), names.room_nid(txn, room_id), txn.position()
            assert usr is not None and room is not None
            membership.put(txn, usr, room, kind, pos, pos)
            txn.announce(Change(pos, "membership", room, usr))

        await self.app.base.db.write(put)

    async def say(self, sender: Session, room_id: str, thread: str | None = None, **content: Any) -> str:
        """An event in the room's timeline; gives its id."""
        self.made += 1
        pdu: Json = {"type": "m.room.message", "sender": sender.user_id, "room_id": room_id}
        pdu |= {"content": {"msgtype": "m.text", "body": "x", **content}}
        pdu |= {"prev_events": [], "auth_events": [], "depth": 1, "origin_server_ts": self.runtime.now_ms()}
        event = Event(ROOM_VERSIONS[DEFAULT], pdu, f"$event{self.made}")

        def put(txn: Any) -> int:
            usr, room = names.user_nid(txn, sender.user_id), names.room_nid(txn, room_id)
            assert usr is not None and room is not None
            root = None if thread is None else txn.one("SELECT nid FROM event WHERE id = ?", (thread.encode(),))[0]
            nid = store(txn, room, usr, event, 1, root, ())
            txn.announce(Change(nid, "event", room))
            return nid

        await self.app.base.db.write(put)
        return event.event_id

    async def call(
        self, session: Session, method: str, path: str, body: Any = None, expect: int | None = 200, **more: Any
    ) -> Any:
        """The JSON of the answer."""
        return (await self.request(method, V3 + path, body, session, expect=expect, **more)).json

    async def refused(
        self, session: Session, method: str, path: str, body: Any, status: int, errcode: str, **more: Any
    ) -> None:
        """Check that a call is answered with this error."""
        reply: Reply = await self.request(method, V3 + path, body, session, **more)
        self.assertEqual((reply.status, reply.json["errcode"]), (status, errcode), reply.json)

    def usr(self, session: Session) -> int:
        return self.app.base.db.names.users[session.user_id]

    async def unread(self, session: Session, room_id: str) -> unread.Counts:
        """The user's counts in a room."""
        db = self.app.base.db
        room = db.names.rooms[room_id]
        return (await db.read(unread.counts, self.usr(session), [room], db.published))[room]


def in_room(room_id: str, path: str) -> str:
    return f"/rooms/{quote(room_id)}{path}"
