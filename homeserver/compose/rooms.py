# SPDX-License-Identifier: Apache-2.0
"""Rooms, sending, membership, history, directory, search."""

import attrs

from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.compose.userdata import UserData


@attrs.frozen
class Rooms:
    """What other areas need of this one."""

    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts, userdata: UserData) -> Rooms:
    """The services and pages of this area."""
    return Rooms(pages=())
