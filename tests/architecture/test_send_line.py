# SPDX-License-Identifier: Apache-2.0
"""A send crosses eight modules in one line, and one transaction."""

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from homeserver.services.database import Database
from tests.harness.server import HomeserverCase

ROOT = Path(__file__).resolve().parents[2]
OURS = (f"{ROOT}/homeserver/", f"{ROOT}/storage/")
# The functions that pass the event on, in their order.
LINE = [
    "homeserver/http/router.py Router.match",
    "homeserver/http/dispatch.py Dispatcher._run",
    "homeserver/client_api/room_send.py RoomSend.send_message",
    "homeserver/services/rooms/send.py Sender.send",
    "homeserver/services/rooms/snapshot.py Snapshots.get",
    "homeserver/protocol/events.py build",
    "storage/append.py append",
    "homeserver/services/notifier.py Notifier.publish",
]


def name_of(code: CodeType) -> str:
    return f"{code.co_filename.removeprefix(f'{ROOT}/')} {code.co_qualname}"


class SendLine(HomeserverCase):
    async def test_a_warm_send_crosses_eight_hops_and_one_transaction(self) -> None:
        alice, bob = await self.register("alice"), await self.register("bob")
        room = await self.create_room(alice, preset="public_chat")
        await self.join(bob, room)
        for _ in range(3):
            await self.send(alice, room)
        database: Any = self.app.base.db
        asked: list[str] = []
        for kind in ("write", "read", "point", "snapshot"):
            self.patch(database, kind, self._counted(asked, kind))
        calls: dict[str, None] = {}

        def trace(frame: FrameType, event: str, argument: object) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(OURS):
                calls[name_of(frame.f_code)] = None

        sys.setprofile(trace)
        try:
            await self.send(alice, room)
        finally:
            sys.setprofile(None)
        self.assertLessEqual(len(asked), 2, asked)
        self.assertEqual([one for one in asked if one.startswith("write")], ["write storage.append append"])
        # The writer has its own thread: its hop is the function that was handed over.
        here = [name for name in LINE if not name.startswith("storage/")]
        self.assertEqual([name for name in calls if name in here], here)
        self.assertEqual(len(LINE), 8)

    def _counted(self, asked: list[str], kind: str) -> Any:
        real = getattr(Database, kind)

        async def counted(fn: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(f"{kind} {fn.__module__} {fn.__qualname__}")
            return await real(self.app.base.db, fn, *args, **kwargs)

        return counted
