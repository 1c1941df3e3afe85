# SPDX-License-Identifier: Apache-2.0
"""A client that believes what `/sync` tells it, and random deeds of people for it to be told of."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

import attrs
import orjson

from tests.harness.server import HomeserverCase, Session

Json = dict[str, Any]


@attrs.define
class RoomModel:
    """What a client knows of a room that its user is joined to."""

    timeline: list[str] = attrs.field(factory=list)
    state: dict[tuple[str, str], str] = attrs.field(factory=dict)
    summary: Json = attrs.field(factory=dict)
    unread: Json = attrs.field(factory=dict)
    threads: Json = attrs.field(factory=dict)
    account_data: Json = attrs.field(factory=dict)
    receipts: dict[tuple[str, str, str], str] = attrs.field(factory=dict)
    typing: list[str] = attrs.field(factory=list)

    def apply(self, section: Json, state_after: bool) -> None:
        timeline = section["timeline"]
        ids = [event["event_id"] for event in timeline["events"]]
        if timeline["limited"]:
            self.timeline = []
        self.timeline += ids
        for event in section["state_after" if state_after else "state"]["events"]:
            self.state[event["type"], event["state_key"]] = event["event_id"]
        if not state_after:
            for event in timeline["events"]:
                if "state_key" in event:
                    self.state[event["type"], event["state_key"]] = event["event_id"]
        self.summary = section["summary"] or self.summary
        self.unread = section["unread_notifications"]
        self.threads = section.get("unread_thread_notifications", {})
        for event in section["account_data"]["events"]:
            self.account_data[event["type"]] = event["content"]
        for event in section["ephemeral"]["events"]:
            if event["type"] == "m.typing":
                self.typing = sorted(event["content"]["user_ids"])
            else:
                self._read(event["content"])

    def _read(self, content: Json) -> None:
        for event_id, kinds in content.items():
            for kind, people in kinds.items():
                for user, mark in people.items():
                    self.receipts[kind, user, mark.get("thread_id", "")] = event_id


@attrs.define
class ClientModel:
    """What a client knows."""

    session: Session
    query: Json
    state_after: bool = False
    lazy: bool = False
    since: str | None = None
    joined: dict[str, RoomModel] = attrs.field(factory=dict)
    invites: set[str] = attrs.field(factory=set)
    knocks: set[str] = attrs.field(factory=set)
    account_data: Json = attrs.field(factory=dict)

    def apply(self, answer: Json) -> None:
        self.since = answer["next_batch"]
        for event in answer.get("account_data", {}).get("events", ()):
            self.account_data[event["type"]] = event["content"]
        rooms = answer.get("rooms", {})
        for name in rooms.get("leave", {}):
            self._forget(name)
        for name in rooms.get("invite", {}):
            self._forget(name)
            self.invites.add(name)
        for name in rooms.get("knock", {}):
            self._forget(name)
            self.knocks.add(name)
        for name, section in rooms.get("join", {}).items():
            room = self.joined.get(name)
            if room is None:
                self._forget(name)
                room = self.joined[name] = RoomModel()
            room.apply(section, self.state_after)

    def _forget(self, room: str) -> None:
        self.joined.pop(room, None)
        self.invites.discard(room)
        self.knocks.discard(room)

    def differences(self, fresh: ClientModel) -> list[str]:
        """Where this client's beliefs are not those of one that has just started."""
        wrong = []
        for name in ("invites", "knocks", "account_data"):
            if getattr(self, name) != getattr(fresh, name):
                wrong.append(f"{name}: {getattr(self, name)} but {getattr(fresh, name)}")
        if self.joined.keys() != fresh.joined.keys():
            wrong.append(f"rooms: {sorted(self.joined)} but {sorted(fresh.joined)}")
        for room, mine in self.joined.items():
            theirs = fresh.joined.get(room)
            if theirs is None:
                continue
            for name in ("state", "summary", "unread", "threads", "account_data", "receipts", "typing"):
                if self.lazy and name == "state":
                    if not theirs.state.items() <= mine.state.items():
                        wrong.append(f"{room} state: {mine.state} lacks some of {theirs.state}")
                elif getattr(mine, name) != getattr(theirs, name):
                    wrong.append(f"{room} {name}: {getattr(mine, name)} but {getattr(theirs, name)}")
            size = min(len(mine.timeline), len(theirs.timeline))
            if size and mine.timeline[-size:] != theirs.timeline[-size:]:
                wrong.append(f"{room} timeline: {mine.timeline} but {theirs.timeline}")
            if bool(mine.timeline) < bool(theirs.timeline) and not mine.state:
                wrong.append(f"{room} timeline is empty")
        return wrong


TIMELINE = {"limit": 3, "unread_thread_notifications": True}
FILTER = orjson.dumps({"room": {"timeline": TIMELINE}}).decode()
LAZY = orjson.dumps({"room": {"timeline": TIMELINE, "state": {"lazy_load_members": True}}}).decode()


