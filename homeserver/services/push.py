# SPDX-License-Identifier: Apache-2.0
"""Telling push gateways of what notifies their users: who is told next, in which order, and again when it failed.

One delivery per pusher, with these states:

=========  ======================  ===================================================
state      leaves it               by
=========  ======================  ===================================================
resting    to working              an event in a room of the user, a receipt of the user
working    to resting              nothing is left to tell
working    to waiting              the gateway did not take a request
waiting    to working              time, twice as long after each failure
any        gone                    the pusher is removed, or the gateway rejects its key
=========  ======================  ===================================================
"""

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall

from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.egress import NoAnswer
from homeserver.services.push_decisions import decide
from homeserver.services.push_payload import Target, badge_body, event_body, is_read, unread_total
from storage import names, notifications, pushers
from storage.pushers import Pusher
from storage.txn import Change, Txn

AT_ONCE = 50
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 3600.0
#: After this long without an answer what happened meanwhile is not told any more.
GIVE_UP_MS = 24 * 3600_000
#: Receipts come in bursts; the badge is told once for each.
BADGE_SECONDS = 1.0

Key = tuple[int, str, str]


class Gateway(Protocol):
    """What takes the requests; raises NoAnswer. The answer is JSON of any form."""

    async def post_json(self, url: str, body: bytes) -> Any: ...


@attrs.define(slots=True, eq=False)
class Delivery:
    """How far one pusher has been told. `badge` is the last number told, None when it is not known."""

    pusher: Pusher
    done: int
    failing_since: int
    failures: int = 0
    badge: int | None = None
    badge_due: bool = False
    working: bool = False
    again: bool = False
    waiting: IDelayedCall | None = None
    gone: bool = False


@attrs.frozen(slots=True)
class Batch:
    """What there is to tell: (event number, request body) of each event, and up to where that is all."""

    bodies: Sequence[tuple[int, bytes]]
    upto: int
    badge: int | None


