# SPDX-License-Identifier: Apache-2.0
"""Parley and Synapse in one network, each in both seats."""

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import TestCase

from tests.federation.processes import Account, Side, parley, synapse, until

Scenario = Callable[[Account, Account], None]


class Interop(TestCase):
    """One Parley and one Synapse for all of it: starting them takes longer than the scenarios."""

    timeout = 900

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parley-interop-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.parley = self.started(parley, "parley")
        self.synapse = self.started(synapse, "synapse")
        self.alice, self.bob = self.parley.account("alice"), self.synapse.account("bob")

    def started(self, start: Callable[[Path], Side], name: str) -> Side:
        side = start(self.folder / name)
        self.addCleanup(side.server.stop)
        return side

    def test_scenarios_in_both_seats(self) -> None:
        failed = []
        for scenario in SCENARIOS:
            for one, other in ((self.alice, self.bob), (self.bob, self.alice)):
                try:
                    scenario(one, other)
                except Exception as error:
                    failed.append(f"{scenario.__name__}, begun by {one.server.server.name}: {error!r}"[:1_000])
        self.assertNotIn("Traceback", self.parley.log())
        self.assertEqual(failed, [], "\n" + "\n".join(failed))

    def test_who_was_away_gets_what_was_missed(self) -> None:
        room = self.alice.create_room(preset="public_chat")
        self.bob.join(room, self.parley.name)
        for side, other, away in (
            (self.parley, self.alice, self.synapse),
            (self.synapse, self.bob, self.parley),
        ):
            reader = self.bob if away is self.synapse else self.alice
            away.server.stop()
            texts = [f"{side.name} {n}" for n in range(30)]
            for text in texts:
                other.send(room, text)
            away.server.start()
            reader.send(room, f"{away.name} is back")

            def heard(who: Account = reader, all_of: list[str] = texts) -> bool:
                return set(all_of) <= set(who.texts(room))

            until(heard, f"what {away.name} missed")
        until(lambda: self.alice.state_ids(room) == self.bob.state_ids(room), "the same state")


def joins(one: Account, other: Account, room: str) -> None:
    other.join(room, one.server.name)
    until(lambda: one.membership(room, other.user_id) == "join", "the join")


def talking_in_every_version(one: Account, other: Account) -> None:
    for version in ("6", "7", "8", "9", "10", "11", "12"):
        room = one.create_room(preset="public_chat", room_version=version, name="Market")
        joins(one, other, room)
        one.send(room, "ping")
        until(lambda room=room: "ping" in other.texts(room), f"ping in {version}")
        other.send(room, "pong")
        until(lambda room=room: "pong" in one.texts(room), f"pong in {version}")
        assert one.state_ids(room) == other.state_ids(room)


def invited(one: Account, other: Account, room: str) -> Any:
    one.post(f"rooms/{quote(room)}/invite", {"user_id": other.user_id})
    return until(lambda: other.sync().get("rooms", {}).get("invite", {}).get(room), "the invite")


def invites(one: Account, other: Account) -> None:
    room = one.create_room(preset="private_chat", name="Secret")
    other.join(room, one.server.name, expect=403)
    shown = invited(one, other, room)["invite_state"]["events"]
    assert "Secret" in [event["content"].get("name") for event in shown]
    joins(one, other, room)
    other.post(f"rooms/{quote(room)}/leave")
    until(lambda: one.membership(room, other.user_id) == "leave", "the leave")


def invites_refused_and_taken_back(one: Account, other: Account) -> None:
    room = one.create_room(preset="private_chat")
    invited(one, other, room)
    other.post(f"rooms/{quote(room)}/leave")
    until(lambda: one.membership(room, other.user_id) == "leave", "the refusal")
    invited(one, other, room)
    one.post(f"rooms/{quote(room)}/kick", {"user_id": other.user_id})
    until(lambda: room not in other.sync().get("rooms", {}).get("invite", {}), "the end of the invite")


def knocking(one: Account, other: Account) -> None:
    rule = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room = one.create_room(preset="private_chat", initial_state=[rule])
    other.post(f"knock/{quote(room)}", {"reason": "hello"}, via=one.server.name)
    until(lambda: one.membership(room, other.user_id) == "knock", "the knock")
    invited(one, other, room)
    joins(one, other, room)


def restricted_rooms(one: Account, other: Account) -> None:
    for version in ("8", "10", "12"):
        club = one.create_room(preset="public_chat", room_version=version)
        allow = [{"type": "m.room_membership", "room_id": club}]
        content = {"join_rule": "restricted", "allow": allow}
        rule = {"type": "m.room.join_rules", "state_key": "", "content": content}
        room = one.create_room(preset="private_chat", room_version=version, initial_state=[rule])
        other.join(room, one.server.name, expect=403)
        joins(one, other, club)
        joins(one, other, room)


def changes_of_what_was_said(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    joins(one, other, room)
    said = other.send(room, "oops")
    until(lambda: "oops" in one.texts(room), "the message")
    edit = {
        "msgtype": "m.text",
        "body": "* better",
        "m.new_content": {"msgtype": "m.text", "body": "better"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": said},
    }
    other.event(room, "m.room.message", edit)
    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "+1"}}
    liked = one.event(room, "m.reaction", reaction)
    until(
        lambda: liked in str(other.request("GET", f"/_matrix/client/v1/rooms/{quote(room)}/relations/{quote(said)}")),
        "it",
    )
    until(lambda: "better" in str(one.get(f"rooms/{quote(room)}/event/{quote(said)}")), "the edit")
    other.put(f"rooms/{quote(room)}/redact/{quote(said)}/r{time.time()}", {})
    until(lambda: "oops" not in one.texts(room), "the redaction")


