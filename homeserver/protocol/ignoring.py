# SPDX-License-Identifier: Apache-2.0
"""Whom a user does not want to hear from: the `m.ignored_user_list` and invite permission account data, as values."""

from collections.abc import Mapping
from enum import Enum

import attrs

from homeserver.protocol.push_patterns import Matcher, whole_matcher

IGNORED_USERS = "m.ignored_user_list"
#: Account data types with the invite permission, the first present with an effect wins.
INVITE_PERMISSION = "m.invite_permission_config"
INVITE_PERMISSION_4380 = "org.matrix.msc4380.invite_permission_config"
INVITE_PERMISSION_4155 = "org.matrix.msc4155.invite_permission_config"
INVITE_PERMISSION_TYPES = (INVITE_PERMISSION, INVITE_PERMISSION_4380, INVITE_PERMISSION_4155)


def ignored_users(content: object) -> frozenset[str]:
    """The ids in an `m.ignored_user_list`; whatever is not of its form ignores nobody."""
    users = content.get("ignored_users") if isinstance(content, dict) else None
    return frozenset(users) if isinstance(users, dict) else frozenset()


class InviteAnswer(Enum):
    """What becomes of an invite: shown, dropped without telling the inviter, or refused."""

    ALLOW = "allow"
    IGNORE = "ignore"
    BLOCK = "block"


@attrs.frozen(slots=True)
class InvitePolicy:
    """Who may invite a user. The lists are MSC4155's: (answer, matches id or server); the first counts."""

    blocks_all: bool = False
    users: tuple[tuple[InviteAnswer, Matcher], ...] = ()
    servers: tuple[tuple[InviteAnswer, Matcher], ...] = ()

    def answer(self, inviter: str) -> InviteAnswer:
        if self.blocks_all:
            return InviteAnswer.BLOCK
        server = inviter.partition(":")[2]
        for answer, matches in self.users:
            if matches(inviter):
                return answer
        for answer, matches in self.servers:
            if matches(server):
                return answer
        return InviteAnswer.ALLOW


EVERYONE = InvitePolicy()


def invite_policy(contents: Mapping[str, object]) -> InvitePolicy:
    """The policy that a user's account data, by type, make. What is not of the right form allows."""
    for data_type in (INVITE_PERMISSION, INVITE_PERMISSION_4380):
        content = contents.get(data_type)
        # "A missing, invalid or unsupported value means that the user wants to receive invites as normal."
        if isinstance(content, dict) and content.get("default_action") == "block":
            return InvitePolicy(blocks_all=True)
    content = contents.get(INVITE_PERMISSION_4155)
    if not isinstance(content, dict) or content.get("enabled", True) is not True:
        return EVERYONE
    return InvitePolicy(users=_listed(content, "users"), servers=_listed(content, "servers"))


def _listed(content: Mapping[str, object], what: str) -> tuple[tuple[InviteAnswer, Matcher], ...]:
    lists = (
        (InviteAnswer.ALLOW, f"allowed_{what}"),
        (InviteAnswer.IGNORE, f"ignored_{what}"),
        (InviteAnswer.BLOCK, f"blocked_{what}"),
    )
    found = []
    for answer, name in lists:
        patterns = content.get(name)
        if isinstance(patterns, list):
            found += [(answer, whole_matcher(pattern)) for pattern in patterns if isinstance(pattern, str)]
    return tuple(found)
