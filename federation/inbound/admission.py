# SPDX-License-Identifier: Apache-2.0
"""What an event of another server must be before the rules look at it: checks 1 to 3 on receiving it.

https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from federation.outbound.keyring import Keyring
from homeserver.protocol.errors import MatrixError, bad_json
from homeserver.protocol.event_format import check_pdu
from homeserver.protocol.events import Event
from homeserver.protocol.hashing import content_hash_matches
from homeserver.protocol.room_versions import RoomVersion
from homeserver.runtime import Runtime

#: Up to this many events are looked at on the reactor; more of them in a thread.
FEW = 60


@attrs.frozen
class Admitted:
    """Events that passed, by id, in the order they came; and what was wrong with others that could be named."""

    events: dict[str, Event]
    refused: dict[str, str]


class Admission:
    """Looks at the form, signatures and hashes of events."""

    def __init__(self, keyring: Keyring, runtime: Runtime) -> None:
        self._keyring = keyring
        self._runtime = runtime

    async def admit(self, version: RoomVersion, pdus: Iterable[object], room_id: str) -> Admitted:
        """Those of the PDUs that are well-formed events of the room, signed by whom they must be.

        Where only the content's hash is wrong the event is admitted redacted.
        """
        given = list(pdus)
        if len(given) > FEW:
            found, refused = await self._runtime.in_thread(formed, version, given, room_id)
        else:
            found, refused = formed(version, given, room_id)
        for event_id, reason in (await self._keyring.check_events(list(found.values()))).items():
            refused[event_id] = reason
            del found[event_id]
        return Admitted(found, refused)

    async def check(self, event: Event) -> str | None:
        """What is wrong with an event's signatures, if anything is."""
        return (await self._keyring.check_events([event])).get(event.event_id)

    async def one(self, version: RoomVersion, pdu: object, room_id: str) -> Event:
        """A single event, as a handshake brings it. Raises M_BAD_JSON, M_FORBIDDEN for signatures that are wrong."""
        event = well_formed(version, pdu, room_id)
        wrong = await self._keyring.check_events([event])
        if wrong:
            raise MatrixError(403, "M_FORBIDDEN", wrong[event.event_id])
        if not content_hash_matches(event.pdu):
            raise bad_json("The hash of the event is not that of its content")
        return event


def formed(version: RoomVersion, pdus: Iterable[object], room_id: str) -> tuple[dict[str, Event], dict[str, str]]:
    """The well-formed events by id, redacted where their hash is wrong; and what is wrong with others."""
    found: dict[str, Event] = {}
    refused: dict[str, str] = {}
    for pdu in pdus:
        try:
            event = well_formed(version, pdu, room_id)
        except MatrixError as error:
            named = claimed_id(version, pdu)
            if named is not None:
                refused[named] = error.message
        else:
            found[event.event_id] = hashed_well(event)
    return found, refused


def standing(found: Mapping[str, Event], missing: Iterable[str]) -> dict[str, Event]:
    """The events whose whole auth chain is there, each after what it cites.

    Left out is what cites something missing or itself (as the free ids of old rooms allow), directly or not.
    """
    absent = set(missing)
    citing: dict[str, list[str]] = {}
    awaited: dict[str, int] = {}
    for event_id, event in found.items():
        inside = {auth for auth in event.auth_event_ids if auth in found or auth in absent}
        awaited[event_id] = len(inside)
        for auth in inside:
            citing.setdefault(auth, []).append(event_id)
    ready = deque(event_id for event_id, count in awaited.items() if not count)
    left: dict[str, Event] = {}
    while ready:
        event_id = ready.popleft()
        left[event_id] = found[event_id]
        for later in citing.get(event_id, ()):
            awaited[later] -= 1
            if not awaited[later]:
                ready.append(later)
    return left


def cited(found: Mapping[str, Event]) -> set[str]:
    """What the events cite as auth events and is not among them."""
    return {auth for event in found.values() for auth in event.auth_event_ids if auth not in found}


def well_formed(version: RoomVersion, pdu: object, room_id: str) -> Event:
    """The event of a PDU; raises M_BAD_JSON and M_TOO_LARGE."""
    if isinstance(pdu, dict):
        # "unsigned" is no part of the event, and nobody vouches for it.
        pdu = {key: value for key, value in pdu.items() if key != "unsigned"}
    event = Event.from_pdu(version, check_pdu(version, pdu))
    if event.room_id != room_id:
        raise bad_json("The event is of another room")
    return event


def claimed_id(version: RoomVersion, pdu: object) -> str | None:
    """The id of what may not even be an event, to answer with."""
    if not isinstance(pdu, dict):
        return None
    if version.sends_event_id:
        named = pdu.get("event_id")
        return named if isinstance(named, str) else None
    try:
        return Event.from_pdu(version, pdu).event_id
    except (MatrixError, KeyError, TypeError, ValueError, AttributeError):
        return None


def hashed_well(event: Event) -> Event:
    """The event, redacted when its content is not what was hashed."""
    return event if content_hash_matches(event.pdu) else event.redacted()


def as_object(value: Any) -> dict[str, Any]:
    """A body that must be a JSON object."""
    if not isinstance(value, dict):
        raise bad_json("The body must be a JSON object")
    return value
