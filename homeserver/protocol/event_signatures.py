# SPDX-License-Identifier: Apache-2.0
"""Whose signatures an event must carry, and when a key is good for them.

https://spec.matrix.org/v1.18/server-server-api/#validating-hashes-and-signatures-on-received-events
"""

from collections.abc import Mapping
from typing import Final

from homeserver.protocol.events import Event
from homeserver.protocol.hashing import signed_bytes
from homeserver.protocol.ids import server_of
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import BadSignature, VerifyKey, signatures_of, verify_bytes

# "Servers MUST use the lesser of valid_until_ts and 7 days into the future when determining if a key is valid."
MAX_KEY_VALIDITY_MS: Final = 7 * 24 * 60 * 60 * 1000


def required_signers(event: Event) -> frozenset[str]:
    """The servers that must have signed the event."""
    signers = set()
    # "unless the event is a 3rd party invite, only the signature(s) from the originating server (the server the sender
    # belongs to) are required"
    if not _is_third_party_invite(event):
        signers.add(server_of(event.sender))
    # "Room versions 1 and 2 also require that a signature is present from the domain in the event_id"
    if event.version.event_id_server_signs:
        signers.add(server_of(event.event_id))
    # v8: "If content has a join_authorised_via_users_server key: If the event is not validly signed by the homeserver
    # of the user ID denoted by the key, reject."
    if event.version.restricted_joins and event.type == "m.room.member":
        authorizer = event.content.get("join_authorised_via_users_server")
        if authorizer is not None:
            signers.add(server_of(authorizer) if isinstance(authorizer, str) else "")
    return frozenset(signers)


def verify_event(event: Event, keys: Mapping[str, Mapping[str, VerifyKey]]) -> None:
    """Raise BadSignature unless every required server has signed with one of its `keys` (server → key id → key)."""
    message = signed_bytes(event.version, event.pdu)
    for server in required_signers(event):
        verify_bytes(message, signatures_of(event.pdu, server), keys.get(server, {}), server or "nobody")


def key_is_valid(version: RoomVersion, valid_until_ts: int, fetched_at_ts: int, origin_server_ts: int) -> bool:
    """Whether a key that was fetched at a time and claims a validity may sign an event of `origin_server_ts`."""
    if not version.key_validity_enforced:
        return True
    return origin_server_ts <= min(valid_until_ts, fetched_at_ts + MAX_KEY_VALIDITY_MS)


def _is_third_party_invite(event: Event) -> bool:
    return (
        event.type == "m.room.member"
        and event.content.get("membership") == "invite"
        and "third_party_invite" in event.content
    )


__all__ = ["BadSignature", "key_is_valid", "required_signers", "verify_event"]