class Push:
    """Deliveries to all HTTP pushers of local users."""

    def __init__(self, database: Database, runtime: Runtime, gateway: Gateway) -> None:
        self._database = database
        self._runtime = runtime
        self._gateway = gateway
        self._deliveries: dict[int, dict[Key, Delivery]] = {}
        self._rooms: set[int] = set()
        self._looking = False
        self._stopped = False

    async def start(self) -> None:
        """Take up every pusher where it was."""
        self._database.subscribe(self._published)
        for pusher in await self._database.read(pushers.all_of):
            self._add(pusher)
        for usr in list(self._deliveries):
            self._wake_user(usr)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stopped = True
        for deliveries in self._deliveries.values():
            for delivery in deliveries.values():
                self._forget(delivery)
        self._deliveries.clear()

    @property
    def failing(self) -> int:
        """How many pushers' gateways do not answer at the moment."""
        return sum(1 for some in self._deliveries.values() for one in some.values() if one.failures)

    # Waking

    def _published(self, position: int, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.stream == "pusher" and change.user is not None:
                self._runtime.background("pushers", self._reload(change.user))
            elif not self._deliveries or self._stopped:
                continue
            elif change.stream in ("event", "membership") and change.room is not None:
                self._rooms.add(change.room)
            elif change.stream in ("receipt", "private_receipt") and change.user in self._deliveries:
                for delivery in self._deliveries[change.user].values():
                    delivery.badge_due = True
                self._runtime.call_later(BADGE_SECONDS, self._wake_user, change.user)
        if self._rooms and not self._looking:
            self._looking = True
            self._runtime.background("push", self._look())

    async def _look(self) -> None:
        """Find whom the new events may concern."""
        try:
            while self._rooms and not self._stopped:
                rooms, self._rooms = list(self._rooms), set()
                for usr in await self._database.read(notifications.users_with_pushers, rooms):
                    self._wake_user(usr)
        finally:
            self._looking = False

    def _wake_user(self, usr: int) -> None:
        for delivery in self._deliveries.get(usr, {}).values():
            if delivery.working:
                delivery.again = True
            elif delivery.waiting is None:
                self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        delivery.waiting = None
        delivery.working = True
        self._runtime.background("push", self._work(delivery))

    async def _reload(self, usr: int) -> None:
        """Take in that the user's pushers changed."""
        current = {(p.usr, p.app_id, p.pushkey): p for p in await self._database.read(pushers.of_user, usr)}
        known = self._deliveries.setdefault(usr, {})
        for key in list(known):
            if key not in current:
                self._forget(known.pop(key))
        for key, pusher in current.items():
            if key not in known:
                self._add(pusher)
            elif known[key].pusher != pusher:
                known[key].pusher = pusher
                known[key].failures = 0
        if not self._deliveries[usr]:
            del self._deliveries[usr]
        self._wake_user(usr)

    def _add(self, pusher: Pusher) -> None:
        key = (pusher.usr, pusher.app_id, pusher.pushkey)
        delivery = Delivery(pusher, pusher.done, pusher.failing_since)
        self._deliveries.setdefault(pusher.usr, {})[key] = delivery

    def _forget(self, delivery: Delivery) -> None:
        delivery.gone = True
        if delivery.waiting is not None and delivery.waiting.active():
            delivery.waiting.cancel()

    # Telling

    async def _work(self, delivery: Delivery) -> None:
        try:
            more = True
            while more and not delivery.gone:
                delivery.again = False
                more = await self._tell_batch(delivery) or delivery.again
        except NoAnswer:
            await self._fail(delivery)
        finally:
            delivery.working = False

    async def _tell_batch(self, delivery: Delivery) -> bool:
        """Tell what there is; whether there may be more. Raises NoAnswer."""
        target = Target.of(delivery.pusher)
        upto = self._database.published
        if not delivery.pusher.enabled:
            delivery.done = upto
            return False
        batch = await self._database.read(_batch, delivery.pusher.usr, target, delivery.done, upto, delivery.badge_due)
        for nid, body in batch.bodies:
            await self._ask(delivery, target, body)
            delivery.done, delivery.badge = nid, batch.badge
        if delivery.badge_due and target.wants_badge:
            if not batch.bodies and batch.badge is not None and batch.badge != delivery.badge:
                await self._ask(delivery, target, badge_body(target, batch.badge))
                delivery.badge = batch.badge
            delivery.badge_due = False
        delivery.done = max(delivery.done, batch.upto)
        if batch.bodies and not delivery.gone:
            await self._note(delivery)
        return batch.upto < upto

    async def _ask(self, delivery: Delivery, target: Target, body: bytes) -> None:
        if delivery.gone:
            return
        answer = await self._gateway.post_json(target.url, body)
        delivery.failures = delivery.failing_since = 0
        rejected = answer.get("rejected") if isinstance(answer, dict) else None
        if isinstance(rejected, list) and target.pushkey in rejected:
            # "Homeservers must cease sending notification requests for these pushkeys and remove the pushers."
            self._forget(delivery)
            await self._database.write(pushers.remove, delivery.pusher.usr, target.app_id, target.pushkey)

    async def _fail(self, delivery: Delivery) -> None:
        """Plan the next try; what has waited for a day is not told any more."""
        now = self._runtime.now_ms()
        delivery.failing_since = delivery.failing_since or now
        if now - delivery.failing_since > GIVE_UP_MS:
            delivery.done = self._database.published
        seconds = min(FIRST_RETRY_SECONDS * 2**delivery.failures, LONGEST_RETRY_SECONDS)
        delivery.failures = min(delivery.failures + 1, 20)
        await self._note(delivery)
        if not delivery.gone:
            delivery.waiting = self._runtime.call_later(seconds, self._begin, delivery)

    async def _note(self, delivery: Delivery) -> None:
        arguments = (delivery.pusher, delivery.done, delivery.failing_since)
        await self._database.write(pushers.note_progress, *arguments)


def _batch(txn: Txn, usr: int, target: Target, after: int, upto: int, badge_due: bool) -> Batch:
    """The requests for the next events of (after, upto] that notify the user and are not read yet."""
    nids = notifications.arrived(txn, usr, after, upto, AT_ONCE)
    end = upto if len(nids) < AT_ONCE else nids[-1]
    decided = [one for one in decide(txn, usr, nids) if not is_read(txn, usr, one.event)] if nids else []
    badge = None
    if target.wants_badge and (decided or badge_due):
        badge = unread_total(txn, usr, upto)
    user_id = names.user_id(txn, usr)
    bodies = [(one.event.nid, event_body(txn, target, one, user_id, badge)) for one in decided]
    return Batch(bodies, end, badge)
