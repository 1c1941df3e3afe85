# SPDX-License-Identifier: Apache-2.0
"""The write path of rooms alone, with servers of others that build events by hand."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from homeserver import app
from homeserver.compose import accounts, spine, userdata
from homeserver.config.load import parse
from homeserver.protocol.auth_selection import auth_keys
from homeserver.protocol.events import Draft, Event, PrevRef, build
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signing import Signer, SigningKey
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.rooms.create import RoomCreation
from homeserver.services.rooms.presets import PUBLIC, Wishes
from homeserver.services.rooms.receive import Received
from storage import names
from tests.harness.server import KEY, SERVER_NAME, fresh_database

StateMap = Mapping[tuple[str, str], Event]


class Elsewhere:
    """Another server: its users' events are built on whatever prevs and state the test chooses."""

    def __init__(self, name: str, version: RoomVersion, room_id: str) -> None:
        self.signer = Signer(name, SigningKey.from_seed("far", name.encode().ljust(32, b".")))
        self.version = version
        self.room_id = room_id
        self._number = 0

    def event(self, draft: Draft, prevs: Sequence[Event], state: StateMap, ts: int) -> Event:
        keys = auth_keys(self.version, draft.type, draft.sender, draft.state_key, draft.content)
        auth: list[PrevRef] = [state[key].ref() for key in keys if key in state]
        self._number += 1
        return build(
            self.version,
            draft,
            room_id=self.room_id,
            prev_events=[one.ref() for one in prevs],
            auth_events=auth,
            depth=max(one.depth for one in prevs) + 1,
            ts=ts,
            signer=self.signer,
            event_id=f"${self._number}{self.room_id[1:9]}:{self.signer.server_name}"
            if self.version.sends_event_id
            else None,
        ).event


class SpineCase(TestCase):
    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.url = fresh_database(self.folder)
        await self.open()
        self.addCleanup(self.shut)

    async def open(self) -> None:
        text = f'server_name: {SERVER_NAME}\npublic_base_url: https://x\ndata_dir: .\ndatabase: {{url: "{self.url}"}}\n'
        config = parse(text, "test.yaml", self.folder, {})
        self.runtime = Runtime(reactor)
        self.base = app.build_base(config, self.runtime, KEY)
        area = accounts.build(self.base)
        self.spine = spine.build(self.base, area, userdata.build(self.base, area))
        self.db = self.base.db
        self.db.open()
        self.base.notifier.begin(self.db.published)
        self.receiver = self.spine.receiver
        self.shut_already = False

    def shut(self) -> None:
        if not self.shut_already:
            self.shut_already = True
            self.db.close()
            self.runtime.stop()

    async def user(self, name: str) -> User:
        user_id = f"@{name}:{SERVER_NAME}"
        usr = await self.db.write(names.intern_user, user_id, True)
        return User(user_id, usr, "DEVICE", usr)

    async def room(self, user: User, version: str = "10", **wishes: Any) -> str:
        creation: RoomCreation = self.spine.creation
        return await creation.create(user, creation.version(version), Wishes(**{"preset": PUBLIC, **wishes}))

    async def receive(self, event: Event, **more: Any) -> Received:
        async with self.spine.locks.lock(event.room_id) as held:
            return await self.receiver.receive(held, event, **more)

    async def heads(self, room_id: str) -> list[Event]:
        async with self.spine.locks.lock(room_id):
            snapshot = await self.spine.snapshots.get(room_id)
            assert snapshot is not None
            from storage import events

            return list((await self.db.read(events.load, [head.event for head in snapshot.heads])).values())
