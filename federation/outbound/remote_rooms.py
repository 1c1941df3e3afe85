# SPDX-License-Identifier: Apache-2.0
"""How users of this server come into rooms of others and leave them, and invite users of others into theirs.

https://spec.matrix.org/v1.19/server-server-api/#joining-rooms
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from federation.inbound.admission import Admission, cited, standing
from federation.inbound.invites import stripped, stripped_event
from federation.outbound.client import Client, Query, Refused, segment
from federation.outbound.delivered import Delivered
from federation.outbound.proposals import Proposal, merged_signatures, proposed
from homeserver.protocol.errors import MatrixError, MissingEvents, Rejected, forbidden, not_found
from homeserver.protocol.events import Draft, Event, StateKey
from homeserver.protocol.ids import server_of
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion, lookup
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure
from homeserver.services.rooms.assess import Verdict
from homeserver.services.rooms.locks import Held, RoomLocks
from homeserver.services.rooms.receive import Received, Receiver
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.stage import STRIPPED_KEYS, Author, Stage
from storage import events, federation_rooms, membership, names
from storage.txn import Txn

_log = logging.getLogger(__name__)

Content = Mapping[str, Any]
MEMBER = "m.room.member"
CREATE = ("m.room.create", "")
MOST_SERVERS = 10
SHAKE_SECONDS = 30.0
JOIN_SECONDS = 180.0
LARGEST_STATE = 256 << 20


@attrs.frozen
class Parts:
    """The parts of rooms that events from elsewhere go through."""

    runtime: Runtime
    db: Database
    locks: RoomLocks
    snapshots: Snapshots
    author: Author
    receiver: Receiver


@attrs.frozen
class Given:
    """A room as another server gives it: state before the join, all events of it and of its auth chain."""

    state: dict[StateKey, str]
    events: list[Event]


class RemoteRooms:
    """Memberships that need another server."""

    def __init__(self, client: Client, admission: Admission, parts: Parts, delivered: Delivered) -> None:
        self._client = client
        self._delivered = delivered
        self._admission = admission
        self._parts = parts
        self._signer = parts.author.signer

    # ---- coming in ----

    async def join(self, user: User, room_id: str, servers: Sequence[str], content: Content) -> str:
        """Joins a room that this server is not in. Raises what the last server that was asked said."""
        last: MatrixError = not_found("No server that is in the room is known")
        for server in await self._candidates(user, room_id, servers):
            try:
                proposal = await self._proposal(server, room_id, user.user_id, content, "join")
                await self._join_by(server, room_id, proposal)
                return room_id
            except Refused as refused:
                last = refused.shown()
            except RemoteFailure as failure:
                last = MatrixError(502, "M_UNKNOWN", f"{server}: {failure.reason}")
            except MatrixError as error:
                last = error
            _log.info("joining %s by %s failed: %s", room_id, server, last)
        raise last

    async def _join_by(self, server: str, room_id: str, proposal: Proposal) -> None:
        event, version = proposal.event, proposal.version
        path = f"/_matrix/federation/v2/send_join/{segment(room_id)}/{segment(event.event_id)}"
        answer = await self._client.call(
            server,
            "PUT",
            path,
            [("omit_members", "false")],
            event.pdu,
            seconds=JOIN_SECONDS,
            largest=LARGEST_STATE,
            insists=True,
        )
        if not isinstance(answer, dict):
            raise MatrixError(502, "M_UNKNOWN", f"{server} did not answer the join well")
        event = merged_signatures(event, answer.get("event"))
        wrong = await self._admission.check(event)
        if wrong is not None:
            raise MatrixError(502, "M_UNKNOWN", wrong)
        given = await self._given(version, room_id, answer, event)
        # "The resident server then ... sends the event to all servers in the room": we need not.
        self._delivered.add(event.event_id)
        async with self._parts.locks.lock(room_id) as held:
            resident = await self._parts.db.point(federation_rooms.resident, room_id) is not None
            try:
                if resident:  # somebody else of ours came first, or nobody here may let the user in
                    done = await self._take_in(held, event, given)
                else:
                    done = await self._parts.receiver.adopt(held, version, event, given.state, given.events)
            except MissingEvents as missing:
                raise MatrixError(502, "M_UNKNOWN", f"{server} left out {len(missing.ids)} events") from None
        if done.verdict not in (Verdict.ACCEPTED, Verdict.KNOWN):
            raise forbidden(done.reason or "The room does not take the join")

    async def _take_in(self, held: Held, event: Event, given: Given) -> Received:
        try:
            return await self._parts.receiver.receive(held, event)
        except MissingEvents:
            await self._parts.receiver.store_outliers(held, given.events)
            return await self._parts.receiver.receive(held, event, state=given.state)

    async def _given(self, version: RoomVersion, room_id: str, answer: Mapping[str, Any], join: Event) -> Given:
        """The state of an answer to send_join, checked. Raises MatrixError for one that cannot be the room's."""
        state, chain = answer.get("state"), answer.get("auth_chain")
        if not isinstance(state, list) or not isinstance(chain, list):
            raise MatrixError(502, "M_UNKNOWN", "The answer to the join holds no state")
        held = (await self._admission.admit(version, state, room_id)).events
        permitting = (await self._admission.admit(version, chain, room_id)).events
        found = {event_id: event for event_id, event in (permitting | held).items() if event_id != join.event_id}
        whole = standing(found, cited(found))
        keys = {event.key: event_id for event_id, event in held.items() if event.key is not None and event_id in whole}
        create = whole.get(keys.get(CREATE, ""))
        if create is None or create.content.get("room_version", "1") != version.id:
            raise MatrixError(502, "M_UNKNOWN", "The answer to the join has not the room's create event")
        if version.room_id_is_create_hash and "!" + create.event_id[1:] != room_id:
            raise MatrixError(502, "M_UNKNOWN", "The create event is not that of the room")
        return Given(keys, list(whole.values()))

    async def knock(self, user: User, room_id: str, servers: Sequence[str], content: Content) -> str:
        """Knocks on a room that this server is not in."""
        last: MatrixError = not_found("No server that is in the room is known")
        for server in await self._candidates(user, room_id, servers):
            try:
                proposal = await self._proposal(server, room_id, user.user_id, content, "knock")
                path = f"/_matrix/federation/v1/send_knock/{segment(room_id)}/{segment(proposal.event.event_id)}"
                answer = await self._client.call(
                    server, "PUT", path, (), proposal.event.pdu, seconds=SHAKE_SECONDS, insists=True
                )
                shown = answer.get("knock_room_state") if isinstance(answer, dict) else None
                await self._note(proposal, user.user_id, "knock", [*stripped(shown), stripped_event(proposal.event)])
                return room_id
            except Refused as refused:
                last = refused.shown()
            except RemoteFailure as failure:
                last = MatrixError(502, "M_UNKNOWN", f"{server}: {failure.reason}")
        raise last

    # ---- going out ----

    async def leave(self, user: User, room_id: str, content: Content) -> None:
        """Rejects an invite or takes back a knock. When no server can be told, it holds here all the same."""
        standing = await self._parts.db.point(_standing, user.usr, room_id)
        if standing is None or standing.kind not in (membership.INVITE, membership.KNOCK, membership.JOIN):
            if standing is not None and standing.kind == membership.LEAVE:
                return
            raise forbidden("You are not in this room")
        for server in await self._candidates(user, room_id, ()):
            try:
                proposal = await self._proposal(server, room_id, user.user_id, content, "leave")
                path = f"/_matrix/federation/v2/send_leave/{segment(room_id)}/{segment(proposal.event.event_id)}"
                await self._client.call(server, "PUT", path, (), proposal.event.pdu, seconds=SHAKE_SECONDS)
                await self._note(proposal, user.user_id, "leave", None)
                return
            except (RemoteFailure, MatrixError) as failure:
                _log.info("leaving %s by %s failed: %s", room_id, server, failure)
        await self._leave_alone(user, room_id, content, standing)

    async def _leave_alone(self, user: User, room_id: str, content: Content, standing: membership.Membership) -> None:
        """Leaves for this server only: nobody else hears of it."""
        before = (await self._parts.db.point(events.load, [standing.event])).get(standing.event)
        version = lookup(await self._parts.db.point(federation_rooms.version_of, room_id))
        if before is None or version is None:
            raise not_found("Not a known room")
        draft = Draft(MEMBER, dict(content), user.user_id, user.user_id)
        event = proposed(
            version, draft, room_id, [before.ref()], [before.ref()], before.depth + 1, self._parts, self._parts.author
        )
        await self._note(Proposal(version, event), user.user_id, "leave", None)

    async def _note(self, proposal: Proposal, user_id: str, kind: str, shown: list[dict[str, Any]] | None) -> None:
        encoded = None if shown is None else orjson.dumps(shown)
        async with self._parts.locks.lock(proposal.event.room_id) as held:
            await self._parts.receiver.note_membership(held, proposal.version, proposal.event, user_id, kind, encoded)

    # ---- inviting ----

    async def invite(self, user: User, room_id: str, invitee: str, content: Content) -> str:
        """Invites a user of another server into a room of this one: their server signs, then the room is told."""
        async with self._parts.locks.lock(room_id):
            snapshot = await self._parts.snapshots.get(room_id)
            if snapshot is None:
                raise forbidden("You are not in this room")
            create = snapshot.entries[CREATE]
            if create is not None and create.event.content.get("m.federate") is False:
                raise forbidden("The room is for users of its own server")
            stage = Stage(self._parts.author, snapshot.version, snapshot, None)
            draft = Draft(MEMBER, dict(content), user.user_id, invitee)
            await self._parts.snapshots.need(snapshot, stage.keys_of(draft))
            try:
                event = stage.add(draft, self._parts.runtime.now_ms())
            except Rejected as refused:
                raise forbidden(refused.reason) from refused
            shown = [entry.event.pdu for key in STRIPPED_KEYS if (entry := snapshot.entries.get(key)) is not None]
        server = server_of(invitee)
        path = f"/_matrix/federation/v2/invite/{segment(room_id)}/{segment(event.event_id)}"
        body = {"room_version": event.version.id, "event": event.pdu, "invite_room_state": shown}
        try:
            answer = await self._client.call(server, "PUT", path, (), body, seconds=SHAKE_SECONDS, insists=True)
        except Refused as refused:
            raise refused.shown() from None
        except RemoteFailure as failure:
            raise MatrixError(502, "M_UNKNOWN", f"{server}: {failure.reason}") from None
        event = merged_signatures(event, answer.get("event") if isinstance(answer, dict) else None)
        async with self._parts.locks.lock(room_id) as held:
            done = await self._parts.receiver.receive(held, event)
        if done.verdict is not Verdict.ACCEPTED:
            raise forbidden(done.reason or "The room does not take the invite")
        return event.event_id

    # ---- whom to ask, and what to say ----

    async def _candidates(self, user: User, room_id: str, servers: Sequence[str]) -> list[str]:
        known = await self._parts.db.point(_known_servers, user.usr, room_id)
        domain = [server_of(room_id)] if ":" in room_id else []
        own = self._signer.server_name
        return [one for one in dict.fromkeys([*servers, *known, *domain]) if one and one != own][:MOST_SERVERS]

    async def _proposal(self, server: str, room_id: str, user_id: str, content: Content, kind: str) -> Proposal:
        """Our membership event, on the template that a server gives. Raises RemoteFailure and MatrixError."""
        query: Query = [("ver", one) for one in ROOM_VERSIONS] if kind != "leave" else ()
        path = f"/_matrix/federation/v1/make_{kind}/{segment(room_id)}/{segment(user_id)}"
        answer = await self._client.get(server, path, query, seconds=SHAKE_SECONDS, insists=True)
        return Proposal.of(answer, room_id, user_id, content, kind, self._parts, self._parts.author)


def _standing(txn: Txn, usr: int, room_id: str) -> membership.Membership | None:
    room = names.room_nid(txn, room_id)
    return None if room is None else membership.of(txn, usr, room)


def _known_servers(txn: Txn, usr: int, room_id: str) -> list[str]:
    """The server of who invited the user, then those that were seen in the room, the fullest first."""
    room = names.room_nid(txn, room_id)
    if room is None:
        return []
    own = membership.of(txn, usr, room)
    invite = [] if own is None else list(events.load(txn, [own.event]).values())
    present = membership.servers_of_room(txn, room)
    by_size = sorted(present, key=lambda server: (-present[server], server))
    raw = membership.stripped(txn, usr, room)
    shown = [one.get("sender") for one in orjson.loads(raw)] if raw is not None else []
    seen = [server_of(sender) for sender in shown if isinstance(sender, str)]
    return [*(server_of(event.sender) for event in invite), *seen, *by_size]
