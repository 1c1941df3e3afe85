# SPDX-License-Identifier: Apache-2.0
"""Knows how somebody is invited by an e-mail address or phone number, and how such an invite is taken up."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from homeserver.protocol.errors import MatrixError, bad_json, forbidden, not_found
from homeserver.protocol.events import Draft
from homeserver.protocol.ids import server_of
from homeserver.services.callers import User, require_not_suspended
from homeserver.services.database import Database
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.membership import MEMBER, Membership
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.state import RoomState
from storage import names, threepids
from storage.txn import Txn

THIRD_PARTY_INVITE = "m.room.third_party_invite"


class IdentityServer(Protocol):
    """Asks an identity server to look after an invite; raises M_SERVER_NOT_TRUSTED for one that is not allowed."""

    async def store_invite(
        self, user: User, server: str, room_id: str, medium: str, address: str
    ) -> Mapping[str, Any]: ...


class ThirdPartyInvites:
    """Invites to addresses, for rooms that this server is in."""

    def __init__(
        self,
        db: Database,
        membership: Membership,
        locks: RoomLocks,
        sender: Sender,
        state: RoomState,
        identity: IdentityServer | None = None,
    ) -> None:
        self._db = db
        self._membership = membership
        self._locks = locks
        self._sender = sender
        self._state = state
        self._identity = identity

    async def invite(self, user: User, room_id: str, medium: str, address: str, server: str) -> None:
        """Invite whoever owns an address: the local user it belongs to, else through the identity server."""
        require_not_suspended(user)
        owner = await self._db.point(_owner, medium, address)
        if owner is not None:
            await self._membership.invite(user, room_id, owner)
            return
        if self._identity is None:
            raise MatrixError(403, "M_SERVER_NOT_TRUSTED", "This server asks no identity servers")
        stored = await self._identity.store_invite(user, server, room_id, medium, address)
        content = {key: stored[key] for key in ("display_name", "public_keys") if key in stored}
        keys = stored.get("public_keys")
        if isinstance(keys, list) and keys:
            content |= {"public_key": keys[0]["public_key"], "key_validity_url": keys[0]["key_validity_url"]}
        await self._sender.send(
            user, room_id, Draft(THIRD_PARTY_INVITE, content, user.user_id, str(stored["token"])), scope=None
        )

    async def accept(self, user: User, room_or_alias: str, servers: Sequence[str], signed: Mapping[str, Any]) -> str:
        """Turn a signed third-party invite into an invite, before its bearer joins; returns the room's id.

        The room's rules check that a key of the invite has signed it. Raises M_FORBIDDEN when none has.
        """
        room_id, _ = await self._membership.locate(room_or_alias, servers)
        token, bearer = signed.get("token"), signed.get("mxid")
        if not isinstance(token, str) or not isinstance(signed.get("signatures"), dict):
            raise bad_json("third_party_signed needs token and signatures")
        if bearer != user.user_id:
            raise forbidden("This invite is for somebody else")
        async with self._locks.lock(room_id) as held:
            key = (THIRD_PARTY_INVITE, token)
            current = await self._state.current(room_id, [key, (MEMBER, user.user_id)])
            before = current.get((MEMBER, user.user_id))
            if before is not None and before.content.get("membership") in ("join", "invite"):
                return room_id
            offer = current.get(key)
            if offer is None:
                raise not_found("There is no such third-party invite")
            if server_of(offer.sender) != server_of(user.user_id):
                raise forbidden("The server that made the invite must be asked")
            # The signature covers everything in it, `sender` too.
            shown = {"display_name": offer.content.get("display_name", ""), "signed": dict(signed)}
            content = {"membership": "invite", "third_party_invite": shown}
            await self._sender.append_in(held, [Draft(MEMBER, content, offer.sender, user.user_id)])
        return room_id


def _owner(txn: Txn, medium: str, address: str) -> str | None:
    """The local user whose confirmed address it is."""
    canonical = address.casefold() if medium == "email" else "".join(filter(str.isdecimal, address))
    usr = threepids.owner(txn, medium, canonical)
    return None if usr is None else names.user_id(txn, usr)
