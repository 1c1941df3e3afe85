# SPDX-License-Identifier: Apache-2.0
"""What a hostile server may send: the honest one stays correct, and answers event by event."""

from typing import Any
from urllib.parse import quote

from federation.inbound.admission import cited, standing
from homeserver.protocol.events import Draft, Event, PrevRef, build
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signing import Signer, SigningKey
from storage import events
from tests.federation.case import FederationCase
from tests.federation.test_edus import signed
from tests.federation.test_joining import state_of

SEND = "/_matrix/federation/v1/send/"


class HostileCase(FederationCase):
    async def prepare(self, version: str = "11") -> None:
        self.one, self.two = self.peers[:2]
        self.alice, self.bob = await self.one.register("alice"), await self.two.register("bob")
        self.room = await self.one.create_room(self.alice, preset="public_chat", room_version=version)
        await self.two.join(self.bob, self.room, self.one.name)
        self.version = ROOM_VERSIONS[version]
        self.signer = Signer(self.two.name, self.two.key)
        self.state = await self.two.app.base.db.read(_state_of, self.room)
        self.join = self.state[("m.room.member", self.bob.user_id)]
        self.count = 0

    def event(self, draft: Draft, **changes: Any) -> Event:
        """An event by two's bob, correct but for the changes."""
        keys = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", self.bob.user_id)]
        auth = [
            self.state[key].ref() for key in keys if self.version.create_in_auth_events or key[0] != "m.room.create"
        ]
        given: dict[str, Any] = {
            "prev_events": [self.join.ref()],
            "auth_events": auth,
            "depth": self.join.depth + 1,
            "ts": 1_790_000_000_000,
            "signer": self.signer,
            "room_id": self.room,
        }
        return build(self.version, draft, **{**given, **changes}).event

    def message(self, text: str, **changes: Any) -> Event:
        return self.event(Draft("m.room.message", {"body": text, "msgtype": "m.text"}, self.bob.user_id), **changes)

    async def deliver(self, *pdus: Any, expect: int = 200) -> Any:
        self.count += 1
        body = {"origin": self.two.name, "origin_server_ts": 1, "pdus": list(pdus), "edus": []}
        return await signed(self.two, self.one, "PUT", f"{SEND}h{self.count}", body, expect)


