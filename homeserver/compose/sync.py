# SPDX-License-Identifier: Apache-2.0
"""What a client is told of everything else."""

import attrs

from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.compose.userdata import UserData


@attrs.frozen
class Sync:
    """What other areas need of this one."""

    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts, userdata: UserData) -> Sync:
    """The services and pages of this area."""
    return Sync(pages=())
