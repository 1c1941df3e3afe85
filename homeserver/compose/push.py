# SPDX-License-Identifier: Apache-2.0
"""Pushers, what they are told, and the list of notifications."""

import attrs

from homeserver.client_api.notifications import NotificationPage
from homeserver.client_api.pushers import PusherPage
from homeserver.compose.base import Base
from homeserver.compose.spine import Spine
from homeserver.services.egress import Egress
from homeserver.services.notifications import Notifications
from homeserver.services.push import Push
from homeserver.services.pushers import Pushers


@attrs.frozen
class PushArea:
    """What other areas need of this one."""

    push: Push
    pages: tuple[object, ...]


def build(base: Base, spine: Spine) -> PushArea:
    """The services and pages of this area."""
    db, runtime, network = base.db, base.runtime, base.config.network
    egress = Egress(runtime, network.allow_private_addresses, network.dns)
    push = Push(db, runtime, egress)
    base.lifecycle.on_stop(egress.stop)
    base.lifecycle.on_start(push.start)
    base.lifecycle.on_stop(push.stop)
    base.metrics.gauge("parley_pushers_failing", "Pushers whose gateway does not answer", lambda: push.failing)
    pushers = Pushers(db, runtime, plain_http=bool(network.allow_private_addresses))
    return PushArea(push, (PusherPage(pushers), NotificationPage(Notifications(db, spine.renderer))))
