# SPDX-License-Identifier: Apache-2.0
"""Who is online, who is idle: told by their clients' syncs and deeds, and shown to those who share a room with them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall

from homeserver.protocol.errors import bad_json, forbidden, invalid_param, not_found
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import names, presence, standing
from storage.presence import OFFLINE, ONLINE, UNAVAILABLE
from storage.presence import Presence as Stored

STATES = {"online": ONLINE, "unavailable": UNAVAILABLE, "offline": OFFLINE}
STATE_NAMES = {number: name for name, number in STATES.items()}
MAX_STATUS_BYTES = 1024

#: "The server will automatically set a user's presence to unavailable if their last active time was over a threshold".
IDLE_MS = 5 * 60_000
#: How long after the last sync ended somebody counts as connected.
GONE_MS = 30_000
#: How long after a deed somebody counts as currently active; during that time nobody is told of further deeds.
ACTIVE_MS = 60_000
SWEEP_SECONDS = 5.0


@attrs.define(slots=True, eq=False)
class Person:
    """A local user as known in memory. `syncs` are the sync requests being answered right now; times are in ms."""

    usr: int
    state: int
    status: str | None
    last_active: int
    last_sync: int
    syncs: int = 0
    saved_active: int = 0


class Presence:
    """Presence of local users, and what is known of others'. Where it is switched off everybody is offline."""

    def __init__(self, database: Database, runtime: Runtime, enabled: bool) -> None:
        self.enabled = enabled
        self._database = database
        self._runtime = runtime
        self._people: dict[int, Person] = {}
        self._sweep: IDelayedCall | None = None

    async def start(self) -> None:
        """Take up those who were online when the server stopped; they go offline unless they sync again."""
        if not self.enabled:
            return
        now = self._runtime.now_ms()
        for stored in await self._database.read(presence.lit):
            self._people[stored.usr] = Person(stored.usr, stored.state, stored.status, stored.last_active, now)
        self._plan_sweep()

    async def stop(self) -> None:
        """Keep when people were last active."""
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()
        await self._save_activity()

    # What clients say

    async def set(self, user: User, state: str, status: str | None) -> None:
        """`PUT /presence/{userId}/status`. Raises M_INVALID_PARAM."""
        if state not in STATES:
            raise invalid_param("presence must be online, unavailable or offline")
        if status is not None and len(status.encode("utf-8", "surrogatepass")) > MAX_STATUS_BYTES:
            raise invalid_param(f"status_msg has at most {MAX_STATUS_BYTES} bytes")
        if not self.enabled:
            return
        person = self._person(user.usr)
        now = self._runtime.now_ms()
        changed = person.status != status or person.state != STATES[state]
        person.status = status
        person.last_sync = now
        # "When setting the status, the activity time is updated to reflect that activity".
        was_active = now - person.last_active < ACTIVE_MS
        person.last_active = now
        person.state = STATES[state]
        if changed or not was_active:
            await self._save(person)

    @contextmanager
    def attending(self, user: User, set_presence: str = "online") -> Iterator[None]:
        """Around answering a sync: the user is connected meanwhile. "offline" says nothing and changes nothing."""
        if not self.enabled or set_presence == "offline":
            yield
            return
        person = self._people.get(user.usr)
        if person is None:
            person = self._people[user.usr] = Person(user.usr, OFFLINE, None, 0, self._runtime.now_ms())
            self._runtime.background("presence", self._arrive(person, set_presence))
        else:
            self._sync_says(person, set_presence)
        person.syncs += 1
        try:
            yield
        finally:
            person.syncs -= 1
            person.last_sync = self._runtime.now_ms()

    def active(self, usr: int) -> None:
        """The user did something: sent, read, typed."""
        person = self._people.get(usr)
        if not self.enabled or person is None:
            return
        now = self._runtime.now_ms()
        tell = person.state != ONLINE or now - person.last_active >= ACTIVE_MS
        person.last_active = now
        if tell:
            person.state = ONLINE
            self._save_soon(person)

    # What others see

    async def get(self, user: User, user_id: str) -> dict[str, Any]:
        """`GET /presence/{userId}/status`. Raises M_FORBIDDEN for strangers, M_NOT_FOUND for nobody."""
        usr = await self._database.point(names.user_nid, user_id)
        if usr is None:
            raise not_found("There is no such user")
        if usr != user.usr and not await self._database.read(standing.share_room, user.usr, [usr]):
            raise forbidden("You share no room with this user")
        if not self.enabled:
            return {"presence": "offline"}
        known = (await self._known([usr])).get(usr)
        return {"presence": "offline"} if known is None else self._content(known)

    async def since(
        self, user: User, after: int, upto: int, moved: Collection[int] | None = ()
    ) -> list[dict[str, Any]]:
        """The `m.presence` events for a sync: of those who share a room with the user, and of the user.

        `after` 0: of everybody who is not offline; else of those whose presence changed in (after, upto], and of those
        met since then in the rooms `moved` (None: in any).
        """
        if not self.enabled:
            return []
        shown = await self._database.read(presence.visible, user.usr, after, upto)
        if after and (moved is None or moved):
            met = await self._database.read(presence.met, user.usr, after, moved)
            shown = list(dict.fromkeys([*shown, *met]))
        known = await self._known(shown)
        ids = await self._database.read(names.user_ids, list(known))
        return [
            {"type": "m.presence", "sender": ids[usr], "content": self._content(one)}
            for usr, one in known.items()
            if after or one.state != OFFLINE
        ]

    async def newly_near(self, user: User, usrs: Sequence[int], told: Collection[str]) -> list[dict[str, Any]]:
        """The `m.presence` events of those among `usrs` who are not offline, for one who may have just met them.

        Those whose ids are in `told` are left out, and the user.
        """
        others = [usr for usr in usrs if usr != user.usr]
        if not self.enabled or not others:
            return []
        known = await self._known(others)
        ids = await self._database.read(names.user_ids, list(known))
        return [
            {"type": "m.presence", "sender": ids[usr], "content": self._content(one)}
            for usr, one in known.items()
            if one.state != OFFLINE and ids[usr] not in told
        ]

    async def of(self, usr: int) -> dict[str, Any] | None:
        """The content of a user's `m.presence`; None when nothing is known or presence is off."""
        known = (await self._known([usr])).get(usr) if self.enabled else None
        return None if known is None else self._content(known)

    async def receive(self, usr: int, state: str, status: str | None, last_active_ago: int) -> None:
        """Presence of a user of another server, as their server tells it."""
        if not self.enabled or state not in STATES:
            return
        at = max(self._runtime.now_ms() - max(last_active_ago, 0), 0)
        await self._database.write(presence.save, Stored(usr, STATES[state], status, at))

    def _content(self, one: Stored) -> dict[str, Any]:
        content: dict[str, Any] = {"presence": STATE_NAMES[one.state]}
        ago = max(self._runtime.now_ms() - one.last_active, 0)
        if one.last_active:
            content["last_active_ago"] = ago
        if one.state == ONLINE:
            content["currently_active"] = ago < ACTIVE_MS
        if one.status is not None:
            content["status_msg"] = one.status
        return content

    async def _known(self, usrs: list[int]) -> Mapping[int, Stored]:
        stored = await self._database.read(presence.of_users, usrs)
        for usr in usrs:
            person = self._people.get(usr)
            if person is not None:
                stored[usr] = _stored(person)
        return stored

    # Upkeep

    def _person(self, usr: int) -> Person:
        fresh = Person(usr, OFFLINE, None, 0, self._runtime.now_ms())
        return self._people.setdefault(usr, fresh)

    async def _arrive(self, person: Person, set_presence: str) -> None:
        """Somebody syncs who did not lately: they have the status that they had."""
        stored = (await self._database.point(presence.of_users, [person.usr])).get(person.usr)
        if stored is not None and person.state == OFFLINE:
            person.status, person.last_active = stored.status, stored.last_active
        self._sync_says(person, set_presence)

    def _sync_says(self, person: Person, set_presence: str) -> None:
        now = self._runtime.now_ms()
        person.last_sync = now
        if set_presence == "unavailable":
            if person.state != UNAVAILABLE:
                person.state = UNAVAILABLE
                self._save_soon(person)
        elif person.state == OFFLINE:
            person.state, person.last_active = ONLINE, now
            self._save_soon(person)

    def _plan_sweep(self) -> None:
        self._sweep = self._runtime.call_later(SWEEP_SECONDS, self._sweep_all)

    def _sweep_all(self) -> None:
        """Those who did nothing for long are idle, those who do not sync any more are gone."""
        now = self._runtime.now_ms()
        for person in list(self._people.values()):
            if not person.syncs and now - person.last_sync > GONE_MS:
                del self._people[person.usr]
                if person.state != OFFLINE:
                    person.state = OFFLINE
                    self._save_soon(person)
            elif person.state == ONLINE and now - person.last_active > IDLE_MS:
                person.state = UNAVAILABLE
                self._save_soon(person)
        self._plan_sweep()

    def _save_soon(self, person: Person) -> None:
        self._runtime.background("presence", self._save(person))

    async def _save(self, person: Person) -> None:
        person.saved_active = person.last_active
        await self._database.write(presence.save, _stored(person))

    async def _save_activity(self) -> None:
        late = [(p.usr, p.last_active) for p in self._people.values() if p.last_active != p.saved_active]
        if late:
            await self._database.write(presence.save_activity, late)


def _stored(person: Person) -> Stored:
    return Stored(person.usr, person.state, person.status, person.last_active)


def parsed_status(body: Mapping[str, object]) -> tuple[str, str | None]:
    """`presence` and `status_msg` of a request's body; raises M_BAD_JSON."""
    state, status = body.get("presence"), body.get("status_msg")
    if not isinstance(state, str):
        raise bad_json("presence must be a string")
    if status is not None and not isinstance(status, str):
        raise bad_json("status_msg must be a string")
    return state, status
