# SPDX-License-Identifier: Apache-2.0
"""Which application services there are and how they are called: what accounts need of them before all else."""

import attrs

from homeserver.compose.base import Base
from homeserver.config import appservice
from homeserver.services.appservices.calls import Calls
from homeserver.services.appservices.queries import Queries
from homeserver.services.appservices.registry import AppServices
from homeserver.services.egress import Egress

#: An admin names the services, so they may be anywhere.
ANYWHERE = ("0.0.0.0/0", "::/0")


@attrs.frozen
class Registered:
    """What accounts and rooms ask of application services."""

    services: AppServices
    calls: Calls
    queries: Queries


def build(base: Base) -> Registered:
    """The services as the configuration has them, and how they are called."""
    config, runtime = base.config, base.runtime
    services = AppServices(appservice.load(config.appservices), config.server_name, base.db, runtime)
    egress = Egress(runtime, ANYWHERE, config.network.dns)
    calls = Calls(runtime, egress)
    base.lifecycle.on_start(services.make_senders)
    base.lifecycle.on_stop(egress.stop)
    return Registered(services, calls, Queries(services, calls, runtime))
