# SPDX-License-Identifier: Apache-2.0
"""Rule 5 of the authorization rules: who may change whose membership.

Rules are numbered as in room version 12, https://spec.matrix.org/v1.18/rooms/v12/#authorisation-rules.
"""

from collections.abc import Mapping
from typing import Any

import attrs

from homeserver.protocol.auth_selection import JOIN_RULES
from homeserver.protocol.errors import MatrixError, Rejected
from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.power_levels import PowerLevels
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import BadSignature, VerifyKey, signatures_of, verify_signed


@attrs.frozen
class _Case:
    """A membership event before its room."""

    version: RoomVersion
    event: Event
    target: str
    state: Mapping[StateKey, Event]
    create: Event
    levels: PowerLevels

    def membership(self, user_id: str) -> str:
        """The user's current membership; `leave` for strangers."""
        return membership_in(self.state, user_id)

    @property
    def sender(self) -> str:
        """Who changes the membership."""
        return self.event.sender

    @property
    def join_rule(self) -> object:
        """The current join rule; `invite` where there is none."""
        rules = self.state.get(JOIN_RULES)
        return "invite" if rules is None else rules.content.get("join_rule", "invite")


def membership_in(state: Mapping[StateKey, Event], user_id: str) -> str:
    """The membership of a user in a state; `leave` for strangers."""
    member = state.get(("m.room.member", user_id))
    membership = None if member is None else member.content.get("membership")
    return membership if isinstance(membership, str) else "leave"


def check_member(
    version: RoomVersion, event: Event, state: Mapping[StateKey, Event], create: Event, levels: PowerLevels
) -> None:
    """Raise Rejected unless the state allows this m.room.member event."""
    membership = event.content.get("membership")
    # "5.1 If there is no state_key property, or no membership property in content, reject."
    if event.state_key is None or membership is None:
        raise Rejected("5.1", "A membership event needs a state key and a membership")
    case = _Case(version, event, event.state_key, state, create, levels)
    match membership:
        # "5.3 If membership is join"
        case "join":
            _check_join(case)
        # "5.4 If membership is invite"
        case "invite":
            _check_invite(case)
        # "5.5 If membership is leave"
        case "leave":
            _check_leave(case)
        # "5.6 If membership is ban"
        case "ban":
            _check_ban(case)
        # "5.7 If membership is knock"
        case "knock" if version.knocking:
            _check_knock(case)
        # "5.8 Otherwise, the membership is unknown. Reject."
        case _:
            raise Rejected("5.8", "Unknown membership")


def _check_join(case: _Case) -> None:
    # "5.3.1 If the only previous event is an m.room.create and the state_key is the sender of the m.room.create,
    # allow." Up to version 10 it is the creator named in the content.
    creator = case.create.content.get("creator") if case.version.creator_in_content else case.create.sender
    if case.event.prev_event_ids == (case.create.event_id,) and case.target == creator:
        return
    # "5.3.2 If the sender does not match state_key, reject."
    if case.sender != case.target:
        raise Rejected("5.3.2", "Nobody can join for somebody else")
    membership = case.membership(case.target)
    # "5.3.3 If the sender is banned, reject."
    if membership == "ban":
        raise Rejected("5.3.3", f"{case.sender} is banned")
    rule = case.join_rule
    # "5.3.4 If the join_rule is invite or knock then allow if membership state is invite or join."
    if rule == "invite" or (rule == "knock" and case.version.knocking):
        if membership in ("invite", "join"):
            return
        raise Rejected("5.3.4", f"{case.sender} is not invited")
    # "5.3.5 If the join_rule is restricted or knock_restricted"
    if (rule == "restricted" and case.version.restricted_joins) or (
        rule == "knock_restricted" and case.version.knock_restricted_joins
    ):
        _check_restricted_join(case, membership)
        return
    # "5.3.6 If the join_rule is public, allow." "5.3.7 Otherwise, reject."
    if rule != "public":
        raise Rejected("5.3.7", "The join rule lets nobody in")


def _check_restricted_join(case: _Case, membership: str) -> None:
    # "5.3.5.1 If membership state is join or invite, allow."
    if membership in ("join", "invite"):
        return
    # "5.3.5.2 If the join_authorised_via_users_server key in content is not a user with sufficient permission to invite
    # other users or is not a joined member of the room, reject."
    authorizer = case.event.content.get("join_authorised_via_users_server")
    if not isinstance(authorizer, str) or case.membership(authorizer) != "join":
        raise Rejected("5.3.5.2", "No member of the room has authorized this join")
    if case.levels.user(authorizer) < case.levels.invite:
        raise Rejected("5.3.5.2", f"{authorizer} may not invite")


def _check_invite(case: _Case) -> None:
    # "5.4.1 If content has a third_party_invite property"
    if "third_party_invite" in case.event.content:
        _check_third_party_invite(case, case.event.content["third_party_invite"])
        return
    # "5.4.2 If the sender's current membership state is not join, reject."
    if case.membership(case.sender) != "join":
        raise Rejected("5.4.2", f"{case.sender} is not in the room")
    # "5.4.3 If target user's current membership state is join or ban, reject."
    membership = case.membership(case.target)
    if membership in ("join", "ban"):
        state = "already in the room" if membership == "join" else "banned"
        raise Rejected("5.4.3", f"{case.target} is {state}")
    # "5.4.4 If the sender's power level is greater than or equal to the invite level, allow." "5.4.5 Otherwise,
    # reject."
    if case.levels.user(case.sender) < case.levels.invite:
        raise Rejected("5.4.5", f"{case.sender} may not invite")


