# SPDX-License-Identifier: Apache-2.0
"""Which other networks can be reached from here, and what is found there: the answers of all services as one.

https://spec.matrix.org/v1.19/application-service-api/#third-party-networks
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults

from homeserver.config.appservice import AppServiceRegistration
from homeserver.protocol.errors import not_found
from homeserver.runtime import Runtime
from homeserver.services.appservices.calls import Calls
from homeserver.services.appservices.registry import AppServices
from homeserver.services.egress import NoAnswer

PROTOCOL_KEPT_MS = 600_000
#: What an entry must have to be shown, with the type of each.
REQUIRED: Mapping[str, Mapping[str, type]] = {
    "location": {"alias": str, "protocol": str, "fields": dict},
    "user": {"userid": str, "protocol": str, "fields": dict},
}
PROTOCOL: Mapping[str, type] = {
    "user_fields": list,
    "location_fields": list,
    "icon": str,
    "field_types": dict,
    "instances": list,
}


class Networks:
    """Asks every service that bridges a network; one that does not answer, or talks nonsense, is left out."""

    def __init__(self, services: AppServices, calls: Calls, runtime: Runtime) -> None:
        self._services = services
        self._calls = calls
        self._runtime = runtime
        self._protocols: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}

    async def protocols(self) -> dict[str, Any]:
        """Every network by its protocol's name."""
        wanted = {name for service in self._services.speaking(None) for name in service.protocols}
        found = {name: await self._protocol(name) for name in sorted(wanted)}
        return {name: one for name, one in found.items() if one is not None}

    async def protocol(self, name: str) -> dict[str, Any]:
        """One network; raises M_NOT_FOUND."""
        found = await self._protocol(name)
        if found is None:
            raise not_found("No such network is bridged")
        return found

    async def found_at(self, kind: str, protocol: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        """Locations or users (`kind`) of a network with these fields; raises M_NOT_FOUND when there are none."""
        services = self._services.speaking(protocol)
        found = await self._entries(services, kind, f"{kind}/{_quoted(protocol)}", fields)
        if not found:
            raise not_found("Nothing was found in that network" if services else "No such network is bridged")
        return found

    async def known_as(self, kind: str, name: str, value: str) -> list[dict[str, Any]]:
        """What an alias or a user id (the parameter `name`) stands for in other networks."""
        return await self._entries(self._services.speaking(None), kind, kind, {name: value})

    async def _protocol(self, name: str) -> dict[str, Any] | None:
        merged: dict[str, Any] | None = None
        for service in self._services.speaking(name):
            one = await self._description(service, name)
            if one is None:
                continue
            instances = [
                {**instance, "instance_id": f"{service.id}|{instance['network_id']}"}
                for instance in one["instances"]
                if isinstance(instance, dict) and isinstance(instance.get("network_id"), str)
            ]
            if merged is None:
                merged = {**one, "instances": instances}
            else:
                merged["instances"] = [*merged["instances"], *instances]
        return merged

    async def _description(self, service: AppServiceRegistration, name: str) -> dict[str, Any] | None:
        known = self._protocols.get((service.id, name))
        if known is not None and known[0] > self._runtime.now_ms():
            return known[1]
        answer = await self._ask(service, f"protocol/{_quoted(name)}", {})
        if not _has(answer, PROTOCOL):
            return None
        self._protocols[service.id, name] = (self._runtime.now_ms() + PROTOCOL_KEPT_MS, answer)
        return dict(answer)

    async def _entries(
        self, services: Sequence[AppServiceRegistration], kind: str, path: str, query: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        asked = [Deferred.fromCoroutine(self._ask(service, path, query)) for service in services]
        answers = await gatherResults(asked)
        found = [entry for answer in answers if isinstance(answer, list) for entry in answer]
        return [entry for entry in found if _has(entry, REQUIRED[kind])]

    async def _ask(self, service: AppServiceRegistration, path: str, query: Mapping[str, str]) -> Any:
        """A service's answer; None when it has none."""
        if service.url is None:
            return None
        try:
            said = await self._calls.third_party(service, path, query)
        except NoAnswer:
            return None
        return said.json() if said.ok else None


def _has(value: Any, wanted: Mapping[str, type]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in wanted.items())


def _quoted(name: str) -> str:
    return quote(name, safe="")
