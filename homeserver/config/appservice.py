# SPDX-License-Identifier: Apache-2.0
"""Registration files of application services, as the specification and the services' own tools write them.

https://spec.matrix.org/v1.19/application-service-api/#registration
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import yaml

from homeserver.protocol.ids import is_valid_localpart_new

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LEAST_TOKEN = 8
SIGILS = {"users": "@", "aliases": "#", "rooms": "!"}


@attrs.frozen
class Namespace:
    """A pattern of user ids, aliases or room ids; nobody else may make what an exclusive one covers."""

    pattern: re.Pattern[str]
    exclusive: bool

    def covers(self, identifier: str) -> bool:
        return self.pattern.match(identifier) is not None


@attrs.frozen
class AppServiceRegistration:
    """One application service. `url` is None for one that wants no traffic.

    `receive_ephemeral` asks for typing, receipts, presence and messages to devices, `receive_devices` for what
    encryption needs: changed devices and how many keys are left (MSC3202).
    """

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
    receive_devices: bool = False


class Unusable(Exception):
    """A registration file cannot be used; `faults` say why, a line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(files: Sequence[Path]) -> tuple[AppServiceRegistration, ...]:
    """Read registration files; raises Unusable with every fault in them."""
    found: list[tuple[Path, AppServiceRegistration]] = []
    faults: list[str] = []
    for file in files:
        try:
            found.append((file, parse(file.read_text(encoding="utf-8"), str(file))))
        except Unusable as error:
            faults += error.faults
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{file}: cannot be read: {error}")
    faults += _conflicts(found)
    if faults:
        raise Unusable(faults)
    return tuple(one for _, one in found)


def _conflicts(found: Sequence[tuple[Path, AppServiceRegistration]]) -> list[str]:
    """ "each as_token and id MUST be unique per application service", and what is exclusive has one owner."""
    faults = []
    for name in ("id", "as_token", "sender_localpart"):
        counted = Counter(getattr(one, name) for _, one in found)
        faults += [
            f"{file}: {name}: another application service has the same"
            for file, one in found
            if counted[getattr(one, name)] > 1
        ]
    for kind in SIGILS:
        owners = Counter(pattern for _, one in found for pattern in _exclusive(one, kind))
        for file, one in found:
            for pattern in sorted(_exclusive(one, kind)):
                if owners[pattern] > 1:
                    faults.append(f"{file}: namespaces.{kind}: {pattern!r} is exclusive to another one as well")
    return faults


def _exclusive(one: AppServiceRegistration, kind: str) -> set[str]:
    spaces: Sequence[Namespace] = getattr(one, kind)
    return {space.pattern.pattern for space in spaces if space.exclusive}


