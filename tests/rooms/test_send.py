# SPDX-License-Identifier: Apache-2.0
"""Sending: once per transaction id, in the order of acceptance, refused where the rules refuse."""

import sqlite3
from typing import Any

import psycopg2
from twisted.internet.defer import ensureDeferred, gatherResults

from tests.harness.server import ON_POSTGRESQL, HomeserverCase, Session


class Sending(HomeserverCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = await self.register("alice")
        self.bob = await self.register("bob")

    async def room(self, **wishes: Any) -> str:
        reply = await self.request("POST", "/_matrix/client/v3/createRoom", wishes, token=self.alice.token)
        self.assertEqual(reply.status, 200, reply.json)
        return str(reply.json["room_id"])

    async def send(self, who: Session, room: str, body: str, txn: str) -> Any:
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}"
        return await self.request("PUT", path, {"msgtype": "m.text", "body": body}, token=who.token)

    async def test_a_message_gets_an_id(self) -> None:
        room = await self.room()
        reply = await self.send(self.alice, room, "hello", "1")
        self.assertEqual(reply.status, 200)
        self.assertRegex(reply.json["event_id"], r"^\$[A-Za-z0-9_-]{43}$")

    async def test_resending_returns_the_same_event_also_after_a_restart(self) -> None:
        room = await self.room()
        first = (await self.send(self.alice, room, "hello", "1")).json["event_id"]
        self.assertEqual((await self.send(self.alice, room, "hello", "1")).json["event_id"], first)
        await self.restart_server()
        self.assertEqual((await self.send(self.alice, room, "hello", "1")).json["event_id"], first)
        self.assertNotEqual((await self.send(self.alice, room, "hello", "2")).json["event_id"], first)

    async def test_the_same_request_twice_at_once_is_one_event(self) -> None:
        room = await self.room()
        replies = await gatherResults([ensureDeferred(self.send(self.alice, room, "x", "1")) for _ in range(5)])
        self.assertEqual(len({reply.json["event_id"] for reply in replies}), 1)

    async def test_many_at_once_become_a_chain(self) -> None:
        room = await self.room()
        replies = await gatherResults([ensureDeferred(self.send(self.alice, room, "x", str(n))) for n in range(30)])
        self.assertEqual(len({reply.json["event_id"] for reply in replies}), 30)

    async def test_a_stranger_may_not_send(self) -> None:
        room = await self.room()
        reply = await self.send(self.bob, room, "let me in", "1")
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_an_unknown_room_is_forbidden(self) -> None:
        reply = await self.send(self.alice, "!nowhere:parley.test", "hello?", "1")
        self.assertEqual((reply.status, reply.json["errcode"]), (403, "M_FORBIDDEN"))

    async def test_a_send_on_an_unknown_relation_waits_for_its_parent(self) -> None:
        room = await self.room()
        path = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/1"
        body = {"body": "early", "m.relates_to": {"rel_type": "m.reference", "event_id": "$" + "x" * 43}}
        self.assertEqual((await self.request("PUT", path, body, token=self.alice.token)).status, 200)

    async def test_a_database_that_goes_away_is_a_503_and_the_same_request_succeeds_later(self) -> None:
        room = await self.room()
        self.assertEqual((await self.send(self.alice, room, "before", "1")).status, 200)
        self.break_database()
        reply = await self.send(self.alice, room, "meanwhile", "2")
        self.assertEqual((reply.status, reply.json["errcode"]), (503, "M_UNKNOWN"))
        self.mend_database()
        again = await self.send(self.alice, room, "meanwhile", "2")
        self.assertEqual(again.status, 200, again.json)
        self.assertEqual((await self.send(self.alice, room, "meanwhile", "2")).json, again.json)
        self.assertEqual((await self.send(self.alice, room, "after", "3")).status, 200)

    async def test_a_commit_whose_fate_is_unknown_is_one_event_when_asked_again(self) -> None:
        room = await self.room()
        self.assertEqual((await self.send(self.alice, room, "before", "1")).status, 200)
        writer: Any = self.app.base.db._engine._writer
        commit = writer.commit

        def commit_and_lose() -> None:
            commit()
            writer.commit = commit
            if ON_POSTGRESQL:
                writer.txn.connection.close()
                raise psycopg2.OperationalError("connection lost")
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR"
            raise error

        writer.commit = commit_and_lose
        first = await self.send(self.alice, room, "which?", "2")
        self.assertIn(first.status, (200, 503))
        event_id = (await self.send(self.alice, room, "which?", "2")).json["event_id"]
        self.assertEqual((await self.send(self.alice, room, "after", "3")).status, 200)
        messages = f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=10"
        reply = await self.request("GET", messages, token=self.alice.token)
        said = [one["event_id"] for one in reply.json["chunk"] if one["content"].get("body") == "which?"]
        self.assertEqual(said, [event_id])

    def break_database(self) -> None:
        if ON_POSTGRESQL:
            admin = psycopg2.connect(self.database_url)
            admin.autocommit = True
            admin.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'parley' AND datname = current_database()"
            )
            admin.close()
            return
        writer = self.app.base.db._engine._writer
        assert writer is not None
        writer.txn.connection.execute("PRAGMA busy_timeout = 20")
        self.other = sqlite3.connect(self.database_url.removeprefix("sqlite:///"), isolation_level=None)
        self.other.execute("BEGIN IMMEDIATE")

    def mend_database(self) -> None:
        if not ON_POSTGRESQL:
            self.other.execute("ROLLBACK")
            self.other.close()
