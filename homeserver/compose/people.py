# SPDX-License-Identifier: Apache-2.0
"""What rooms learn of accounts: new profiles, and that somebody is gone."""

from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.services.departures import Departures
from homeserver.services.member_profiles import MemberProfiles
from homeserver.services.rooms.membership import Membership, MemberWriter


def follow(base: Base, accounts: Accounts, writer: MemberWriter, members: Membership) -> None:
    """Have changes of accounts followed into the rooms; called by the rooms' `build`."""
    profiles = MemberProfiles(base.db, base.runtime, accounts.profiles, writer)
    departures = Departures(base.db, base.runtime, members)
    base.db.subscribe(profiles.follow)
    accounts.profiles.on_shown(profiles.told)
    base.db.subscribe(departures.follow)
    base.lifecycle.on_start(departures.resume)
