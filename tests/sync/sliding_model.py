# SPDX-License-Identifier: Apache-2.0
"""A client that believes what sliding sync tells it."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

import attrs

from tests.harness.server import Session

Json = dict[str, Any]
EXTENSIONS = {name: {"enabled": True} for name in ("account_data", "receipts", "typing", "e2ee")}


@attrs.define
class SlidingRoom:
    """What a client knows of a room."""

    timeline: list[str] = attrs.field(factory=list)
    state: dict[tuple[str, str], str] = attrs.field(factory=dict)
    facts: Json = attrs.field(factory=dict)
    account_data: Json = attrs.field(factory=dict)
    receipts: dict[tuple[str, str], str] = attrs.field(factory=dict)
    typing: list[str] = attrs.field(factory=list)

    def apply(self, result: Json) -> None:
        ids = [event["event_id"] for event in result.get("timeline", ())]
        if result.get("limited") or result.get("expanded_timeline"):
            self.timeline = []
        self.timeline += ids
        for event in result.get("required_state", ()):
            key = event["type"], event["state_key"]
            if "content" in event:
                self.state[key] = event["event_id"]
            else:
                self.state.pop(key, None)
        for name in ("name", "avatar", "joined_count", "invited_count", "membership", "bump_stamp", "heroes"):
            if name in result:
                self.facts[name] = result[name]
            if self.facts.get(name) is None:
                self.facts.pop(name, None)
        if "joined_count" in result and "heroes" not in result:
            self.facts.pop("heroes", None)


@attrs.define
class SlidingModel:
    """What a client of the merged form knows by one connection."""

    session: Session
    connection: str
    lazy: bool = False
    pos: str | None = None
    rooms: dict[str, SlidingRoom] = attrs.field(factory=dict)
    account_data: Json = attrs.field(factory=dict)
    count: int = 0

    def request(self, choice: random.Random | None, known: list[str]) -> Json:
        """A request for a random window and random subscriptions, or for everything."""
        body: Json = {"conn_id": self.connection, "extensions": EXTENSIONS}
        if self.pos is not None:
            body["pos"] = self.pos
        last = 99 if choice is None else choice.choice([0, 0, 1, 2, 99])
        body["lists"] = {"all": {**self._config(3), "range": [0, last]}}
        if choice is not None and known and choice.random() < 0.4:
            body["room_subscriptions"] = {choice.choice(known): self._config(choice.choice([1, 5]))}
        return body

    def wire(self, body: Json) -> tuple[str, Json]:
        """Path and body of a request as they are sent."""
        return "/_matrix/client/v4/sync", body

    def read(self, answer: Json) -> Json:
        """An answer in the merged form."""
        return answer

    def _config(self, limit: int) -> Json:
        return {"timeline_limit": limit, "required_state": {"include": [{}], "lazy_members": self.lazy}}

    def apply(self, answer: Json) -> None:
        self.pos = answer["pos"]
        self.count = answer["lists"]["all"]["count"]
        for name, result in answer["rooms"].items():
            if result.get("initial"):
                self.rooms[name] = SlidingRoom()
            self.rooms[name].apply(result)
        extensions = answer["extensions"]
        data = extensions.get("account_data", {})
        for event in data.get("global", ()):
            self.account_data[event["type"]] = event["content"]
        for name, events in data.get("rooms", {}).items():
            for event in events:
                self.rooms[name].account_data[event["type"]] = event["content"]
        for name, event in extensions.get("receipts", {}).get("rooms", {}).items():
            for event_id, kinds in event["content"].items():
                for kind, people in kinds.items():
                    for user, mark in people.items():
                        self.rooms[name].receipts[user, kind + mark.get("thread_id", "")] = event_id
        for name, event in extensions.get("typing", {}).get("rooms", {}).items():
            self.rooms[name].typing = sorted(event["content"]["user_ids"])

    def differences(self, fresh: SlidingModel) -> list[str]:
        wrong = []
        if self.account_data != fresh.account_data:
            wrong.append(f"account data: {self.account_data} but {fresh.account_data}")
        gone = {name for name, room in self.rooms.items() if room.facts.get("membership") == "leave"}
        if self.rooms.keys() - gone != fresh.rooms.keys() - gone:
            wrong.append(f"rooms: {sorted(self.rooms)} but {sorted(fresh.rooms)}")
        for name, theirs in fresh.rooms.items():
            mine = self.rooms.get(name)
            if mine is None or theirs.facts.get("membership") in ("leave", "ban"):
                continue
            for field in ("facts", "account_data", "typing") + (() if self.lazy else ("state",)):
                if getattr(mine, field) != getattr(theirs, field):
                    wrong.append(f"{name} {field}: {getattr(mine, field)} but {getattr(theirs, field)}")
            if self.lazy and not theirs.state.items() <= mine.state.items():
                wrong.append(f"{name} state: {mine.state} lacks some of {theirs.state}")
            size = min(len(mine.timeline), len(theirs.timeline))
            if mine.timeline[-size:] != theirs.timeline[-size:] or bool(mine.timeline) != bool(theirs.timeline):
                wrong.append(f"{name} timeline: {mine.timeline} but {theirs.timeline}")
            missing = {key: value for key, value in theirs.receipts.items() if mine.receipts.get(key) != value}
            if missing and all(len(key[0]) for key in missing):
                own = {key: value for key, value in missing.items() if key[0] == self.session.user_id}
                if own:
                    wrong.append(f"{name} receipts: {mine.receipts} lack {own}")
        return wrong


@attrs.define
class OlderSlidingModel(SlidingModel):
    """The same client, speaking as Element X does today (MSC3575, simplified)."""

    def wire(self, body: Json) -> tuple[str, Json]:
        sent = {name: value for name, value in body.items() if name != "pos"}
        window = {name: value for name, value in body["lists"]["all"].items() if name != "range"}
        sent["lists"] = {"all": self._older(window) | {"ranges": [body["lists"]["all"]["range"]]}}
        if "room_subscriptions" in body:
            sent["room_subscriptions"] = {room: self._older(one) for room, one in body["room_subscriptions"].items()}
        query = f"?timeout=0&pos={quote(body['pos'], safe='')}" if "pos" in body else "?timeout=0"
        return "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync" + query, sent

    def read(self, answer: Json) -> Json:
        for result in answer["rooms"].values():
            if result.pop("unstable_expanded_timeline", False):
                result["expanded_timeline"] = True
            own = [
                event["content"]["membership"]
                for event in [*result.get("required_state", ()), *result.get("timeline", ())]
                if event["type"] == "m.room.member" and event["state_key"] == self.session.user_id
            ]
            if own:
                result["membership"] = own[-1]
            elif "invite_state" in result:
                result["membership"] = "invite"
            result.pop("name", None)  # one that is taken away is not told in this form
        return answer

    def _older(self, config: Json) -> Json:
        members = [["m.room.member", "$LAZY"], ["m.room.member", "$ME"]] if self.lazy else []
        return {**config, "required_state": [["*", "*"], *members]}
