# SPDX-License-Identifier: Apache-2.0
"""Rooms beyond writing: membership, history, directory, spaces, upgrades, search, delayed events."""

from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from homeserver.client_api.aliases import RoomAliases
from homeserver.client_api.delayed_events import DelayedEventsPage
from homeserver.client_api.directory import RoomDirectory
from homeserver.client_api.hierarchy import SpaceHierarchy
from homeserver.client_api.membership import RoomMembership
from homeserver.client_api.mutual_rooms import MutualRooms
from homeserver.client_api.relations import Relations
from homeserver.client_api.room_read import RoomRead
from homeserver.client_api.room_send import RoomSend
from homeserver.client_api.room_state import RoomStatePage
from homeserver.client_api.room_summary import RoomSummary
from homeserver.client_api.room_upgrade import RoomUpgrade
from homeserver.client_api.search import SearchPage
from homeserver.client_api.threads import Threads
from homeserver.client_api.user_directory import UserDirectoryPage
from homeserver.compose import people
from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.compose.spine import Spine
from homeserver.compose.userdata import UserData
from homeserver.protocol.events import Draft
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.delayed import DelayedEvents, Deliver
from homeserver.services.rooms.aliases import Aliases
from homeserver.services.rooms.context import Context
from homeserver.services.rooms.directory import Directory
from homeserver.services.rooms.guests import GuestEviction
from homeserver.services.rooms.hierarchy import Hierarchy
from homeserver.services.rooms.initial import RoomBeginnings
from homeserver.services.rooms.join_rules import JoinRules
from homeserver.services.rooms.knock import Knocking
from homeserver.services.rooms.membership import MEMBER, Membership, MemberWriter, Personal
from homeserver.services.rooms.pagination import History
from homeserver.services.rooms.read import RoomAccess
from homeserver.services.rooms.related_redaction import RelatedRedactions
from homeserver.services.rooms.relations import RelationPages
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.summary import RoomFacts, Summaries
from homeserver.services.rooms.third_party import ThirdPartyInvites
from homeserver.services.rooms.transactions import scope_of
from homeserver.services.rooms.upgrade import RoomSettings, Upgrades
from homeserver.services.search import Search
from homeserver.services.search_index import SearchIndex
from homeserver.services.user_directory import UserDirectory
from storage import accounts as account_rows


@attrs.frozen
class Outside:
    """What rooms show to those outside of them."""

    directory: Directory
    hierarchy: Hierarchy
    pages: tuple[object, ...]


@attrs.frozen
class Rooms:
    """What other areas need of this one."""

    access: RoomAccess
    membership: Membership
    aliases: Aliases
    outside: Outside
    delayed: DelayedEvents
    index: SearchIndex
    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts, userdata: UserData, spine: Spine) -> Rooms:
    """The services and pages of this area."""
    db, server_name = base.db, base.config.server_name
    access = RoomAccess(db)
    aliases = Aliases(
        db, server_name, access, spine.state, spine.sender, base.elsewhere.aliases, accounts.registered.queries
    )
    settings = RoomSettings(db, userdata.push_rules)
    writer = MemberWriter(db, spine.locks, spine.sender, spine.snapshots)
    personal = Personal(accounts.profiles, userdata.data, settings)
    membership = Membership(db, writer, JoinRules(db), personal, aliases, spine.remote)
    people.follow(base, accounts, writer, membership)
    if base.config.registration.guests:
        db.subscribe(GuestEviction(db, membership, base.runtime.background).follow)
    index = SearchIndex(db, base.runtime)
    base.lifecycle.on_stop(index.stop)
    limits = base.config.delayed_events
    delayed = DelayedEvents(
        db,
        base.runtime,
        deliverer(spine.sender, membership),
        access.is_joined,
        user_finder(db),
        max_delay_ms=limits.max_delay,
        max_scheduled=limits.max_scheduled,
    )
    base.lifecycle.on_start(delayed.start)
    base.lifecycle.on_stop(delayed.stop)
    knocking = Knocking(membership, writer, accounts.profiles, spine.remote)
    third_party = ThirdPartyInvites(db, membership, spine.locks, spine.sender, spine.state)
    outside = build_outside(base, aliases)
    related = RelatedRedactions(db, spine.sender, base.runtime.background)
    pages = (
        RoomMembership(membership, knocking, third_party),
        MutualRooms(membership),
        RoomAliases(aliases),
        RoomSend(spine.sender, delayed, related, userdata.presence.active),
        RoomStatePage(spine.sender, access, spine.renderer, membership, aliases, delayed),
        read_page(db, access, spine),
        *relation_pages(db, access, spine),
        *outside.pages,
        RoomUpgrade(Upgrades(db, spine.sender, spine.state, spine.creation, accounts.profiles, settings)),
        SearchPage(Search(db, index, spine.renderer)),
        UserDirectoryPage(UserDirectory(db, index, everybody=base.config.user_directory.everybody)),
        DelayedEventsPage(delayed),
    )
    return Rooms(access, membership, aliases, outside, delayed, index, pages)


def read_page(db: Database, access: RoomAccess, spine: Spine) -> RoomRead:
    """What has happened in rooms."""
    renderer = spine.renderer
    history = History(db, renderer, spine.history)
    return RoomRead(history, Context(db, access, renderer), RoomBeginnings(db, access, renderer))


def relation_pages(db: Database, access: RoomAccess, spine: Spine) -> tuple[object, ...]:
    """What relates to events."""
    pages = RelationPages(db, access, spine.renderer)
    return (Relations(pages), Threads(pages))


def build_outside(base: Base, aliases: Aliases) -> Outside:
    """What rooms show to those outside of them."""
    facts, elsewhere = RoomFacts(base.db), base.elsewhere
    directory = Directory(base.db, base.config.server_name, facts, aliases, elsewhere.directory)
    hierarchy = Hierarchy(base.db, facts, elsewhere.hierarchy)
    pages = (
        RoomDirectory(directory),
        RoomSummary(Summaries(base.db, facts, aliases, elsewhere.hierarchy)),
        SpaceHierarchy(hierarchy),
    )
    return Outside(directory, hierarchy, pages)


def deliverer(sender: Sender, membership: Membership) -> Deliver:
    """How a delayed event is sent when its time has come: like any other, once."""

    async def deliver(
        user: User, room_id: str, type: str, state_key: str | None, content: dict[str, Any], unique: str
    ) -> str:
        if type == MEMBER and state_key is not None:
            return await membership.put_state(user, room_id, state_key, content)
        redacts = content.get("redacts") if type == "m.room.redaction" else None
        draft = Draft(type, content, user.user_id, state_key, redacts if isinstance(redacts, str) else None)
        return await sender.send(user, room_id, draft, scope=scope_of(user, f"delayed\n{room_id}", unique))

    return deliver


def user_finder(db: Database) -> Callable[[int, int], Coroutine[Any, Any, User | None]]:
    """The caller that an account's number and a device's stand for; None when the account is no more."""

    async def find(usr: int, device: int) -> User | None:
        account = await db.point(account_rows.by_usr, usr)
        if account is None or account.deactivated:
            return None
        return User(
            user_id=account.user_id,
            usr=usr,
            device_id=None,
            device=device,
            is_guest=account.kind == account_rows.GUEST,
            is_admin=account.admin,
            is_suspended=account.suspended,
        )

    return find
