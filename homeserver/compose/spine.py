# SPDX-License-Identifier: Apache-2.0
"""The write path of rooms: locks, snapshots, transaction ids, sending, state, creation, rendering.

`client_api.room_send` and `client_api.room_state` are shown by the rooms area, which has the memberships, aliases and
delayed events that they ask.
"""

import attrs

from homeserver.client_api.room_create import RoomCreatePage
from homeserver.compose.accounts import Accounts
from homeserver.compose.alone import RoomParts
from homeserver.compose.base import Base
from homeserver.compose.userdata import UserData
from homeserver.services.ports import RemoteHistory
from homeserver.services.rooms.create import People, RoomCreation
from homeserver.services.rooms.create_body import RoomRequests
from homeserver.services.rooms.locks import RoomLocks
from homeserver.services.rooms.membership import RemoteMembership
from homeserver.services.rooms.merge import HeadMerger
from homeserver.services.rooms.receive import Receiver
from homeserver.services.rooms.render import Renderer
from homeserver.services.rooms.send import Sender
from homeserver.services.rooms.snapshot import Snapshots
from homeserver.services.rooms.stage import Author
from homeserver.services.rooms.state import RoomState
from homeserver.services.rooms.transactions import Transactions
from storage import txns
from storage.envelope import Envelopes

HOUR = 3600.0


@attrs.frozen
class Spine:
    """What the other areas of rooms are built on."""

    locks: RoomLocks
    snapshots: Snapshots
    transactions: Transactions
    author: Author
    sender: Sender
    receiver: Receiver
    remote: RemoteMembership | None
    history: RemoteHistory | None
    state: RoomState
    renderer: Renderer
    creation: RoomCreation
    requests: RoomRequests
    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts, userdata: UserData) -> Spine:
    """The services that every room needs."""
    db, runtime, config = base.db, base.runtime, base.config
    locks = RoomLocks()
    snapshots = Snapshots(db)
    transactions = Transactions(db)
    author = Author(base.signer, Envelopes(), userdata.unread_rules, lambda: runtime.token(13)[:18])
    receiver = Receiver(runtime, db, snapshots, author)
    merger = HeadMerger(runtime, db, receiver, author)
    sender = Sender(runtime, db, locks, snapshots, transactions, author, merger)
    elsewhere, parts = base.elsewhere, RoomParts(locks, snapshots, author, receiver)
    remote = None if elsewhere.rooms is None else elsewhere.rooms(parts)
    history = None if elsewhere.history is None else elsewhere.history(parts)
    people = People(config.server_name, accounts.profiles, userdata.data, remote)
    creation = RoomCreation(runtime, db, locks, snapshots, author, people, config.rooms.default_version)
    requests = RoomRequests(creation, config.server_name, accounts.services.check_alias)
    _forget_old_transactions(base)
    return Spine(
        locks=locks,
        snapshots=snapshots,
        transactions=transactions,
        author=author,
        sender=sender,
        receiver=receiver,
        remote=remote,
        history=history,
        state=RoomState(db),
        renderer=Renderer(db, transactions, runtime.now_ms),
        creation=creation,
        requests=requests,
        pages=(RoomCreatePage(requests),),
    )


def _forget_old_transactions(base: Base) -> None:
    runtime, running = base.runtime, True

    async def forget_hourly() -> None:
        while running:
            await base.db.write(txns.forget_older, runtime.now_ms() // 1000)
            await runtime.sleep(HOUR)

    base.lifecycle.on_start(lambda: runtime.background("forgetting old transaction ids", forget_hourly()))
