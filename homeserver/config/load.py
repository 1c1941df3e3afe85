# SPDX-License-Identifier: Apache-2.0
"""Reading homeserver.yaml."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import yaml

from homeserver.config import appservice
from homeserver.config.model import Config
from homeserver.config.walk import Walk

# The C and Python loaders read the same; the first is there when libyaml was.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(Exception):
    """The configuration cannot be used; `faults` are all reasons, a line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(file: Path, environment: Mapping[str, str]) -> Config:
    """Read a configuration file; raises ConfigError with every fault in it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {error}"]) from None
    return parse(text, str(file), file.resolve().parent, environment)


def parse(text: str, name: str, folder: Path, environment: Mapping[str, str]) -> Config:
    """Read a configuration; `name` is what faults call it, relative paths start at `folder`."""
    try:
        # An alias could repeat a node without end.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _LOADER)):
            raise ConfigError([f"{name}: aliases (*name) are not allowed"])
        node = yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{name}:{line}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not valid YAML: {error}"]) from None
    walk = Walk(name, folder, environment)
    config = walk.section(Config, node, "", 1)
    if isinstance(config, Config) and not walk.faults:
        walk.faults += _together(config, name)
        if "data_dir" not in _given(node, environment):
            config = _in_folder(config, folder)
    if walk.faults or not isinstance(config, Config):
        raise ConfigError(sorted(walk.faults, key=_line))
    return config


def _line(fault: str) -> int:
    parts = fault.split(":", 2)
    return int(parts[1]) if len(parts) > 2 and parts[1].isdecimal() else 0


def _given(node: yaml.Node | None, environment: Mapping[str, str]) -> set[str]:
    keys = {key.value for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    return keys | ({"data_dir"} if "PARLEY_DATA_DIR" in environment else set())


def _in_folder(config: Config, folder: Path) -> Config:
    return attrs.evolve(config, data_dir=folder / config.data_dir)


def _together(config: Config, name: str) -> list[str]:
    """What no key is wrong about alone."""
    faults = []
    if not config.listeners:
        faults.append(f"{name}: listeners: expected at least one")
    places = [(one.bind, one.port) for one in config.listeners if one.port]
    for bind, port in sorted({place for place in places if places.count(place) > 1}):
        faults.append(f"{name}: listeners: {bind}:{port} is given twice")
    if config.registration.token_required and not config.registration.enabled:
        faults.append(f"{name}: registration.token_required: has no effect unless registration.enabled is true")
    try:
        appservice.load(config.appservices)
    except appservice.Unusable as error:
        faults += error.faults
    return faults