def power_and_bans(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    joins(one, other, room)
    levels = one.get(f"rooms/{quote(room)}/state/m.room.power_levels")
    levels["users"][other.user_id] = 50
    one.state(room, "m.room.power_levels", levels)

    def may() -> bool:
        found = other.request("PUT", f"rooms/{quote(room)}/state/m.room.topic/", {"topic": "mine"}, 0)
        return "event_id" in found

    until(may, "the power")
    until(
        lambda: one.get(f"rooms/{quote(room)}/state")[0] and "mine" in str(one.get(f"rooms/{quote(room)}/state")), "it"
    )
    one.post(f"rooms/{quote(room)}/ban", {"user_id": other.user_id})
    until(lambda: room not in other.get("joined_rooms")["joined_rooms"], "the ban")
    other.join(room, one.server.name, expect=403)


def names_and_lists(one: Account, other: Account) -> None:
    local = f"fish-{one.server.server.name.lower()}"
    room = one.create_room(preset="public_chat", room_alias_name=local, visibility="public", name=f"Market {local}")
    other.join(f"#{local}:{one.server.name}")
    one.put(f"profile/{one.user_id}/displayname", {"displayname": "Somebody"})
    assert other.get(f"profile/{one.user_id}")["displayname"] == "Somebody"
    found = other.post("publicRooms", {"filter": {"generic_search_term": local}}, server=one.server.name)
    assert [each["room_id"] for each in found["chunk"]] == [room], found


def reading_and_typing(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    joins(one, other, room)
    said = one.send(room, "read me")
    until(lambda: "read me" in other.texts(room), "the message")
    other.post(f"rooms/{quote(room)}/receipt/m.read/{quote(said)}", {})
    other.put(f"rooms/{quote(room)}/typing/{other.user_id}", {"typing": True, "timeout": 30_000})

    def seen(kind: str) -> bool:
        shown = one.sync()["rooms"]["join"][room]["ephemeral"]["events"]
        return other.user_id in str([each["content"] for each in shown if each["type"] == kind])

    until(lambda: seen("m.receipt"), "the receipt")
    until(lambda: seen("m.typing"), "the typing")


def keys_and_messages_to_devices(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    joins(one, other, room)
    device = other.get("account/whoami")["device_id"]
    keys = {
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "device_id": device,
        "user_id": other.user_id,
        "keys": {f"curve25519:{device}": "A" * 43, f"ed25519:{device}": "B" * 43},
        "signatures": {other.user_id: {f"ed25519:{device}": "C" * 86}},
    }
    since = one.sync()["next_batch"]
    other.post("keys/upload", {"device_keys": keys, "one_time_keys": {"curve25519:AAAAAA": "D" * 43}})
    until(lambda: other.user_id in one.sync(since).get("device_lists", {}).get("changed", []), "the new device")
    asked = one.post("keys/query", {"device_keys": {other.user_id: []}})
    assert device in asked["device_keys"][other.user_id], asked
    claimed = one.post("keys/claim", {"one_time_keys": {other.user_id: {device: "curve25519"}}})
    assert claimed["one_time_keys"][other.user_id][device], claimed
    one.put(f"sendToDevice/m.test/{time.time()}", {"messages": {other.user_id: {device: {"hello": "there"}}}})
    until(lambda: "there" in str(other.sync().get("to_device")), "the message to the device")


def history(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    for number in range(25):
        one.send(room, f"old {number}")
    joins(one, other, room)
    until(lambda: "old 0" in other.texts(room), "the old messages")


def spaces(one: Account, other: Account) -> None:
    child = one.create_room(preset="public_chat", name="Child")
    space = one.create_room(preset="public_chat", name="Space", creation_content={"type": "m.space"})
    one.state(space, "m.space.child", {"via": [one.server.name]}, child)
    joins(one, other, space)
    found = other.request("GET", f"/_matrix/client/v1/rooms/{quote(space)}/hierarchy")
    assert {each["room_id"] for each in found["rooms"]} == {child, space}, found


def files(one: Account, other: Account) -> None:
    headers = {"Authorization": f"Bearer {one.token}", "Content-Type": "text/plain"}
    url = f"{one.server.server.base}/_matrix/media/v3/upload?filename=a.txt"
    with urllib.request.urlopen(urllib.request.Request(url, b"hello", headers, method="POST")) as reply:
        server, media_id = json.load(reply)["content_uri"].removeprefix("mxc://").split("/")
    url = f"{other.server.server.base}/_matrix/client/v1/media/download/{server}/{media_id}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {other.token}"})
    with urllib.request.urlopen(request) as reply:
        assert reply.read() == b"hello"


def coming_back(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat")
    joins(one, other, room)
    other.post(f"rooms/{quote(room)}/leave")
    until(lambda: one.membership(room, other.user_id) == "leave", "the leave")
    one.state(room, "m.room.topic", {"topic": "new"})
    joins(one, other, room)
    one.send(room, "welcome back")
    until(lambda: "welcome back" in other.texts(room), "the welcome")
    assert one.state_ids(room) == other.state_ids(room)


def upgrades(one: Account, other: Account) -> None:
    room = one.create_room(preset="public_chat", room_version="10")
    joins(one, other, room)
    new = one.post(f"rooms/{quote(room)}/upgrade", {"new_version": "11"})["replacement_room"]
    until(lambda: new in str(other.get(f"rooms/{quote(room)}/state")), "the tombstone")
    joins(one, other, new)


SCENARIOS: tuple[Scenario, ...] = (
    talking_in_every_version,
    invites,
    invites_refused_and_taken_back,
    knocking,
    restricted_rooms,
    changes_of_what_was_said,
    power_and_bans,
    names_and_lists,
    reading_and_typing,
    keys_and_messages_to_devices,
    history,
    spaces,
    files,
    coming_back,
    upgrades,
)
