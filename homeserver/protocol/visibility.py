# SPDX-License-Identifier: Apache-2.0
"""Who may see an event: history visibility as a decision over values.

https://spec.matrix.org/v1.18/client-server-api/#room-history-visibility
"""

from collections.abc import Iterable
from typing import Final

from homeserver.protocol.events import Event

WORLD_READABLE: Final = "world_readable"
SHARED: Final = "shared"
INVITED: Final = "invited"
JOINED: Final = "joined"

_KNOWN: Final = frozenset((WORLD_READABLE, SHARED, INVITED, JOINED))


def visibility_of(event: Event | None) -> str:
    """The setting made by an m.room.history_visibility event; `shared` where none is made or understood."""
    return visibility_in(None if event is None else event.content.get("history_visibility"))


def visibility_in(value: object) -> str:
    """The setting that a `history_visibility` value stands for."""
    return value if isinstance(value, str) and value in _KNOWN else SHARED


def can_see(
    visibility: str,
    membership: str,
    joined_later: bool,
    *,
    visibility_after: str | None = None,
    membership_after: str | None = None,
) -> bool:
    """Whether a viewer may see an event.

    `visibility` and the viewer's `membership` are those of the state before the event; `joined_later` says whether the
    viewer was joined at any time after it. `visibility_after` is given for m.room.history_visibility events,
    `membership_after` for the viewer's own m.room.member events: before or after, one of them must allow it.
    """
    if _allows(visibility, membership, joined_later):
        return True
    # "For m.room.history_visibility events themselves, the user should be allowed to see the event if the
    # history_visibility before or after the event would allow them to see it."
    if visibility_after is not None and _allows(visibility_after, membership, joined_later):
        return True
    # "Likewise, for the user's own m.room.member events, the user should be allowed to see the event if their
    # membership before or after the event would allow them to see it."
    return membership_after is not None and _allows(visibility, membership_after, joined_later)


def can_see_event(event: Event, viewer: str, visibility: str, membership: str, joined_later: bool) -> bool:
    """`can_see` with what the event itself changes taken from it."""
    visibility_after = membership_after = None
    if event.type == "m.room.history_visibility" and event.state_key == "":
        visibility_after = visibility_of(event)
    elif event.type == "m.room.member" and event.state_key == viewer:
        value = event.content.get("membership")
        membership_after = value if isinstance(value, str) else "leave"
    return can_see(
        visibility, membership, joined_later, visibility_after=visibility_after, membership_after=membership_after
    )


def server_can_see(visibility: str, memberships: Iterable[str]) -> bool:
    """Whether a server in the room may have an event, given its users' memberships at the event."""
    if visibility in (WORLD_READABLE, SHARED):
        return True
    allowed = ("join", "invite") if visibility == INVITED else ("join",)
    return any(membership in allowed for membership in memberships)


def _allows(visibility: str, membership: str, joined_later: bool) -> bool:
    # "1. If the history_visibility was set to world_readable, allow."
    # "2. If the user's membership was join, allow."
    if visibility == WORLD_READABLE or membership == "join":
        return True
    # "3. If history_visibility was set to shared, and the user joined the room at any point after the event was sent,
    # allow."
    if visibility == SHARED:
        return joined_later
    # "4. If the user's membership was invite, and the history_visibility was set to invited, allow."
    # "5. Otherwise, deny."
    return visibility == INVITED and membership == "invite"
