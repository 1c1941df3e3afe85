# SPDX-License-Identifier: Apache-2.0
"""What application services are told: which events, in which order, once each, whatever happens."""

from storage import events
from storage.txn import Change, Txn
from tests.appservices.case import ANN, BOT, V3, ServiceCase
from tests.appservices.service import Asked, Say


class EventTests(ServiceCase):
    async def test_it_is_told_of_rooms_its_users_are_in(self) -> None:
        alice = await self.register("alice")
        room, other = await self.create_room(alice), await self.create_room(alice)
        await self.send(alice, room, "before")
        await self.send(alice, other, "elsewhere")
        await self.request("POST", f"{V3}/rooms/{room}/invite", {"user_id": BOT}, alice, expect=200)
        await self.until(lambda: self.service.events("m.room.member"))
        invite = self.service.events("m.room.member")[-1]
        self.assertEqual((invite["state_key"], invite["content"]["membership"]), (BOT, "invite"))
        self.assertEqual(invite["room_id"], room)
        self.assertIn("m.room.create", {one["type"] for one in invite["unsigned"]["invite_room_state"]})
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.send(alice, room, "within")
        await self.run_service("POST", f"{V3}/rooms/{room}/leave", {}, expect=200)
        await self.send(alice, room, "after")
        await self.until(lambda: len(self.service.events("m.room.member")) == 3)
        await self.nothing_more()
        self.assertEqual(self.service.texts(), ["within"])
        self.assertEqual(self.service.events("m.room.member")[-1]["unsigned"]["prev_content"]["membership"], "join")

    async def test_rooms_with_its_aliases_are_its_rooms(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, preset="public_chat")
        await self.run_service("PUT", f"{V3}/directory/room/%23irc_x:parley.test", {"room_id": room}, expect=200)
        await self.send(alice, room, "seen")
        await self.until(self.service.texts)
        self.assertEqual(self.service.texts(), ["seen"])

    async def test_one_after_the_other_in_order(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        texts = [f"message {number}" for number in range(250)]
        for text in texts:
            await self.send(alice, room, text)
        await self.until(lambda: len(self.service.texts()) >= 250)
        await self.nothing_more()
        self.assertEqual(self.service.texts(), texts)
        self.assertTrue(all(len(body["events"]) <= 100 for body in self.service.taken.values()))


class LateTests(ServiceCase):
    async def test_an_event_that_was_known_before_it_had_its_place(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        late = await self.send(alice, room, "late")
        db = self.app.base.db

        def set_aside(txn: Txn) -> tuple[int, int]:
            stored = events.by_id(txn, late)
            assert stored is not None
            events.promote(txn, stored.nid, None, None, None, events.OUTLIER)
            return stored.nid, stored.room

        nid, number = await db.write(set_aside)
        await self.send(alice, room, "early")
        await self.until(self.service.texts)
        await self.nothing_more()
        self.assertEqual(self.service.texts(), ["early"])

        def promote(txn: Txn) -> None:
            pos = txn.position()
            events.promote(txn, nid, pos << events.ORD_SHIFT, None, None, 0)
            txn.announce(Change(pos, "event", room=number))

        await db.write(promote)
        await self.send(alice, room, "last")
        await self.until(lambda: len(self.service.texts()) == 3)
        await self.nothing_more()
        self.assertEqual(self.service.texts(), ["early", "late", "last"])


class FaultTests(ServiceCase):
    async def test_one_that_was_down_is_told_everything_once_in_order(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.until(lambda: len(self.service.events("m.room.member")) == 2)
        await self.service.stop()
        texts = [f"message {number}" for number in range(130)]
        for number, text in enumerate(texts):
            await self.send(alice, room, text)
            if number % 40 == 0:
                for _ in range(10):
                    self.clock.advance(60.0)
                    await self.settle(0.002)
        await self.run_service("POST", f"{V3}/rooms/{room}/leave", {}, expect=200)
        await self.send(alice, room, "not its business")
        self.clock.advance(3600.0)
        await self.settle(0.01)
        self.service.start()
        await self.until(lambda: len(self.service.texts()) >= 130, step=10.0)
        await self.nothing_more()
        self.assertEqual(self.service.texts(), texts)

    async def test_a_transaction_is_sent_again_unchanged_also_after_a_restart(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.until(lambda: len(self.service.events("m.room.member")) == 2)
        refused: list[Asked] = []

        def refuse(asked: Asked) -> Say:
            refused.append(asked)
            return 500, b"<html>broken"

        self.service.answer = refuse
        first = await self.send(alice, room, "one")
        await self.until(lambda: refused)
        await self.send(alice, room, "two")
        await self.request("PUT", f"{V3}/rooms/{room}/redact/{first}/t", {}, alice, expect=200)
        await self.until(lambda: len(refused) >= 3, step=1.0)
        await self.restart_server()
        await self.until(lambda: len(refused) >= 5, step=1.0)
        self.service.answer = None
        await self.until(lambda: len(self.service.texts()) == 2, step=10.0)
        await self.nothing_more()
        self.assertEqual({(one.path, str(one.body)) for one in refused}, {(refused[0].path, str(refused[0].body))})
        self.assertEqual(self.service.texts(), ["one", "two"])
        self.assertEqual(len(self.service.events("m.room.redaction")), 1)
        taken = [one for one in self.service.asked if one.path == refused[0].path]
        self.assertEqual(taken[-1].body, refused[0].body)

    async def test_what_arrived_is_not_sent_again_after_a_restart(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.send(alice, room, "one")
        await self.until(self.service.texts)
        await self.nothing_more()
        await self.stop_server()
        count = len(self.service.asked)
        await self.start_server()
        await self.nothing_more()
        self.assertEqual(len(self.service.asked), count)
        await self.send(alice, room, "two")
        await self.until(lambda: len(self.service.texts()) == 2)
        self.assertEqual(self.service.texts(), ["one", "two"])

    async def test_a_slow_one_holds_nobody_up(self) -> None:
        alice = await self.register("alice")
        room = await self.create_room(alice, invite=[BOT])
        await self.run_service("POST", f"{V3}/rooms/{room}/join", {}, expect=200)
        await self.until(lambda: len(self.service.events("m.room.member")) == 2)
        self.service.mute = True
        await self.send(alice, room, "first")
        await self.until(lambda: self.service.in_flight == 1)
        begun = len(self.service.asked)
        for number in range(20):
            await self.send(alice, room, f"message {number}")
        self.assertEqual(len((await self.sync(alice))["rooms"]["join"][room]["timeline"]["events"]) >= 10, True)
        await self.nothing_more()
        self.assertEqual((len(self.service.asked), self.service.in_flight), (begun, 1))
        await self.service.stop()
        self.service.mute = False
        self.service.start()
        await self.until(lambda: len(self.service.texts()) == 21, step=5.0)
        self.assertEqual(self.service.texts()[0], "first")

    async def test_one_with_the_paths_of_old_is_told_there(self) -> None:
        def old(asked: Asked) -> Say | bool:
            if asked.path.startswith("/_matrix/app/v1"):
                return 404, b"Cannot PUT"
            self.assertEqual(asked.query, {"access_token": "the-token-of-the-server"})
            return 200, {}

        self.service.answer = old
        alice = await self.register("alice")
        await self.create_room(alice, invite=[BOT])
        await self.until(lambda: self.service.asked and self.service.asked[-1].path.startswith("/transactions/"))
        asked = len(self.service.asked)
        await self.create_room(alice, invite=[ANN])
        await self.until(lambda: len(self.service.asked) > asked)
        await self.nothing_more()
        self.assertFalse([one for one in self.service.asked[asked:] if "v1/transactions" in one.path])
