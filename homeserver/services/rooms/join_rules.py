# SPDX-License-Identifier: Apache-2.0
"""Knows what a join needs beyond the authorization rules: guests, and members of other rooms that a rule lets in."""

from collections.abc import Mapping, Sequence

from homeserver.protocol.errors import MatrixError, Rejected, forbidden, guest_forbidden
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.rooms.summary import allowed_rooms
from storage import membership, names
from storage.txn import Txn

CREATE, POWER_LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")
JOIN_RULES, GUEST_ACCESS = ("m.room.join_rules", ""), ("m.room.guest_access", "")
#: The state that decides about a join, besides the memberships.
DECIDING: tuple[StateKey, ...] = (CREATE, POWER_LEVELS, JOIN_RULES, GUEST_ACCESS)
MOST_CANDIDATES = 1_000


class CannotGrant(MatrixError):
    """The user meets the room's condition, but nobody on this server has the power to let them in."""

    def __init__(self) -> None:
        super().__init__(403, "M_FORBIDDEN", "Nobody on this server can let you in")


class JoinRules:
    """Decides about joins of local users to rooms that this server is in."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def authorizer(self, user: User, current: Mapping[StateKey, Event], standing: str) -> str | None:
        """The local member in whose name a join is allowed; None where none is needed.

        Raises M_GUEST_ACCESS_FORBIDDEN for guests the room does not want, M_FORBIDDEN for those who meet no condition.
        https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
        """
        if user.is_guest and not guests_may_join(current):
            raise guest_forbidden()
        create, rule = current.get(CREATE), current.get(JOIN_RULES)
        if create is None or rule is None or standing in ("join", "invite", "ban"):
            return None
        version, kind = create.version, rule.content.get("join_rule")
        restricted = (kind == "restricted" and version.restricted_joins) or (
            kind == "knock_restricted" and version.knock_restricted_joins
        )
        if not restricted:
            return None
        if not await self._db.read(_is_in_any, user.usr, allowed_rooms(rule.content.get("allow"))):
            raise forbidden("You are not in any of the rooms whose members may join")
        levels = PowerLevels.of(version, create, current.get(POWER_LEVELS))
        candidates = await self._db.read(_local_members, create.room_id, list(levels.listed_users()))
        for candidate in candidates:
            if may_invite(levels, candidate):
                return candidate
        raise CannotGrant


def guests_may_join(current: Mapping[StateKey, Event]) -> bool:
    access = current.get(GUEST_ACCESS)
    return access is not None and access.content.get("guest_access") == "can_join"


def may_invite(levels: PowerLevels, user_id: str) -> bool:
    """Whether the user's level suffices to invite; no when the levels are malformed."""
    try:
        return levels.user(user_id) >= levels.invite
    except Rejected:
        return False


def _is_in_any(txn: Txn, usr: int, room_ids: Sequence[str]) -> bool:
    for room_id in room_ids:
        room = names.room_nid(txn, room_id)
        own = None if room is None else membership.of(txn, usr, room)
        if own is not None and own.kind == membership.JOIN:
            return True
    return False


def _local_members(txn: Txn, room_id: str, first: Sequence[str]) -> list[str]:
    """Joined members of this server, those whose level is stated at the front."""
    room = names.room_nid(txn, room_id)
    if room is None:
        return []
    joined = list(names.user_ids(txn, membership.local_users_of_room(txn, room)[:MOST_CANDIDATES]).values())
    stated = set(first)
    listed = []
    for user_id in first:
        usr = names.user_nid(txn, user_id)
        own = None if usr is None else membership.of(txn, usr, room)
        if usr is not None and own is not None and own.kind == membership.JOIN and names.is_local(txn, usr):
            listed.append(user_id)
    return listed + [user_id for user_id in joined if user_id not in stated]