class Hostile(HostileCase):
    async def test_what_is_missigned_is_dropped_and_what_is_right_beside_it_is_taken(self) -> None:
        await self.prepare()
        good = self.message("good")
        other = Signer(self.two.name, SigningKey.from_seed("k2", b"z" * 32))
        forged = self.message("forged", signer=other)
        unsigned = {**self.message("unsigned").pdu, "signatures": {}}
        of_alice = self.event(Draft("m.room.message", {"body": "as alice"}, self.alice.user_id))
        answer = (await self.deliver(forged.pdu, unsigned, of_alice.pdu, good.pdu))["pdus"]
        self.assertEqual(answer[good.event_id], {})
        self.assertEqual(len([one for one in answer.values() if "error" in one]), 3)
        self.assertEqual(await self.one.bodies(self.alice, self.room), ["good"])

    async def test_a_wrong_hash_leaves_the_redacted_event(self) -> None:
        await self.prepare()
        event = self.message("signed")
        changed = {**event.pdu, "content": {"body": "changed", "msgtype": "m.text"}}
        answer = (await self.deliver(changed))["pdus"]
        self.assertEqual(answer, {event.event_id: {}})
        found = await self.one.get(f"rooms/{quote(self.room)}/event/{quote(event.event_id)}", self.alice)
        self.assertEqual(found["content"], {})

    async def test_malformed_events_change_nothing(self) -> None:
        await self.prepare()
        good = self.message("x").pdu
        before = await state_of(self.one, self.alice, self.room)
        wrong: list[Any] = [
            None,
            7,
            {},
            {"room_id": self.room},
            {**good, "room_id": "nonsense"},
            {**good, "room_id": "!unknown:room.test"},
            {**good, "depth": -1},
            {**good, "depth": 2**60},
            {**good, "depth": "1"},
            {**good, "sender": "bob"},
            {**good, "prev_events": [good]},
            {**good, "prev_events": ["$x" for _ in range(50)]},
            {**good, "auth_events": None},
            {**good, "content": []},
            {**good, "content": {"n": 1.5}},
            {**good, "content": {"n": 2**70}},
            {**good, "type": "t" * 300},
            {**good, "content": {"body": "x" * 70_000}},
            {**good, "hashes": {}, "signatures": 5},
        ]
        await self.deliver(*wrong)
        self.assertEqual(await self.one.bodies(self.alice, self.room), [])
        self.assertEqual(await state_of(self.one, self.alice, self.room), before)

    async def test_transactions_that_are_too_large_or_none_are_refused(self) -> None:
        await self.prepare()
        event = self.message("one of many").pdu
        await self.deliver(*[event] * 51, expect=400)
        for body in ([], {"pdus": {}}, {"edus": 3}, {"edus": [{}] * 101}):
            self.count += 1
            await signed(self.two, self.one, "PUT", f"{SEND}b{self.count}", body, 400)
        await signed(self.two, self.one, "PUT", f"{SEND}c", {"origin": "other.test", "pdus": []}, 403)
        self.assertEqual(await self.one.bodies(self.alice, self.room), [])

    async def test_a_transaction_is_taken_once_and_answered_alike(self) -> None:
        await self.prepare()
        event = self.message("once")
        body = {"origin": self.two.name, "origin_server_ts": 1, "pdus": [event.pdu]}
        first = await signed(self.two, self.one, "PUT", f"{SEND}same", body)
        self.assertEqual(await signed(self.two, self.one, "PUT", f"{SEND}same", {"pdus": []}), first)
        await self.one.stop()
        await self.one.start()
        self.assertEqual(await signed(self.two, self.one, "PUT", f"{SEND}same", {"pdus": []}), first)

    async def test_state_that_the_rules_refuse_stays_out(self) -> None:
        await self.prepare()
        levels = {"users": {self.bob.user_id: 100}}
        coup = self.event(Draft("m.room.power_levels", levels, self.bob.user_id, ""))
        second = self.event(
            Draft("m.room.create", {"room_version": "11"}, self.bob.user_id, ""), prev_events=[], auth_events=[]
        )
        ban = self.event(Draft("m.room.member", {"membership": "ban"}, self.bob.user_id, self.alice.user_id))
        answer = (await self.deliver(coup.pdu, second.pdu, ban.pdu))["pdus"]
        self.assertTrue(all("error" in one for one in answer.values()), answer)
        found = await self.one.get(f"rooms/{quote(self.room)}/state/m.room.power_levels", self.alice)
        self.assertNotIn(self.bob.user_id, found["users"])

    async def test_what_is_built_on_rejected_events_is_rejected(self) -> None:
        await self.prepare()
        levels = {"users": {self.bob.user_id: 100}}
        coup = self.event(Draft("m.room.power_levels", levels, self.bob.user_id, ""))
        topic = Draft("m.room.topic", {"topic": "mine now"}, self.bob.user_id, "")
        auth = [self.state[("m.room.create", "")].ref(), coup.ref(), self.join.ref()]
        after = self.event(topic, prev_events=[coup.ref()], auth_events=auth, depth=self.join.depth + 2)
        answer = (await self.deliver(coup.pdu, after.pdu))["pdus"]
        self.assertTrue(all("error" in one for one in answer.values()), answer)
        self.assertNotIn(("m.room.topic", ""), await state_of(self.one, self.alice, self.room))

    async def test_prevs_that_do_not_exist_end_in_an_error_soon(self) -> None:
        await self.prepare()
        lost = self.message("never sent")
        for depth in (self.join.depth + 2, 2**53 - 1):
            event = self.message(f"on nothing {depth}", prev_events=[lost.ref()], depth=depth)
            answer = (await self.deliver(event.pdu))["pdus"]
            self.assertIn("error", answer[event.event_id])
        fake = PrevRef("$" + "A" * 43)
        event = self.message("cites fake auth", auth_events=[fake])
        self.assertIn("error", (await self.deliver(event.pdu))["pdus"][event.event_id])
        self.assertEqual(await self.one.bodies(self.alice, self.room), [])
        said = await self.one.send(self.alice, self.room, "still fine")
        self.assertTrue(said)

    async def test_a_server_that_is_not_in_the_room_reads_nothing(self) -> None:
        await self.prepare()
        three = await self.add_peer(2)
        said = await self.one.send(self.alice, self.room, "private")
        room, base = quote(self.room, safe=""), "/_matrix/federation/v1"
        for path in (
            f"{base}/event/{quote(said, safe='')}",
            f"{base}/backfill/{room}?v={quote(said, safe='')}",
            f"{base}/state/{room}?event_id={quote(said, safe='')}",
            f"{base}/state_ids/{room}?event_id={quote(said, safe='')}",
            f"{base}/event_auth/{room}/{quote(said, safe='')}",
            f"{base}/timestamp_to_event/{room}?ts=0&dir=f",
        ):
            await signed(three, self.one, "GET", path, expect=403)
            await signed(self.two, self.one, "GET", path)
        body = {"earliest_events": [], "latest_events": [said]}
        await signed(three, self.one, "POST", f"{base}/get_missing_events/{room}", body, 403)
        found = await signed(self.two, self.one, "POST", f"{base}/get_missing_events/{room}", body)
        self.assertTrue(found["events"])

    async def test_reading_with_bad_parameters(self) -> None:
        await self.prepare()
        room, base = quote(self.room, safe=""), "/_matrix/federation/v1"
        for path, status in (
            (f"{base}/backfill/{room}", 400),
            (f"{base}/state/{room}", 400),
            (f"{base}/state/{room}?event_id=%24unknown", 404),
            (f"{base}/state_ids/!nowhere:x.test?event_id=%24a", 404),
            (f"{base}/event/$unknown", 404),
            (f"{base}/event_auth/{room}/$unknown", 404),
            (f"{base}/timestamp_to_event/{room}?dir=x&ts=1", 400),
            (f"{base}/timestamp_to_event/{room}?dir=f&ts=9007199254740991", 404),
        ):
            await signed(self.two, self.one, "GET", path, expect=status)
        for body in ({}, {"earliest_events": [1], "latest_events": []}, {"earliest_events": [], "latest_events": "x"}):
            await signed(self.two, self.one, "POST", f"{base}/get_missing_events/{room}", body, 400)

    async def test_a_room_shuts_a_server_out(self) -> None:
        await self.prepare()
        await self.one.set_state(self.alice, self.room, "m.room.server_acl", {"allow": ["*.test"]})
        event = self.message("denied")
        self.assertIn("error", (await self.deliver(event.pdu))["pdus"][event.event_id])
        typing = {"room_id": self.room, "user_id": self.bob.user_id, "typing": True}
        body = {"pdus": [], "edus": [{"edu_type": "m.typing", "content": typing}]}
        await signed(self.two, self.one, "PUT", f"{SEND}acl", body)
        joined = (await self.one.sync(self.alice))["rooms"]["join"][self.room]
        self.assertNotIn(self.bob.user_id, str(joined.get("ephemeral")))


