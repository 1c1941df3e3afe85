# SPDX-License-Identifier: Apache-2.0
"""A waiting client misses nothing, however many people write at once."""

from twisted.internet.defer import Deferred, gatherResults

from tests.harness.server import HomeserverCase, Session

WRITERS = 4
MESSAGES = 40
ROOMS = 3


class LongPollTest(HomeserverCase):
    settings = "presence: {enabled: false}"

    async def test_nothing_is_missed_beside_concurrent_writers(self) -> None:
        people = [await self.register(f"user{number}") for number in range(WRITERS)]
        rooms = []
        for _ in range(ROOMS):
            self.clock.advance(0.01)
            rooms.append(await self.create_room(people[0], preset="public_chat"))
            for person in people[1:]:
                await self.join(person, rooms[-1])
        seen: dict[str, list[str]] = {person.user_id: [] for person in people}
        since = {person.user_id: (await self.sync(person))["next_batch"] for person in people}
        expected = WRITERS * MESSAGES

        async def write(person: Session, number: int) -> None:
            for count in range(MESSAGES):
                await self.send(person, rooms[(number + count) % ROOMS], f"{number} {count}")

        async def poll(person: Session) -> None:
            mine = seen[person.user_id]
            while len(mine) < expected:
                reply = await self.request(
                    "GET",
                    "/_matrix/client/v3/sync",
                    None,
                    person,
                    query={
                        "since": since[person.user_id],
                        "timeout": 30_000,
                        "filter": '{"room":{"timeline":{"limit":100}}}',
                    },
                    expect=200,
                )
                since[person.user_id] = reply.json["next_batch"]
                for section in reply.json["rooms"]["join"].values():
                    self.assertFalse(section["timeline"]["limited"])
                    mine += [event["content"]["body"] for event in section["timeline"]["events"]]

        work = [write(person, number) for number, person in enumerate(people)] + [poll(person) for person in people]
        await gatherResults([Deferred.fromCoroutine(one) for one in work])
        for mine in seen.values():
            self.assertEqual(len(mine), expected)
            self.assertEqual(len(set(mine)), expected)
