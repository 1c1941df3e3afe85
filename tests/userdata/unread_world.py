# SPDX-License-Identifier: Apache-2.0
"""A small world of rooms and users in which everything random happens that unread counts depend on, counted twice:
by the server's way, and naively, with one row per user and event.
"""

from random import Random
from typing import Any

import attrs
import orjson

from homeserver.protocol import push_edits
from homeserver.protocol.events import Event
from homeserver.protocol.push_rules import Evaluator, Occasion, Rule, RuleSet, rule_set
from homeserver.protocol.room_versions import DEFAULT, ROOM_VERSIONS
from homeserver.runtime import Runtime
from homeserver.services.account_data import AccountData
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.push_rules import PushRules
from homeserver.services.receipts import Receipts
from homeserver.services.rooms.unread_rules import UnreadRules
from storage import membership, names, rooms, unread
from storage.events import pack_id
from storage.txn import Change, Txn

SERVER = "parley.test"
VERSION = ROOM_VERSIONS[DEFAULT]
NAMES = ("alice", "bob", "carol", "dave")
HIGHLIGHT = {"set_tweak": "highlight"}
JOIN, LEAVE = 1, 0


@attrs.frozen
class Row:
    """One notification of one user, as the naive way keeps it."""

    room: int
    ord: int
    thread: int | None
    highlight: bool


@attrs.define
class Sent:
    """An event of a room."""

    event_id: str
    nid: int
    thread: int | None
    sender: str


@attrs.define
class Room:
    """A room as the naive way sees it."""

    nid: int
    room_id: str
    joined: dict[str, str] = attrs.field(factory=dict)
    sent: list[Sent] = attrs.field(factory=list)