def _state_of(txn: Any, room_id: str) -> Any:
    from storage import names, state

    room = names.room_nid(txn, room_id)
    assert room is not None
    nids = state.current_all(txn, room)
    loaded = events.load(txn, nids.values())
    return {key: loaded[nid] for key, nid in nids.items()}


class Shakes(HostileCase):
    """Handshakes with bad input."""

    async def join_template(self, user: str) -> Any:
        path = f"/_matrix/federation/v1/make_join/{quote(self.room, safe='')}/{quote(user, safe='')}?ver=11"
        return await signed(self.two, self.one, "GET", path)

    async def test_templates_are_for_ones_own_users_and_known_versions(self) -> None:
        await self.prepare()
        room, base = quote(self.room, safe=""), "/_matrix/federation/v1"
        carol = quote(f"@carol:{self.two.name}", safe="")
        for path, status, code in (
            (f"make_join/{room}/{carol}?ver=1&ver=2", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
            (f"make_join/{room}/{carol}", 400, "M_INCOMPATIBLE_ROOM_VERSION"),
            (f"make_join/{room}/{quote(self.alice.user_id, safe='')}?ver=11", 403, "M_FORBIDDEN"),
            (f"make_join/{room}/nobody?ver=11", 400, "M_INVALID_PARAM"),
            (f"make_join/!unknown:x.test/{carol}?ver=11", 404, "M_NOT_FOUND"),
            (f"make_knock/{room}/{carol}?ver=11", 403, "M_FORBIDDEN"),
            (f"make_leave/{room}/{carol}", 403, "M_FORBIDDEN"),
        ):
            found = await signed(self.two, self.one, "GET", f"{base}/{path}", expect=status)
            self.assertEqual(found["errcode"], code, path)

    async def test_a_join_is_checked_before_it_is_taken(self) -> None:
        await self.prepare()
        carol = f"@carol:{self.two.name}"
        template = (await self.join_template(carol))["event"]
        draft = Draft("m.room.member", {"membership": "join"}, carol, carol)
        given: dict[str, Any] = {
            "prev_events": [PrevRef(one) for one in template["prev_events"]],
            "auth_events": [PrevRef(one) for one in template["auth_events"]],
            "depth": template["depth"],
        }
        good = self.event(draft, **given)
        path = f"/_matrix/federation/v2/send_join/{quote(self.room, safe='')}/"
        own = path + quote(good.event_id, safe="")
        leave = self.event(Draft("m.room.member", {"membership": "leave"}, carol, carol), **given)
        alice = self.event(Draft("m.room.member", {"membership": "join"}, self.alice.user_id, self.alice.user_id))
        lost = self.event(draft, **{**given, "prev_events": [PrevRef("$" + "B" * 43)]})
        forged = self.event(draft, **given, signer=Signer(self.two.name, SigningKey.from_seed("k2", b"y" * 32)))
        for target, body, status in (
            (path + "$other", good.pdu, 400),
            (own, {}, 400),
            (own, [], 400),
            (own, {**good.pdu, "content": {"membership": "join", "x": 1}}, 400),
            (path + quote(leave.event_id, safe=""), leave.pdu, 400),
            (path + quote(alice.event_id, safe=""), alice.pdu, 403),
            (path + quote(lost.event_id, safe=""), lost.pdu, 400),
            (path + quote(forged.event_id, safe=""), forged.pdu, 403),
        ):
            await signed(self.two, self.one, "PUT", target, body, status)
        self.assertNotIn(carol, await self.one.members(self.alice, self.room))
        answer = await signed(self.two, self.one, "PUT", own, good.pdu)
        self.assertEqual({one["type"] for one in answer["state"]}, {key[0] for key in self.state})
        self.assertEqual((await self.one.members(self.alice, self.room))[carol], "join")
        again = await signed(self.two, self.one, "PUT", own.replace("/v2/", "/v1/"), good.pdu)
        self.assertEqual(again[0], 200)

    async def test_bad_invites_are_refused(self) -> None:
        await self.prepare()
        carol = await self.one.register("carol")
        draft = Draft("m.room.member", {"membership": "invite"}, self.bob.user_id, carol.user_id)
        good = self.event(draft)
        base = f"/_matrix/federation/v2/invite/{quote(self.room, safe='')}/"
        own = base + quote(good.event_id, safe="")
        nobody = self.event(Draft("m.room.member", {"membership": "invite"}, self.bob.user_id, f"@no:{self.one.name}"))
        elsewhere = self.event(Draft("m.room.member", {"membership": "invite"}, self.bob.user_id, "@x:other.test"))
        for target, body, status in (
            (own, {"event": good.pdu}, 400),
            (own, {"room_version": "99", "event": good.pdu}, 400),
            (own, {"room_version": "11"}, 400),
            (base + "$x", {"room_version": "11", "event": good.pdu}, 400),
            (base + quote(nobody.event_id, safe=""), {"room_version": "11", "event": nobody.pdu}, 404),
            (base + quote(elsewhere.event_id, safe=""), {"room_version": "11", "event": elsewhere.pdu}, 400),
        ):
            await signed(self.two, self.one, "PUT", target, body, status)
        answer = await signed(self.two, self.one, "PUT", own, {"room_version": "11", "event": good.pdu})
        self.assertEqual(set(answer["event"]["signatures"]), {self.one.name, self.two.name})
        await self.one.put(
            f"user/{carol.user_id}/account_data/m.invite_permission_config", {"default_action": "block"}, carol
        )
        again = self.event(draft, ts=1_790_000_000_001)
        target = base + quote(again.event_id, safe="")
        found = await signed(self.two, self.one, "PUT", target, {"room_version": "11", "event": again.pdu}, 403)
        self.assertEqual(found["errcode"], "M_INVITE_BLOCKED")


class Versions(FederationCase):
    async def test_an_invite_that_lies_about_the_version_does_no_harm(self) -> None:
        one, two = self.peers
        alice, bob = await one.register("alice"), await two.register("bob")
        room = await one.create_room(alice, preset="public_chat", room_version="11")
        version = ROOM_VERSIONS["6"]
        lie = build(
            version,
            Draft("m.room.member", {"membership": "invite"}, alice.user_id, bob.user_id),
            room_id=room,
            prev_events=[PrevRef("$" + "D" * 43)],
            auth_events=[PrevRef("$" + "E" * 43)],
            depth=5,
            ts=1,
            signer=Signer(one.name, one.key),
        ).event
        path = f"/_matrix/federation/v2/invite/{quote(room, safe='')}/{quote(lie.event_id, safe='')}"
        body = {"room_version": "6", "event": lie.pdu, "invite_room_state": [5, {"type": "x"}]}
        await signed(one, two, "PUT", path, body)
        self.assertIn(room, (await two.sync(bob))["rooms"]["invite"])
        await two.join(bob, room)
        self.assertEqual(await state_of(one, alice, room), await state_of(two, bob, room))
        await two.send(bob, room, "here")

        async def heard() -> bool:
            return await one.bodies(alice, room) == ["here"]

        await self.until(heard)


class Chains(HostileCase):
    """What permits events, made by somebody who means no good."""

    async def test_long_and_circular_chains_end_soon(self) -> None:
        await self.prepare()
        found: dict[str, Event] = {}
        before = PrevRef("$" + "C" * 43)
        for number in range(3_000):
            event = Event(self.version, {**self.join.pdu, "auth_events": [before.event_id]}, f"$chain{number}")
            found[event.event_id] = event
            before = PrevRef(event.event_id)
        good = Event(self.version, {**self.join.pdu, "auth_events": []}, "$good")
        found["$good"] = good
        self.assertEqual(cited(found), {"$" + "C" * 43})
        self.assertEqual(list(standing(found, cited(found))), ["$good"])
        one = Event(self.version, {**self.join.pdu, "auth_events": ["$two"]}, "$one")
        two = Event(self.version, {**self.join.pdu, "auth_events": ["$one"]}, "$two")
        circle = {"$one": one, "$two": two}
        self.assertEqual(standing(circle, cited(circle)), {})
        self.assertEqual(await self.one.bodies(self.alice, self.room), [])
