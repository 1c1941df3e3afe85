# SPDX-License-Identifier: Apache-2.0
"""What a client is told of everything else."""

import attrs

from homeserver.client_api.filter import FilterPage
from homeserver.client_api.old_sync import OldSync
from homeserver.client_api.sliding_sync import SlidingSyncPage
from homeserver.client_api.sync import Sync as SyncPage
from homeserver.compose.base import Base
from homeserver.compose.e2e import Encryption
from homeserver.compose.spine import Spine
from homeserver.compose.userdata import UserData
from homeserver.services.rooms.initial import RoomBeginnings
from homeserver.services.rooms.read import RoomAccess
from homeserver.services.sync.engine import Sources, SyncEngine
from homeserver.services.sync.event_stream import EventStream, Views
from homeserver.services.sync.filters import Filters
from homeserver.services.sync.joined import JoinedRooms
from homeserver.services.sync.members import ToldMembers
from homeserver.services.sync.news import Newsroom
from homeserver.services.sync.rendering import RowRenderer
from homeserver.services.sync.rooms import Parts
from homeserver.services.sync.sliding.connections import Connections
from homeserver.services.sync.sliding.engine import SlidingSync
from homeserver.services.sync.sliding.facts import FactsOfRooms
from homeserver.services.sync.sliding.job import Tools
from homeserver.services.sync.timeline import RecentTimelines


@attrs.frozen
class Sync:
    """What other areas need of this one."""

    engine: SyncEngine
    sliding: SlidingSync
    joined: JoinedRooms
    pages: tuple[object, ...]


def build(base: Base, userdata: UserData, e2e: Encryption, spine: Spine, access: RoomAccess) -> Sync:
    """The services and pages of this area."""
    runtime, db, notifier = base.runtime, base.db, base.notifier
    db.on_reset(lambda: notifier.begin(db.published))
    joined = JoinedRooms(runtime, db, notifier)
    newsroom = Newsroom(notifier.streams, joined, userdata.typing)
    sources = Sources(userdata.presence, e2e.to_device, e2e.keys, userdata.data)
    renderer = RowRenderer(spine.transactions, spine.renderer, runtime.now_ms)
    parts = Parts(ToldMembers(), renderer, RecentTimelines())
    engine = SyncEngine(runtime, db, notifier, joined, newsroom, sources, parts)
    base.lifecycle.on_stop(notifier.wake_everybody)
    base.metrics.gauge("parley_open_long_polls", "Requests that wait for news", notifier.waiting)
    tools = Tools(parts, FactsOfRooms(), Connections())
    db.on_reset(parts.recent.forget)
    db.on_reset(tools.facts.forget)
    sliding = SlidingSync(runtime, db, notifier, joined, newsroom, sources, tools)
    base.lifecycle.on_stop(sliding.save)
    base.metrics.gauge("parley_sliding_connections", "Sliding sync connections in memory", tools.connections.__len__)
    filters = Filters(db)
    views = Views(access, spine.renderer, RoomBeginnings(db, access, spine.renderer))
    stream = EventStream(runtime, db, notifier, joined, views, userdata.presence)
    pages = (SyncPage(engine, filters), FilterPage(filters), SlidingSyncPage(sliding), OldSync(stream))
    return Sync(engine, sliding, joined, pages)
