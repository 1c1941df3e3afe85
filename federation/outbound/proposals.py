# SPDX-License-Identifier: Apache-2.0
"""How a template of another server becomes an event of ours."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from homeserver.protocol.errors import MatrixError, unsupported_room_version
from homeserver.protocol.events import Draft, Event, PrevRef, build
from homeserver.protocol.hashing import decode_base64
from homeserver.protocol.room_versions import RoomVersion, lookup
from homeserver.runtime import Runtime
from homeserver.services.rooms.stage import Author

MEMBER = "m.room.member"
AUTHORIZER = "join_authorised_via_users_server"
MOST_PREVS, MOST_AUTH = 20, 10


class HasRuntime(Protocol):
    @property
    def runtime(self) -> Runtime: ...


@attrs.frozen
class Proposal:
    """Our event, ready to be sent."""

    version: RoomVersion
    event: Event

    @classmethod
    def of(
        cls,
        answer: object,
        room_id: str,
        user_id: str,
        content: Mapping[str, Any],
        kind: str,
        world: HasRuntime,
        author: Author,
    ) -> "Proposal":
        """From the answer to make_join and such; raises MatrixError for one that will not do."""
        template = answer.get("event") if isinstance(answer, dict) else None
        if not isinstance(answer, dict) or not isinstance(template, dict):
            raise _unusable("it holds no event")
        named = answer.get("room_version", "1")
        version = lookup(named)
        if version is None:
            raise unsupported_room_version(str(named)[:64])
        wanted = template.get("content")
        if not isinstance(wanted, dict) or wanted.get("membership") != kind or template.get("type") != MEMBER:
            raise _unusable("it is for another membership")
        if template.get("room_id") != room_id or template.get("state_key") != user_id:
            raise _unusable("it is for another room or user")
        own = {key: value for key, value in content.items() if key != AUTHORIZER}
        if kind == "join" and version.restricted_joins and isinstance(wanted.get(AUTHORIZER), str):
            own[AUTHORIZER] = wanted[AUTHORIZER]
        depth = template.get("depth")
        if type(depth) is not int or not 0 <= depth <= version.max_depth:
            raise _unusable("its depth is none")
        prev = _references(version, template.get("prev_events"), MOST_PREVS)
        auth = _references(version, template.get("auth_events"), MOST_AUTH)
        draft = Draft(MEMBER, own, user_id, user_id)
        return cls(version, proposed(version, draft, room_id, prev, auth, depth, world, author))


def proposed(
    version: RoomVersion,
    draft: Draft,
    room_id: str,
    prev: Sequence[PrevRef],
    auth: Sequence[PrevRef],
    depth: int,
    world: HasRuntime,
    author: Author,
) -> Event:
    """A signed event on given references."""
    event_id = f"${author.opaque_id()}:{author.signer.server_name}" if version.sends_event_id else None
    return build(
        version,
        draft,
        room_id=room_id,
        prev_events=prev,
        auth_events=auth,
        depth=depth,
        ts=world.runtime.now_ms(),
        signer=author.signer,
        event_id=event_id,
    ).event


def _references(version: RoomVersion, given: object, most: int) -> list[PrevRef]:
    if not isinstance(given, list) or len(given) > most:
        raise _unusable("its references are none")
    found = []
    for one in given:
        if not version.references_carry_hashes:
            if not isinstance(one, str):
                raise _unusable("its references are none")
            found.append(PrevRef(one))
            continue
        try:
            event_id, hashes = one
            found.append(PrevRef(str(event_id), decode_base64(hashes["sha256"])))
        except (TypeError, ValueError, KeyError):
            raise _unusable("its references are none") from None
    return found


def merged_signatures(event: Event, pdu: object) -> Event:
    """Our event with the signatures that another server added to it; as it is where that is not the same event."""
    if not isinstance(pdu, dict) or not isinstance(pdu.get("signatures"), dict):
        return event
    given = {server: keys for server, keys in pdu["signatures"].items() if isinstance(keys, dict) and len(keys) <= 20}
    return Event(event.version, {**event.pdu, "signatures": {**given, **event.pdu["signatures"]}}, event.event_id)


def _unusable(reason: str) -> MatrixError:
    return MatrixError(502, "M_UNKNOWN", f"The other server's template cannot be used: {reason}")