def parse(text: str, file: str) -> AppServiceRegistration:
    """One registration; keys that are not known are passed over, because tools write ones of their own."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
            raise Unusable([f"{file}: aliases (*name) are not allowed"])
        node = yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Unusable([f"{file}:{line}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise Unusable([f"{file}: not valid YAML: {error}"]) from None
    if not isinstance(node, yaml.MappingNode):
        raise Unusable([f"{file}:1: expected keys and values"])
    reading = _Reading(file)
    top = reading.keys(node)
    spaces = reading.namespaces(top)
    one = AppServiceRegistration(
        reading.word(top, "id"),
        reading.url(top),
        reading.token(top, "as_token"),
        reading.token(top, "hs_token"),
        reading.localpart(top),
        spaces["users"],
        spaces["aliases"],
        spaces["rooms"],
        reading.words(top, "protocols"),
        reading.flag(top, True, "rate_limited"),
        reading.flag(top, False, "receive_ephemeral", "de.sorunome.msc2409.push_ephemeral"),
        reading.flag(top, False, "org.matrix.msc3202"),
    )
    if reading.faults:
        raise Unusable(reading.faults)
    return one


_Keys = dict[str, yaml.Node]


class _Reading:
    """Takes typed values from the nodes of one file; what is wrong with one is noted with its line."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._end = 1
        self.faults: list[str] = []

    def _fault(self, node: yaml.Node | None, key: str, text: str) -> None:
        line = self._end if node is None else node.start_mark.line + 1
        self.faults.append(f"{self._file}:{line}: {key}: {text}")

    def keys(self, node: yaml.MappingNode, path: str = "") -> _Keys:
        found: _Keys = {}
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if name in found:
                self._fault(key, path + name, "given twice")
            found[name] = value
        if not path:
            self._end = node.start_mark.line + 1
        return found

    def word(self, top: _Keys, name: str) -> str:
        node = top.get(name)
        value = _scalar(node)
        if isinstance(value, str) and value:
            return value
        self._fault(node, name, "expected text")
        return ""

    def token(self, top: _Keys, name: str) -> str:
        value = self.word(top, name)
        if value and (len(value) < LEAST_TOKEN or not value.isascii() or not value.isprintable() or " " in value):
            self._fault(top[name], name, f"expected at least {LEAST_TOKEN} printable ASCII characters without spaces")
        return value

    def localpart(self, top: _Keys) -> str:
        value = self.word(top, "sender_localpart")
        if value and not is_valid_localpart_new(value):
            self._fault(top["sender_localpart"], "sender_localpart", "expected a-z, 0-9 and the signs . _ = - / +")
        return value

    def url(self, top: _Keys) -> str | None:
        node = top.get("url")
        value = _scalar(node)
        if node is not None and value is None:
            return None
        try:
            parts = urlsplit(value) if isinstance(value, str) and value.isascii() else None
            if parts and parts.scheme in ("http", "https") and parts.hostname and not parts.query + parts.fragment:
                _ = parts.port
                return str(value).rstrip("/")
        except ValueError:
            pass
        self._fault(node, "url", "expected an http or https address, or null")
        return None

    def flag(self, top: _Keys, default: bool, *names: str) -> bool:
        """The first of these keys that is given."""
        for name in names:
            node = top.get(name)
            value = _scalar(node)
            if isinstance(value, bool):
                return value
            if value is not None or (node is not None and not isinstance(node, yaml.ScalarNode)):
                self._fault(node, name, "expected true or false")
        return default

    def words(self, top: _Keys, name: str) -> tuple[str, ...]:
        node = top.get(name)
        if node is None or (isinstance(node, yaml.ScalarNode) and _scalar(node) is None):
            return ()
        found = [_scalar(one) for one in node.value] if isinstance(node, yaml.SequenceNode) else [None]
        words = tuple(one for one in found if isinstance(one, str) and one)
        if len(words) != len(found) or len(set(words)) != len(words):
            self._fault(node, name, "expected a list of words")
        return words

    def namespaces(self, top: _Keys) -> dict[str, tuple[Namespace, ...]]:
        node = top.get("namespaces")
        if not isinstance(node, yaml.MappingNode):
            self._fault(node, "namespaces", "expected users, aliases and rooms")
            return dict.fromkeys(SIGILS, ())
        spaces = self.keys(node, "namespaces.")
        for name in spaces.keys() - SIGILS.keys():
            self._fault(spaces[name], f"namespaces.{name}", "expected users, aliases or rooms")
        return {kind: self._spaces(spaces.get(kind), f"namespaces.{kind}") for kind in SIGILS}

    def _spaces(self, node: yaml.Node | None, key: str) -> tuple[Namespace, ...]:
        if node is None or (isinstance(node, yaml.ScalarNode) and _scalar(node) is None):
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self._fault(node, key, "expected a list")
            return ()
        return tuple(space for one in node.value if (space := self._space(one, key)) is not None)

    def _space(self, node: yaml.Node, key: str) -> Namespace | None:
        given = self.keys(node, f"{key}.") if isinstance(node, yaml.MappingNode) else {}
        pattern, exclusive = _scalar(given.get("regex")), _scalar(given.get("exclusive"))
        if not isinstance(pattern, str) or not isinstance(exclusive, bool | None):
            self._fault(node, key, "expected a regex, and exclusive: true or false, in each")
            return None
        try:
            return Namespace(re.compile(pattern), exclusive is True)
        except re.error as error:
            self._fault(given["regex"], key, f"{pattern!r} is no regular expression: {error}")
            return None


def _scalar(node: yaml.Node | None) -> object:
    """The value of a plain node; None for an empty one and for lists and mappings."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in ("true", "yes", "on")
    if node.tag == "tag:yaml.org,2002:null":
        return None
    return str(node.value) if node.tag == "tag:yaml.org,2002:str" else (node.tag, node.value)
