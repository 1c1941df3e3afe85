# SPDX-License-Identifier: Apache-2.0
"""Account data, receipts, typing, presence, push rules."""

import attrs

from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base


@attrs.frozen
class UserData:
    """What other areas need of this one."""

    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts) -> UserData:
    """The services and pages of this area."""
    return UserData(pages=())