def _check_third_party_invite(case: _Case, invite: Any) -> None:
    # "5.4.1.1 If target user is banned, reject."
    if case.membership(case.target) == "ban":
        raise Rejected("5.4.1.1", f"{case.target} is banned")
    # "5.4.1.2 If content.third_party_invite does not have a signed property, reject."
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if not isinstance(signed, dict):
        raise Rejected("5.4.1.2", "The third-party invite is not signed")
    # "5.4.1.3 If signed does not have mxid and token properties, reject."
    mxid, token = signed.get("mxid"), signed.get("token")
    if not isinstance(mxid, str) or not isinstance(token, str):
        raise Rejected("5.4.1.3", "The third-party invite has no mxid or no token")
    # "5.4.1.4 If mxid does not match state_key, reject."
    if mxid != case.target:
        raise Rejected("5.4.1.4", "The third-party invite is for another user")
    # "5.4.1.5 If there is no m.room.third_party_invite event in the current room state with state_key matching token,
    # reject."
    offer = case.state.get(("m.room.third_party_invite", token))
    if offer is None:
        raise Rejected("5.4.1.5", "There is no such third-party invite")
    # "5.4.1.6 If sender does not match sender of the m.room.third_party_invite, reject."
    if case.sender != offer.sender:
        raise Rejected("5.4.1.6", "The third-party invite was made by another user")
    # "5.4.1.7 If any signature in signed matches any public key in the m.room.third_party_invite event, allow."
    # "5.4.1.8 Otherwise, reject."
    if not _is_signed_by_any(signed, _public_keys(offer.content)):
        raise Rejected("5.4.1.8", "No signature of the third-party invite fits")


def _public_keys(content: Mapping[str, Any]) -> list[Any]:
    # "1. A single public key in the public_key property. 2. A list of public keys in the public_keys property."
    keys = [content.get("public_key")]
    listed = content.get("public_keys")
    if isinstance(listed, list):
        keys += [entry.get("public_key") for entry in listed if isinstance(entry, dict)]
    return keys


def _is_signed_by_any(signed: Mapping[str, Any], public_keys: list[Any]) -> bool:
    signatures = signed.get("signatures")
    if not isinstance(signatures, dict):
        return False
    for entity in signatures:
        for key_id in signatures_of(signed, entity):
            for public_key in public_keys:
                try:
                    verify_signed(signed, entity, {key_id: VerifyKey.parse(key_id, public_key)})
                except (BadSignature, MatrixError, ValueError):
                    continue
                return True
    return False


def _check_leave(case: _Case) -> None:
    # "5.5.1 If the sender matches state_key, allow if and only if that user's current membership state is invite, join,
    # or knock." Before version 7 there is no knock.
    membership = case.membership(case.target)
    if case.sender == case.target:
        if membership in ("invite", "join") or (membership == "knock" and case.version.knocking):
            return
        raise Rejected("5.5.1", f"{case.sender} is not in the room")
    # "5.5.2 If the sender's current membership state is not join, reject."
    if case.membership(case.sender) != "join":
        raise Rejected("5.5.2", f"{case.sender} is not in the room")
    level = case.levels.user(case.sender)
    # "5.5.3 If the target user's current membership state is ban, and the sender's power level is less than the ban
    # level, reject."
    if membership == "ban" and level < case.levels.ban:
        raise Rejected("5.5.3", f"{case.sender} may not lift a ban")
    # "5.5.4 If the sender's power level is greater than or equal to the kick level, and the target user's power level
    # is less than the sender's power level, allow." "5.5.5 Otherwise, reject."
    if level < case.levels.kick or case.levels.user(case.target) >= level:
        raise Rejected("5.5.5", f"{case.sender} may not remove {case.target}")


def _check_ban(case: _Case) -> None:
    # "5.6.1 If the sender's current membership state is not join, reject."
    if case.membership(case.sender) != "join":
        raise Rejected("5.6.1", f"{case.sender} is not in the room")
    # "5.6.2 If the sender's power level is greater than or equal to the ban level, and the target user's power level is
    # less than the sender's power level, allow." "5.6.3 Otherwise, reject."
    level = case.levels.user(case.sender)
    if level < case.levels.ban or case.levels.user(case.target) >= level:
        raise Rejected("5.6.3", f"{case.sender} may not ban {case.target}")


def _check_knock(case: _Case) -> None:
    # "5.7.1 If the join_rule is anything other than knock or knock_restricted, reject."
    rule = case.join_rule
    if rule != "knock" and not (rule == "knock_restricted" and case.version.knock_restricted_joins):
        raise Rejected("5.7.1", "The join rule allows no knocking")
    # "5.7.2 If sender does not match state_key, reject."
    if case.sender != case.target:
        raise Rejected("5.7.2", "Nobody can knock for somebody else")
    # "5.7.3 If the sender's current membership is not ban, invite, or join, allow." "5.7.4 Otherwise, reject."
    if case.membership(case.sender) in ("ban", "invite", "join"):
        raise Rejected("5.7.4", f"{case.sender} has no reason to knock")