class World:
    """Rooms, users, and both ways of counting."""

    def __init__(self, database: Database, runtime: Runtime, seed: int) -> None:
        self.random = Random(seed)
        self.database = database
        self.unread_rules = UnreadRules(database, SERVER)
        self.push_rules = PushRules(database, self.unread_rules)
        self.data = AccountData(database, self.unread_rules)
        self.receipts = Receipts(database, runtime)
        self.seed = seed
        self.counter = 0
        self.users: dict[str, User] = {}
        self.rules: dict[str, RuleSet] = {}
        self.ignored: dict[str, set[str]] = {}
        self.rows: dict[str, list[Row]] = {}
        self.rooms: list[Room] = []
        self.log: list[str] = []

    async def begin(self) -> None:
        """Two rooms, in which most are."""
        for name in NAMES:
            user_id = f"@{name}{self.seed}:{SERVER}"
            usr = await self.database.write(names.intern_user, user_id, True)
            self.users[user_id] = User(user_id, usr, "D", 1)
            self.rules[user_id], self.ignored[user_id], self.rows[user_id] = rule_set(user_id), set(), []
        for number in range(2):
            room_id = f"!{number}of{self.seed}:{SERVER}"
            room = Room(await self.database.write(rooms.create, room_id, DEFAULT), room_id)
            self.rooms.append(room)
            for user_id in self.users:
                if self.random.random() < 0.8:
                    await self.join(room, user_id)

    async def step(self) -> None:
        """One thing happens."""
        room = self.random.choice(self.rooms)
        user_id = self.random.choice(list(self.users))
        deed = self.random.choices(
            (self.send, self.read, self.change_rules, self.redact, self.join_or_leave, self.ignore),
            (12, 4, 3, 1, 1, 1),
        )[0]
        await deed(room, user_id)

    # ---- what happens ----

    async def send(self, room: Room, user_id: str) -> None:
        if user_id not in room.joined:
            return
        kind, content, state_key = self._anything()
        thread = self._thread(room, content)
        await self._append(room, user_id, kind, content, state_key, thread)

    def _anything(self) -> tuple[str, dict[str, Any], str | None]:
        """An event's type, content and state key."""
        chance = self.random.random()
        body = self.random.choice(["hello", "some cake", "Dave is here", "an alice0 thing"])
        content: dict[str, Any] = {"msgtype": self.random.choice(["m.text"] * 5 + ["m.notice"]), "body": body}
        if chance < 0.3:
            named = self.random.sample(list(self.users), self.random.choice([0, 1, 2])) + ["@far:away"]
            content["m.mentions"] = self.random.choice(
                [{"user_ids": named}, {"room": True}, {"user_ids": named} | {"room": True}]
            )
        if self.random.random() < 0.1:
            content["m.relates_to"] = {"rel_type": "m.replace", "event_id": "$x"}
        kind = self.random.choice(["m.room.message"] * 8 + ["m.room.encrypted", "m.reaction", "m.custom"])
        state_key = None
        if self.random.random() < 0.1:
            kind, state_key = self.random.choice(
                [("m.room.topic", ""), ("m.room.tombstone", ""), ("m.room.message", "x")]
            )
        return kind, content, state_key

    def _thread(self, room: Room, content: dict[str, Any]) -> int | None:
        roots = [sent for sent in room.sent[-6:] if sent.thread is None]
        if "m.relates_to" in content or not roots or self.random.random() > 0.3:
            return None
        root = self.random.choice(roots)
        content["m.relates_to"] = {"rel_type": "m.thread", "event_id": root.event_id}
        return root.nid

    async def _append(
        self, room: Room, user_id: str, kind: str, content: dict[str, Any], state_key: str | None, thread: int | None
    ) -> None:
        may = self.random.random() < 0.7
        event = self._event(room, user_id, kind, content, state_key)
        members = await self.unread_rules.room(room.nid)
        counted = self.unread_rules.at_append(members, event, lambda key: may)
        arguments = (room.nid, self.users[user_id].usr, event, counted.flags, thread, counted.exceptions)
        nid = await self.database.write(store, *arguments)
        self.log.append(f"{user_id} sends {nid} {kind} {content} in {room.nid} thread {thread}: {counted}")
        room.sent.append(Sent(event.event_id, nid, thread, user_id))
        for other in room.joined:
            self._notice(room, other, event, nid, thread, may)

    def _notice(self, room: Room, other: str, event: Event, nid: int, thread: int | None, may: bool) -> None:
        """The naive way: a row for each user whom their rules, then in force, notify."""
        if other == event.sender or event.sender in self.ignored[other]:
            return
        occasion = Occasion(event.pdu, room.room_id, event.event_id, len(room.joined), lambda key: may)
        decided = Evaluator(self.rules[other]).decide(occasion, room.joined[other])
        if decided is not None and decided.notifies:
            self.rows[other].append(Row(room.nid, nid << 20, thread, decided.highlights))

    def _event(self, room: Room, user_id: str, kind: str, content: dict[str, Any], state_key: str | None) -> Event:
        self.counter += 1
        pdu: dict[str, Any] = {"type": kind, "sender": user_id, "content": content, "room_id": room.room_id}
        pdu |= {"prev_events": [], "auth_events": [], "depth": 1, "origin_server_ts": 1}
        if state_key is not None:
            pdu["state_key"] = state_key
        return Event(VERSION, pdu, f"$event{self.counter}of{self.seed}")

    async def read(self, room: Room, user_id: str) -> None:
        if user_id not in room.joined or not room.sent:
            return
        at = self.random.choice(room.sent[-8:])
        body: dict[str, object] = {}
        how = self.random.choice(["all", "thread", "thread"])
        if how == "thread":
            root = next((sent for sent in room.sent if sent.nid == at.thread), None)
            body["thread_id"] = "main" if root is None else root.event_id
        kind = self.random.choice(["m.read", "m.read.private"])
        self.log.append(f"{user_id} reads {at.nid} {kind} {body}")
        await self.receipts.send(self.users[user_id], room.room_id, kind, at.event_id, body)
        self.rows[user_id] = [
            row
            for row in self.rows[user_id]
            if row.room != room.nid or row.ord > at.nid << 20 or (how == "thread" and row.thread != at.thread)
        ]

    async def change_rules(self, room: Room, user_id: str) -> None:
        rules = self.rules[user_id]
        in_room = {"kind": "event_match", "key": "room_id", "pattern": room.room_id}
        new = self.random.choice(
            [
                Rule("override", room.room_id, (), (in_room,)),
                Rule("room", room.room_id, ()),
                Rule("room", room.room_id, ("notify", {"set_tweak": "sound", "value": "default"})),
                Rule("content", "cake", ("notify", HIGHLIGHT), (), "cake"),
                Rule("sender", self.random.choice(list(self.users)), self.random.choice([(), ("notify",)])),
                Rule("override", "few", ("notify",), ({"kind": "room_member_count", "is": "<4"}, in_room)),
                Rule("override", "name", ("notify", HIGHLIGHT), ({"kind": "contains_display_name"},)),
                Rule(
                    "underride",
                    "topics",
                    ("notify",),
                    ({"kind": "event_match", "key": "type", "pattern": "m.room.t*"},),
                ),
            ]
        )
        edit = self.random.choice(["put", "put", "delete", "delete", "toggle", "quiet", "master"])
        if edit == "put":
            edited = push_edits.put(rules, new)
        elif edit == "delete":
            own = [rule for kind in rules.rules for rule in rules.own(kind)]
            if not own:
                return
            gone = self.random.choice(own)
            edited = push_edits.delete(rules, gone.kind, gone.rule_id)
        else:
            kind, rule_id = self.random.choice(
                [("underride", ".m.rule.message"), ("override", ".m.rule.is_user_mention")]
                + [("override", ".m.rule.suppress_notices"), ("underride", ".m.rule.encrypted")]
            )
            rule = push_edits.find(rules, kind, rule_id)
            if edit == "master":
                master = push_edits.find(rules, "override", ".m.rule.master")
                edited = push_edits.enable(rules, "override", ".m.rule.master", not master.enabled)
            elif edit == "toggle":
                edited = push_edits.enable(rules, kind, rule_id, not rule.enabled)
            else:
                edited = push_edits.set_actions(rules, kind, rule_id, () if rule.actions else ("notify",))
        self.log.append(f"{user_id} {edit} {edited.document()!r}")
        self.rules[user_id] = edited
        await self.push_rules.change(self.users[user_id].usr, lambda _: edited)

    async def redact(self, room: Room, user_id: str) -> None:
        if not room.sent:
            return
        gone = self.random.choice(room.sent[-8:])
        self.log.append(f"{gone.nid} is redacted")
        await self.database.write(_redact, room.nid, gone.nid)
        for other, rows in self.rows.items():
            self.rows[other] = [row for row in rows if row.ord != gone.nid << 20]

    async def join_or_leave(self, room: Room, user_id: str) -> None:
        if user_id in room.joined and self.random.random() < 0.5:
            await self.join(room, user_id)  # under another name
        elif user_id in room.joined:
            await self.leave(room, user_id)
        else:
            await self.join(room, user_id)

    async def join(self, room: Room, user_id: str) -> None:
        name = self.random.choice(["Dave", "Alice", "Nobody"])
        await self._member(room, user_id, "join", JOIN, name)
        room.joined[user_id] = name

    async def leave(self, room: Room, user_id: str) -> None:
        await self._member(room, user_id, "leave", LEAVE, "")
        del room.joined[user_id]
        self.rows[user_id] = [row for row in self.rows[user_id] if row.room != room.nid]

    async def _member(self, room: Room, user_id: str, word: str, kind: int, name: str) -> None:
        self.log.append(f"{user_id} {word}s {room.nid}")
        content = {"membership": word, **({"displayname": name} if name else {})}
        event = self._event(room, user_id, "m.room.member", content, user_id)
        members = await self.unread_rules.room(room.nid)
        counted = self.unread_rules.at_append(members, event, lambda key: True)
        usr = self.users[user_id].usr
        arguments = (room.nid, usr, event, counted.flags, None, counted.exceptions)
        nid = await self.database.write(_store_member, kind, *arguments)
        for other in room.joined:
            self._notice(room, other, event, nid, None, True)

    async def ignore(self, room: Room, user_id: str) -> None:
        other = self.random.choice([one for one in self.users if one != user_id])
        self.ignored[user_id] ^= {other}
        self.log.append(f"{user_id} ignores {self.ignored[user_id]}")
        content = {"ignored_users": {one: {} for one in self.ignored[user_id]}}
        await self.data.set(self.users[user_id], None, "m.ignored_user_list", content)

    # ---- the two counts ----

    async def compare(self) -> int:
        """Raise AssertionError where the two differ; returns how many counts were not zero."""
        found = 0
        for user_id, user in self.users.items():
            joined = [room.nid for room in self.rooms if user_id in room.joined]
            counted = await self.database.read(unread.counts, user.usr, joined, self.database.published)
            for room in joined:
                expected = self._naive(user_id, room)
                if counted[room] != expected:
                    story = "\n".join(self.log)
                    raise AssertionError(
                        f"seed {self.seed}: {user_id} in room {room} has {counted[room]}, not {expected}\n{story}"
                    )
                found += expected != (0, 0, {})
        return found

    def _naive(self, user_id: str, room: int) -> unread.Counts:
        main, threads = [0, 0], dict[int, list[int]]()
        for row in self.rows[user_id]:
            if row.room == room:
                pair = main if row.thread is None else threads.setdefault(row.thread, [0, 0])
                pair[0] += 1
                pair[1] += row.highlight
        return main[0], main[1], {thread: (n, h) for thread, (n, h) in threads.items()}


