# SPDX-License-Identifier: Apache-2.0
"""What somebody sees of a room's history, against the specification's five rules applied to every event by hand."""

import random
from typing import Any
from urllib.parse import quote

import attrs

from tests.harness.server import Session
from tests.rooms.test_reading import V3, ReadingCase

SETTINGS = ("world_readable", "shared", "invited", "joined")


@attrs.define
class Told:
    """One event with what held for the viewer before it and after it."""

    visibility: str
    membership: str
    visibility_after: str
    membership_after: str
    event_id: str = ""


def allows(visibility: str, membership: str, joined_later: bool) -> bool:
    return (
        visibility == "world_readable"
        or membership == "join"
        or (visibility == "shared" and joined_later)
        or (visibility == "invited" and membership == "invite")
    )


def expected(story: list[Told]) -> list[str] | None:
    """The events that the viewer sees, oldest first; None when they may not look inside."""
    if not any(told.membership_after == "join" for told in story) and story[-1].visibility_after != "world_readable":
        return None
    seen = []
    for place, told in enumerate(story):
        later = any(after.membership_after == "join" for after in story[place:])
        sides = [
            (told.visibility, told.membership),
            (told.visibility_after, told.membership),
            (told.visibility, told.membership_after),
        ]
        if any(allows(visibility, membership, later) for visibility, membership in sides):
            seen.append(told.event_id)
    return seen


class AgainstTheRules(ReadingCase):
    timeout = 120

    async def test_many_lives_of_a_room(self) -> None:
        for seed in range(25):
            await self.live(random.Random(seed), seed)

    async def live(self, chance: random.Random, seed: int) -> None:
        self.clock.advance(1)
        room = await self.create_room(self.alice, preset="public_chat")
        created = await self.everything(self.alice, room, "f", limit=100)
        story = [Told("shared", "leave", "shared", "leave", event["event_id"]) for event in created]
        for _ in range(22):
            told = attrs.evolve(story[-1], event_id="")
            told.visibility, told.membership = told.visibility_after, told.membership_after
            told.event_id = await self.happen(chance, room, told)
            if told.event_id:
                story.append(told)
            if chance.random() < 0.3:
                await self.compare(room, story, seed)
        await self.compare(room, story, seed)

    async def happen(self, chance: random.Random, room: str, told: Told) -> str:
        """Something happens; returns its event, empty when it could not."""
        what = chance.choice(("say", "say", "say", "setting", "invite", "join", "leave", "kick", "ban", "unban"))
        if what == "say":
            return await self.send(self.alice, room, "x")
        if what == "setting":
            setting = chance.choice([one for one in SETTINGS if one != told.visibility])
            content = {"history_visibility": setting}
            told.visibility_after = setting
            return str((await self.put_state(self.alice, room, "m.room.history_visibility", content)).json["event_id"])
        possible = {
            "invite": "leave",
            "join": "leave invite",
            "leave": "join invite",
            "kick": "join invite",
            "ban": "leave join invite",
            "unban": "ban",
        }
        if told.membership not in possible[what].split():
            return ""
        after = {"invite": "invite", "join": "join", "ban": "ban"}.get(what, "leave")
        told.membership_after = after
        by: Session = self.bob if what in ("join", "leave") else self.alice
        content = {"membership": after}
        return str((await self.put_state(by, room, "m.room.member", content, self.bob.user_id)).json["event_id"])

    async def compare(self, room: str, story: list[Told], seed: int) -> None:
        wanted = expected(story)
        if wanted is None:
            await self.messages(self.bob, room, 403)
            return
        found = [event["event_id"] for event in await self.everything(self.bob, room, "f", limit=7)]
        self.assertEqual(found, wanted, seed)
        back = [event["event_id"] for event in await self.everything(self.bob, room, "b", limit=5)]
        self.assertEqual(back[::-1], wanted, seed)
        for told in story[-4:]:
            path = f"{V3}/rooms/{quote(room)}/event/{quote(told.event_id)}"
            reply: Any = await self.request("GET", path, None, self.bob)
            self.assertEqual(reply.status, 200 if told.event_id in wanted else 404, (seed, told))
