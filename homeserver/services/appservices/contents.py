# SPDX-License-Identifier: Apache-2.0
"""What the next transaction to an application service says, found in one read of the database.

https://spec.matrix.org/v1.19/application-service-api/#put_matrixappv1transactionstxnid, with the messages to devices of
MSC4203 (formerly MSC2409) and what encryption needs of MSC3202, under their stable and unstable names.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.config.appservice import AppServiceRegistration
from homeserver.services.appservices.interest import Interest
from homeserver.services.rooms.render import Renderer
from homeserver.services.sync.rooms import render_reads
from storage import appservices, events, membership, names, one_time_keys
from storage.appservices import Line, Message, Owned
from storage.txn import Txn

EVENTS = 100
MESSAGES = 500
LOOKED_AT = 1_000

EPHEMERAL = ("ephemeral", "de.sorunome.msc2409.ephemeral")
TO_DEVICE = ("to_device", "de.sorunome.msc2409.to_device")
LISTS = ("device_lists", "org.matrix.msc3202.device_lists")
COUNTS = (
    "device_one_time_keys_count",
    "org.matrix.msc3202.device_one_time_keys_count",
    "org.matrix.msc3202.device_one_time_key_counts",  # as servers before us misspelt it
)
FALLBACKS = ("device_unused_fallback_key_types", "org.matrix.msc3202.device_unused_fallback_key_types")


@attrs.define(eq=False)
class News:
    """What changed lately, as commits announced it, each with the position of the last change.

    `rooms` have events, `receipts` are rooms too, `mailboxes` and `keys` (user, device). Which rooms it was up to
    position `blind` is not known: all are looked at.
    """

    blind: int = 0
    rooms: dict[int, int] = attrs.field(factory=dict)
    receipts: dict[int, int] = attrs.field(factory=dict)
    mailboxes: dict[tuple[int, int], int] = attrs.field(factory=dict)
    keys: dict[tuple[int, int], int] = attrs.field(factory=dict)
    typing: set[int] = attrs.field(factory=set)

    def settle(self, upto: int) -> None:
        """Forget what has been told up to there."""
        self.rooms = {room: pos for room, pos in self.rooms.items() if pos > upto}
        self.receipts = {room: pos for room, pos in self.receipts.items() if pos > upto}
        self.mailboxes = {one: pos for one, pos in self.mailboxes.items() if pos > upto}
        self.keys = {one: pos for one, pos in self.keys.items() if pos > upto}


@attrs.frozen
class Found:
    """What a stretch of the stream up to `end` holds for a service; `typing` are rooms, `presence` users to tell of."""

    end: int
    events: Sequence[dict[str, Any]] = ()
    ephemeral: Sequence[dict[str, Any]] = ()
    typing: Mapping[int, str] = attrs.field(factory=dict)
    presence: Mapping[int, str] = attrs.field(factory=dict)
    to_device: Sequence[dict[str, Any]] = ()
    delivered: tuple[int, ...] = ()
    """Devices whose messages end with this transaction."""
    lists: Mapping[str, Sequence[str]] | None = None
    counts: Mapping[str, Any] = attrs.field(factory=dict)
    fallbacks: Mapping[str, Any] = attrs.field(factory=dict)
    unknown: Sequence[str] = ()
    """Users of the service that events are about and nobody has registered."""

    @property
    def is_lasting(self) -> bool:
        """Whether there is something that must not get lost."""
        return bool(self.events or self.to_device or self.lists or self.counts)


class Reader:
    """Reads for one service; not two reads at a time."""

    def __init__(self, service: AppServiceRegistration, interest: Interest, renderer: Renderer) -> None:
        self._service = service
        self._interest = interest
        self._renderer = renderer

    def passes_over(self, room: int) -> bool:
        """Whether a message in this room surely is none of the service's business."""
        return self._interest.passes_over(room)

    def forget(self) -> None:
        """Look everything up again: the database was lost and came back."""
        self._interest.forget()

    def read(self, txn: Txn, news: News, after: int, upto: int) -> Found:
        """What there is to tell of (after, upto], or of the first part of it."""
        try:
            return self._read(txn, news, after, upto)
        except BaseException:
            self._interest.forget()
            raise

    def _read(self, txn: Txn, news: News, after: int, upto: int) -> Found:
        interest, service = self._interest, self._service
        interest.learn(txn)
        mail: list[Message] = []
        if service.receive_ephemeral or service.receive_devices:
            mail, upto = self._mail(txn, news, after, upto)
        lines = appservices.stretch(txn, after, upto, LOOKED_AT)
        if len(lines) == LOOKED_AT:
            upto = lines[-1].pos
        rooms = [room for room, pos in news.rooms.items() if pos > after]
        if after < news.blind:
            rooms = appservices.rooms_changed(txn, after)
        if late := appservices.promoted(txn, rooms, after, upto):
            lines = sorted([*lines, *late], key=lambda line: line.pos)
        chosen, end = interest.walk(txn, lines, after, upto, EVENTS)
        mail = [message for message in mail if message.pos <= end]
        devices = appservices.named(txn, {message.device for message in mail})
        found = Found(
            end,
            self._events(txn, chosen),
            to_device=[_addressed(message, devices[message.device]) for message in mail if message.device in devices],
            delivered=tuple(sorted(one.device for one in devices.values() if interest.owns(one.user_id))),
            unknown=self._unknown(txn, chosen),
        )
        if service.receive_ephemeral:
            found = self._with_ephemeral(txn, found, news, after)
        if service.receive_devices:
            found = self._with_devices(txn, found, news, after, {one.device for one in devices.values()})
        return found

    def _mail(self, txn: Txn, news: News, after: int, upto: int) -> tuple[list[Message], int]:
        """Messages to devices of the service's users, and how far the transaction may reach: positions stay whole."""
        devices = [
            device for (usr, device), pos in news.mailboxes.items() if pos > after and self._interest.in_number(usr)
        ]
        if not devices:
            return [], upto
        found = appservices.messages(txn, devices, after, upto, MESSAGES + 1)
        if len(found) <= MESSAGES:
            return found, upto
        last = found[-1].pos
        if found[0].pos == last:
            return appservices.messages(txn, devices, after, last, 2**31 - 1), last
        return [message for message in found if message.pos < last], last - 1

    def _events(self, txn: Txn, chosen: Sequence[Line]) -> list[dict[str, Any]]:
        stored = events.by_nids(txn, [line.nid for line in chosen])
        found = [stored[line.nid] for line in chosen if line.nid in stored]
        shown = self._renderer.for_services(txn, found)
        for line, event, body in zip([one for one in chosen if one.nid in stored], found, shown, strict=True):
            if line.state_key and self._interest.in_user(line.state_key) and b'"invite"' in event.content:
                usr = names.user_nid(txn, line.state_key)
                stripped = None if usr is None else membership.stripped(txn, usr, event.room)
                if stripped is not None:
                    body["unsigned"]["invite_room_state"] = orjson.Fragment(stripped)
        return shown

    def _unknown(self, txn: Txn, chosen: Sequence[Line]) -> list[str]:
        targets = {line.state_key for line in chosen if line.state_key and self._interest.in_user(line.state_key)}
        return sorted(appservices.without_account(txn, targets)) if targets else []

    # ---- what passes ----

    def _with_ephemeral(self, txn: Txn, found: Found, news: News, after: int) -> Found:
        interest = self._interest
        rooms = [room for room, pos in news.receipts.items() if pos > after]
        if after < news.blind:
            rooms = appservices.rooms_with_receipts(txn, after, found.end)
        reads: list[dict[str, Any]] = []
        for room in sorted(interest.rooms(txn, rooms)):
            read = appservices.read_in(txn, [room], after, found.end, interest.in_number)
            nids = {one.event for one in read} | {one.thread for one in read if one.thread > 0}
            ids = {nid: event.event_id for nid, event in events.by_nids(txn, nids).items()}
            room_id = names.room_id(txn, room)
            reads += [{**one, "room_id": room_id} for one in render_reads(read, ids)]
        present = [usr for usr in appservices.presence_changes(txn, after, found.end) if interest.sees(txn, usr)]
        return attrs.evolve(
            found,
            ephemeral=reads,
            presence=names.user_ids(txn, present),
            typing={room: names.room_id(txn, room) for room in interest.rooms(txn, news.typing)},
        )

    # ---- what encryption needs ----

    def _with_devices(self, txn: Txn, found: Found, news: News, after: int, mailed: Iterable[int]) -> Found:
        touched = {
            device
            for (usr, device), pos in news.keys.items()
            if after < pos <= found.end and self._interest.in_number(usr)
        }
        touched.update(mailed)
        counts: dict[str, dict[str, dict[str, int]]] = {}
        fallbacks: dict[str, dict[str, list[str]]] = {}
        for device in appservices.named(txn, appservices.with_keys(txn, touched)).values():
            left = one_time_keys.counts(txn, device.device)
            counts.setdefault(device.user_id, {})[device.device_id] = {"signed_curve25519": 0, **left.one_time}
            fallbacks.setdefault(device.user_id, {})[device.device_id] = list(left.unused_fallback)
        return attrs.evolve(found, lists=self._lists(txn, after, found.end), counts=counts, fallbacks=fallbacks)

    def _lists(self, txn: Txn, after: int, end: int) -> dict[str, Sequence[str]] | None:
        """Whose devices the service must look at again, and whose no more."""
        interest = self._interest
        changed = {usr for usr in appservices.device_changes(txn, after, end) if interest.sees(txn, usr)}
        left: set[int] = set()
        moved = appservices.join_changes(txn, after, end)
        near = interest.rooms(txn, {change.room for change in moved})
        for change in moved:
            if not interest.in_number(change.usr):
                met = {change.usr}
            elif interest.others(txn, change, moved):
                continue  # the room was near before, and stays so
            else:
                met = set(membership.users_of_room(txn, change.room)) - {change.usr}
            if change.joined and change.room in near:
                changed |= met
            elif not change.joined:
                left |= {usr for usr in met if not interest.sees(txn, usr)}
        if not changed and not left:
            return None
        ids = names.user_ids(txn, changed | left)
        return {"changed": sorted(ids[usr] for usr in changed - left), "left": sorted(ids[usr] for usr in left)}


def _addressed(message: Message, device: Owned) -> dict[str, Any]:
    return {**orjson.loads(message.message), "to_user_id": device.user_id, "to_device_id": device.device_id}


def body_of(found: Found, ephemeral: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The transaction as JSON; None when there is nothing to tell."""
    body: dict[str, Any] = {"events": found.events}
    for keys, value in (
        (EPHEMERAL, ephemeral),
        (TO_DEVICE, found.to_device),
        (LISTS, found.lists),
        (COUNTS, found.counts),
        (FALLBACKS, found.fallbacks),
    ):
        if value:
            body.update(dict.fromkeys(keys, value))
    return None if len(body) == 1 and not found.events else orjson.dumps(body)
