# SPDX-License-Identifier: Apache-2.0
"""Application services: what they are told, what they ask, and the networks that they bridge."""

import attrs

from homeserver.client_api.appservices import AppServicePage
from homeserver.client_api.thirdparty import ThirdParty
from homeserver.compose.accounts import Accounts
from homeserver.compose.base import Base
from homeserver.compose.spine import Spine
from homeserver.compose.userdata import UserData
from homeserver.services.appservices.contents import Reader
from homeserver.services.appservices.delivery import Deliveries, Parts
from homeserver.services.appservices.interest import Interest
from homeserver.services.appservices.networks import Networks
from homeserver.services.appservices.ping import Ping


@attrs.frozen
class AppServiceArea:
    """What other areas need of this one."""

    deliveries: Deliveries
    pages: tuple[object, ...]


def build(base: Base, accounts: Accounts, userdata: UserData, spine: Spine) -> AppServiceArea:
    """Deliveries, and the pages for services and about networks."""
    config, runtime, registered = base.config, base.runtime, accounts.registered
    readers = [
        (service, Reader(service, Interest(service, config.server_name), spine.renderer))
        for service in registered.services.all
        if service.url is not None
    ]
    parts = Parts(base.db, runtime, registered.calls, userdata.typing, userdata.presence, registered.queries)
    deliveries = Deliveries(parts, readers)
    base.lifecycle.on_start(deliveries.start)
    base.lifecycle.on_stop(deliveries.stop)
    if readers:
        userdata.typing.watch(deliveries.typing)
    base.metrics.gauge(
        "parley_appservices_failing", "Application services that do not take transactions", lambda: deliveries.failing
    )
    base.metrics.gauge(
        "parley_appservices_behind",
        "Changes that the application service furthest behind has not been told of",
        lambda: deliveries.behind,
    )
    pages = (
        AppServicePage(Ping(registered.services, registered.calls, runtime, deliveries.hurry)),
        ThirdParty(Networks(registered.services, registered.calls, runtime)),
    )
    return AppServiceArea(deliveries, pages)