class World:
    """Some people, what they do at random, and their clients."""

    def __init__(self, case: HomeserverCase, seed: int, people: list[Session]) -> None:
        self.case = case
        self.random = random.Random(seed)
        self.people = people
        self.rooms: list[str] = []
        self.sent: dict[str, list[str]] = {}

    async def deed(self) -> str:
        """One random deed; many are refused, which is as good as any other."""
        choose = self.random.choice
        who = choose(self.people)
        if not self.rooms or (len(self.rooms) < 4 and self.random.random() < 0.1):
            return await self._create(who)
        deeds = [self._send, self._send, self._send, self._state, self._move, self._move, self._read, self._type]
        deeds += [self._note, self._redact, self._thread]
        return await choose(deeds)(who, choose(self.rooms))

    async def _ask(self, method: str, path: str, body: Json, who: Session) -> Any:
        reply = await self.case.request(method, "/_matrix/client/v3" + path, body, who, validate=False)
        assert reply.status < 500, (method, path, reply.json)
        return reply.json

    async def _create(self, who: Session) -> str:
        self.case.clock.advance(0.01)
        visibility = self.random.choice(["shared", "joined", "invited", "world_readable"])
        body = {
            "preset": self.random.choice(["public_chat", "public_chat", "private_chat"]),
            "initial_state": [
                {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}},
            ],
        }
        if self.random.random() < 0.5:
            body["name"] = "A room"
        made = await self._ask("POST", "/createRoom", body, who)
        self.rooms.append(made["room_id"])
        return f"{who.user_id} creates {made['room_id']} {visibility}"

    async def _send(self, who: Session, room: str) -> str:
        body = {"msgtype": "m.text", "body": "hi"}
        path = f"/rooms/{quote(room)}/send/m.room.message/{self.random.random()}"
        made = await self._ask("PUT", path, body, who)
        if "event_id" in made:
            self.sent.setdefault(room, []).append(made["event_id"])
        return f"{who.user_id} sends to {room}: {made}"

    async def _thread(self, who: Session, room: str) -> str:
        if not self.sent.get(room):
            return "nothing to start a thread from"
        root = self.random.choice(self.sent[room])
        body = {"msgtype": "m.text", "body": "t", "m.relates_to": {"rel_type": "m.thread", "event_id": root}}
        path = f"/rooms/{quote(room)}/send/m.room.message/{self.random.random()}"
        return f"{who.user_id} replies in {room}: {await self._ask('PUT', path, body, who)}"

    async def _state(self, who: Session, room: str) -> str:
        kind = self.random.choice(["m.room.topic", "m.room.name", "a.b", "m.room.avatar"])
        body = {"topic": "t", "name": self.random.choice(["", "n"]), "n": self.random.randrange(99), "url": "mxc://a/b"}
        path = f"/rooms/{quote(room)}/state/{kind}/"
        return f"{who.user_id} sets {kind} in {room}: {await self._ask('PUT', path, body, who)}"

    async def _move(self, who: Session, room: str) -> str:
        other = self.random.choice(self.people).user_id
        deed = self.random.choice(
            ["join", "join", "join", "leave", "invite", "invite", "kick", "ban", "unban", "knock"]
        )
        body = {"user_id": other} if deed in ("invite", "kick", "ban", "unban") else {}
        path = f"/knock/{quote(room)}" if deed == "knock" else f"/rooms/{quote(room)}/{deed}"
        return f"{who.user_id} {deed} {body} {room}: {await self._ask('POST', path, body, who)}"

    async def _read(self, who: Session, room: str) -> str:
        if not self.sent.get(room):
            return "nothing to read"
        event_id = self.random.choice(self.sent[room])
        kind = self.random.choice(["m.read", "m.read.private"])
        body = self.random.choice([{}, {}, {"thread_id": "main"}])
        path = f"/rooms/{quote(room)}/receipt/{kind}/{quote(event_id)}"
        return f"{who.user_id} {kind} {body} {event_id} in {room}: {await self._ask('POST', path, body, who)}"

    async def _type(self, who: Session, room: str) -> str:
        typing = self.random.random() < 0.6
        path = f"/rooms/{quote(room)}/typing/{quote(who.user_id)}"
        made = await self._ask("PUT", path, {"typing": typing, "timeout": 20000}, who)
        return f"{who.user_id} typing {typing} in {room}: {made}"

    async def _note(self, who: Session, room: str) -> str:
        place = self.random.choice(["", f"/rooms/{quote(room)}"])
        kind = self.random.choice(["x.y", "x.z"])
        path = f"/user/{quote(who.user_id)}{place}/account_data/{kind}"
        made = await self._ask("PUT", path, {"n": self.random.randrange(999)}, who)
        return f"{who.user_id} notes {kind} {place}: {made}"

    async def _redact(self, who: Session, room: str) -> str:
        if not self.sent.get(room):
            return "nothing to redact"
        event_id = self.random.choice(self.sent[room])
        path = f"/rooms/{quote(room)}/redact/{quote(event_id)}/{self.random.random()}"
        return f"{who.user_id} redacts {event_id} in {room}: {await self._ask('PUT', path, {}, who)}"