def store(
    txn: Txn,
    room: int,
    sender: int,
    event: Event,
    flags: int,
    thread: int | None,
    exceptions: tuple[tuple[int, int, int], ...],
) -> int:
    """Put an event into a room's timeline, with as little as reading it needs; gives its number."""
    nid = txn.position()
    skey = None if event.state_key is None else names.intern_skey(txn, event.type, event.state_key)
    txn.put(
        "INSERT INTO event (nid, ord, ts, thread, room, sender, depth, skey, etype, flags, codec, c0, id, content,"
        " envelope) VALUES (?, ?, 1, ?, ?, ?, 1, ?, ?, ?, 0, 0, ?, ?, ?)",
        (
            nid,
            nid << 20,
            thread,
            room,
            sender,
            skey,
            names.intern_etype(txn, event.type),
            flags,
            pack_id(event.event_id),
            orjson.dumps(event.content),
            b"",
        ),
    )
    if skey is not None:
        txn.put(
            "INSERT INTO state_now (room, skey, event) VALUES (?, ?, ?)"
            " ON CONFLICT (room, skey) DO UPDATE SET event = excluded.event",
            (room, skey, nid),
        )
    unread.record(txn, room, nid << 20, thread, exceptions)
    return nid


def _store_member(txn: Txn, kind: int, room: int, usr: int, event: Event, *rest: Any) -> int:
    nid = store(txn, room, usr, event, *rest)
    membership.put(txn, usr, room, kind, nid, nid)
    txn.announce(Change(nid, "membership", room, usr))
    return nid


def _redact(txn: Txn, room: int, nid: int) -> None:
    txn.put("UPDATE event SET flags = flags & ~3 WHERE nid = ?", (nid,))
    unread.redacted(txn, room, nid << 20)
