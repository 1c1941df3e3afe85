# SPDX-License-Identifier: Apache-2.0
"""From the nodes of a YAML file, which know their lines, to typed values, with every fault found at once."""

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import yaml

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a file name"}


class Invalid(Exception):
    """A value is not what was expected; the text says what was."""


@attrs.define
class Walk:
    """One reading of a file: where relative paths start, what the environment says, the faults so far."""

    file: str
    folder: Path
    environment: Mapping[str, str]
    faults: list[str] = attrs.field(factory=list)

    def section(self, cls: type, node: yaml.Node | None, path: str, line: int) -> Any:
        """The value of an attrs class from a mapping; None stands in for what could not be read."""
        if node is not None and _empty(node):
            node = None
        if node is not None and not isinstance(node, yaml.MappingNode):
            self._fault(node, path, "expected keys and values")
            return None
        hints = typing.get_type_hints(cls)
        fields = attrs.fields(attrs.resolve_types(cls))
        names = [f.name for f in fields] + [f.name + "_file" for f in fields if f.metadata["kind"] == "secret"]
        given = self._keys(node, names, path) if node is not None else {}
        line = node.start_mark.line + 1 if node is not None else line
        values: dict[str, Any] = {}
        before = len(self.faults)
        for field in fields:
            key = f"{path}{field.name}"
            value = self._option(hints[field.name], field, given, key, line)
            if value is not attrs.NOTHING:
                values[field.name] = value
            elif field.default is attrs.NOTHING:
                self.faults.append(f"{self.file}:{line}: {key}: missing, expected {describe(hints[field.name])}")
        return cls(**values) if len(self.faults) == before else None

    def _keys(self, node: yaml.MappingNode, names: list[str], path: str) -> dict[str, yaml.Node]:
        got: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name in got:
                self._fault(key, path + name, "given twice")
            elif name not in names:
                near = difflib.get_close_matches(name, names, 1)
                self._fault(key, path + name, "unknown key" + (f", did you mean {near[0]}?" if near else ""))
            else:
                got[name] = value
        return got

    def _option(self, want: Any, field: Any, given: dict[str, yaml.Node], key: str, line: int) -> Any:
        """The value of one key, or NOTHING."""
        node, kind = given.get(field.name), field.metadata["kind"]
        before = len(self.faults)
        if kind == "secret":
            value = self._secret(field.name, given, key, line)
        else:
            value = self._value(want, kind, node, key, line)
        if len(self.faults) > before:
            return None
        if value is attrs.NOTHING:
            return value
        check = field.metadata["check"]
        expected = check(value) if check is not None and value is not None else None
        if expected is not None:
            where = node.start_mark.line + 1 if node is not None else line
            # A database's address may hold its password.
            found = "" if kind == "database" else f", found {shown(value)}"
            self.faults.append(f"{self.file}:{where}: {key}: expected {expected}{found}")
        return value

    def _secret(self, name: str, given: dict[str, yaml.Node], key: str, line: int) -> Any:
        text = self._value(str | None, None, given.get(name), key, line)
        file = self._value(Path, "path", given.get(name + "_file"), key + "_file", line)
        if file is attrs.NOTHING or file is None:
            return text
        node = given.get(name + "_file")
        where = node.start_mark.line + 1 if node is not None else line
        if text is not attrs.NOTHING and text is not None:
            self.faults.append(f"{self.file}:{where}: {key}: given here and as {key}_file, expected one of them")
            return attrs.NOTHING
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{self.file}:{where}: {key}_file: cannot read {file}: {error}")
            return attrs.NOTHING

    def _value(self, want: Any, kind: str | None, node: yaml.Node | None, key: str, line: int) -> Any:
        """A value of type `want` from the environment, else from the node; NOTHING when neither has it."""
        optional = False
        if isinstance(want, types.UnionType) or get_origin(want) is typing.Union:
            optional = True
            want = next(arg for arg in get_args(want) if arg is not type(None))
        if attrs.has(want):
            # An optional section with nothing in it is not given.
            if (node is None or (optional and _empty(node))) and not self._in_environment(key):
                return attrs.NOTHING
            return self.section(want, node, key + ".", line)
        if get_origin(want) is tuple:
            return self._list(get_args(want)[0], kind, node, key, line)
        variable = "PARLEY_" + key.upper().replace(".", "__")
        if (text := self.environment.get(variable)) is not None:
            try:
                return self._scalar(want, kind, text)
            except Invalid as expected:
                self.faults.append(f"{variable}: expected {expected}, found {shown(text)}")
                return attrs.NOTHING
        if node is None:
            return attrs.NOTHING
        if optional and _empty(node):
            return None
        try:
            if not isinstance(node, yaml.ScalarNode) or (_empty(node) and want is not str):
                raise Invalid(describe(want))
            if want in (int, float, bool) and kind is None and node.style in ("'", '"'):
                raise Invalid(describe(want) + " without quotes")
            if _empty(node):
                raise Invalid(describe(want))
            return self._scalar(want, kind, node.value)
        except Invalid as expected:
            self._fault(node, key, f"expected {expected}, found {shown(node)}")
            return attrs.NOTHING

    def _list(self, want: Any, kind: str | None, node: yaml.Node | None, key: str, line: int) -> Any:
        if node is None:
            return attrs.NOTHING
        if not isinstance(node, yaml.SequenceNode):
            self._fault(node, key, f"expected a list, found {shown(node)}")
            return attrs.NOTHING
        values = []
        for at, item in enumerate(node.value):
            value = self._value(want, kind, item, f"{key}.{at}", item.start_mark.line + 1)
            values.append(value)
        return tuple(values)

    def _in_environment(self, key: str) -> bool:
        return any(name.startswith("PARLEY_" + key.upper().replace(".", "__") + "__") for name in self.environment)

    def _scalar(self, want: Any, kind: str | None, text: str) -> Any:
        """Read a text as the schema wants it, whatever YAML would take it for; raises Invalid."""
        if get_origin(want) is Literal:
            if text not in get_args(want):
                near = difflib.get_close_matches(text, get_args(want), 1)
                raise Invalid(describe(want) + (f" (did you mean {near[0]}?)" if near else ""))
            return text
        if kind == "size":
            return _with_unit(text, _SIZES, "a size such as 50M")
        if kind == "duration":
            return _with_unit(text, _TIMES, "a duration such as 90s or 24h")
        if kind == "database" and text.startswith("sqlite:///"):
            return "sqlite:///" + str(self.folder / text.removeprefix("sqlite:///"))
        if want is Path:
            return self.folder / text
        if want is bool and text in ("true", "false"):
            return text == "true"
        if want is int and text.isascii() and text.removeprefix("-").isdecimal():
            return int(text)
        if want is float:
            try:
                return float(text)
            except ValueError:
                raise Invalid(describe(want)) from None
        if want is str:
            return text
        raise Invalid(describe(want))

    def _fault(self, node: yaml.Node, key: str, text: str) -> None:
        self.faults.append(f"{self.file}:{node.start_mark.line + 1}: {key.rstrip('.')}: {text}")


def describe(want: Any) -> str:
    """A type in words."""
    if isinstance(want, types.UnionType) or get_origin(want) is typing.Union:
        return " or nothing".join([describe(arg) for arg in get_args(want) if arg is not type(None)] + [""])
    if get_origin(want) is Literal:
        return "one of " + ", ".join(get_args(want))
    if get_origin(want) is tuple:
        return "a list"
    return _WORDS.get(want, "keys and values")


def shown(value: object) -> str:
    """What was found, cut to a length that fits a line."""
    if isinstance(value, yaml.ScalarNode):
        value = value.value
    elif isinstance(value, yaml.Node):
        return "a list" if isinstance(value, yaml.SequenceNode) else "keys and values"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _with_unit(text: str, units: Mapping[str, int], expected: str) -> int:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(digits) :].lower()
    if not (digits.isascii() and digits.isdecimal() and unit in units):
        raise Invalid(expected)
    return int(digits) * units[unit]
