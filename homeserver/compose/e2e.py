# SPDX-License-Identifier: Apache-2.0
"""Keys, to-device messages, cross-signing, key backup."""

import attrs

from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base


@attrs.frozen
class Encryption:
    """What other areas need of this one."""

    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts) -> Encryption:
    """The services and pages of this area."""
    return Encryption(pages=())
