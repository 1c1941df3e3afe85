# SPDX-License-Identifier: Apache-2.0
"""Registration files of application services, as the specification and the services' own tools write them.

https://spec.matrix.org/v1.19/application-service-api/#registration
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from homeserver.protocol.ids import is_valid_localpart_new

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LEAST_TOKEN = 8


@attrs.frozen
class Namespace:
    """A pattern of user ids, aliases or room ids; nobody else may make what an exclusive one covers."""

    pattern: re.Pattern[str]
    exclusive: bool

    def covers(self, identifier: str) -> bool:
        return self.pattern.match(identifier) is not None


@attrs.frozen
class AppServiceRegistration:
    """One application service. `url` is None for one that wants no traffic."""

    id: str
    url: str | None
    as_token: str
    hs_token: str
    sender_localpart: str
    users: tuple[Namespace, ...]
    aliases: tuple[Namespace, ...]
    rooms: tuple[Namespace, ...]
    protocols: tuple[str, ...]
    rate_limited: bool
    receive_ephemeral: bool


class Unusable(Exception):
    """A registration file cannot be used; `faults` say why, a line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(files: Sequence[Path]) -> tuple[AppServiceRegistration, ...]:
    """Read registration files; raises Unusable with every fault in them."""
    found: list[AppServiceRegistration] = []
    faults: list[str] = []
    for file in files:
        try:
            found.append(parse(file.read_text(encoding="utf-8"), str(file)))
        except Unusable as error:
            faults += error.faults
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{file}: cannot be read: {error}")
    for name in ("id", "as_token", "sender_localpart"):
        values = [getattr(one, name) for one in found]
        if len(set(values)) < len(values):
            faults.append(f"appservices: two registrations have the same {name}")
    if faults:
        raise Unusable(faults)
    return tuple(found)


def parse(text: str, file: str) -> AppServiceRegistration:
    """One registration; keys that are not known are passed over, because tools write ones of their own."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
            raise Unusable([f"{file}: aliases (*name) are not allowed"])
        given = yaml.load(text, _LOADER)  # noqa: S506
    except yaml.YAMLError as error:
        raise Unusable([f"{file}: not valid YAML: {error}"]) from None
    if not isinstance(given, dict):
        raise Unusable([f"{file}: expected keys and values"])
    faults: list[str] = []
    words = {name: _word(given, name, file, faults) for name in ("id", "as_token", "hs_token", "sender_localpart")}
    for name in ("as_token", "hs_token"):
        if words[name] and len(words[name]) < LEAST_TOKEN:
            faults.append(f"{file}: {name}: expected at least {LEAST_TOKEN} characters")
    if words["sender_localpart"] and not is_valid_localpart_new(words["sender_localpart"]):
        faults.append(f"{file}: sender_localpart: expected a-z, 0-9 and the signs . _ = - / +")
    url = given.get("url")
    if url is not None and (not isinstance(url, str) or not url.startswith(("http://", "https://"))):
        faults.append(f"{file}: url: expected an http or https address, or null")
    spaces = given.get("namespaces")
    if not isinstance(spaces, dict):
        faults.append(f"{file}: namespaces: expected users, aliases and rooms")
        spaces = {}
    users, aliases, rooms = (_namespaces(spaces, name, file, faults) for name in ("users", "aliases", "rooms"))
    protocols = given.get("protocols") or []
    if not isinstance(protocols, list) or not all(isinstance(one, str) for one in protocols):
        faults.append(f"{file}: protocols: expected a list of words")
        protocols = []
    if faults:
        raise Unusable(faults)
    ephemeral = given.get("receive_ephemeral", given.get("de.sorunome.msc2409.push_ephemeral", False))
    return AppServiceRegistration(
        words["id"],
        url if isinstance(url, str) else None,
        words["as_token"],
        words["hs_token"],
        words["sender_localpart"],
        users,
        aliases,
        rooms,
        tuple(protocols),
        given.get("rate_limited") is not False,
        ephemeral is True,
    )


def _word(given: Mapping[str, Any], name: str, file: str, faults: list[str]) -> str:
    value = given.get(name)
    if isinstance(value, str) and value:
        return value
    faults.append(f"{file}: {name}: expected text")
    return ""


def _namespaces(spaces: Mapping[str, Any], name: str, file: str, faults: list[str]) -> tuple[Namespace, ...]:
    found = []
    entries = spaces.get(name) or []
    if not isinstance(entries, list):
        faults.append(f"{file}: namespaces.{name}: expected a list")
        return ()
    for entry in entries:
        pattern = entry.get("regex") if isinstance(entry, dict) else None
        if not isinstance(pattern, str) or not isinstance(entry.get("exclusive", False), bool):
            faults.append(f"{file}: namespaces.{name}: expected a regex, and exclusive: true or false, in each")
            continue
        try:
            found.append(Namespace(re.compile(pattern), entry.get("exclusive", False)))
        except re.error as error:
            faults.append(f"{file}: namespaces.{name}: {pattern!r} is no regular expression: {error}")
    return tuple(found)
