# SPDX-License-Identifier: Apache-2.0
"""A homeserver.yaml with a comment for every key, and the reference page, both from the declarations."""

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs

from homeserver.config.model import Config
from homeserver.config.walk import describe

HEADING = """\
# homeserver.yaml: the one file that an administrator of Parley edits.
#
# Lines that start with "#key:" show defaults. Relative file names are relative to this file. Any single value can be
# given by an environment variable instead: PARLEY_ and the path in capitals, such as PARLEY_DATABASE__URL.
# `parley check-config -c homeserver.yaml` says what is wrong with it.
"""
UNITS = {"size": ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")), "duration": ((86_400_000, "d"), (3_600_000, "h"))}


def template(given: Mapping[str, Any]) -> str:
    """The file with the values of `given` (nested by section) set and every other key shown as a comment."""
    return HEADING + "\n" + "\n".join(_section(Config, given, 0)) + "\n"


def _section(cls: type, given: Mapping[str, Any], depth: int, off: str = "#") -> list[str]:
    """The lines of a section; `off` stands before the keys that are not given."""
    lines: list[str] = []
    hints = typing.get_type_hints(cls)
    for field in attrs.fields(cls):
        inner = _section_class(hints[field.name])
        set_here = field.name in given
        margin = "  " * depth
        if depth == 0 and lines:
            lines.append("")
        comment = field.metadata["doc"] or ((inner.__doc__ or "").strip() if inner else "")
        lines.append(f"{margin}# {comment}")
        if inner is not None and get_origin(hints[field.name]) is not tuple and inner.__name__ != "Rate":
            set_here = bool(given.get(field.name))
            before = "" if set_here else off
            lines.append(f"{margin}{before}{field.name}:")
            below = _section(inner, given.get(field.name, {}), depth + 1, "#" if set_here else "")
            lines += [before + line for line in below]
        elif set_here:
            lines.append(f"{margin}{field.name}: {_flow(given[field.name], field.metadata['kind'])}")
        else:
            lines.append(f"{margin}{off}{field.name}: {_flow(_default(field), field.metadata['kind'])}".rstrip())
    return lines


def _section_class(want: Any) -> type | None:
    """The attrs class of a section, of an optional one, or of a list's items."""
    if isinstance(want, types.UnionType) or get_origin(want) in (typing.Union, tuple):
        want = next(arg for arg in get_args(want) if arg is not type(None))
    return want if attrs.has(want) else None


def _default(field: Any) -> Any:
    if field.default is attrs.NOTHING:
        return field.metadata["example"] or ""
    return field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]


def _flow(value: Any, kind: str | None) -> str:
    """A value on one line of YAML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        for size, unit in UNITS.get(kind or "", ()):
            if value >= size and value % size == 0:
                return f"{value // size:.0f}{unit}"
        return (
            f"{value // 1000}s"
            if kind == "duration" and not value % 1000
            else f"{value:g}"
            if value < 1e6
            else str(value)
        )
    if isinstance(value, str | Path):
        return _quoted(str(value))
    if attrs.has(type(value)):
        shown = {f.name: getattr(value, f.name) for f in attrs.fields(type(value))}
        return _flow({k: v for k, v in shown.items() if v is not None}, None)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_flow(v, None)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(_flow(item, kind) for item in value) + "]"


def _quoted(text: str) -> str:
    plain = text and all(c.isalnum() or c in "_./-@+" or (c == ":" and text[-1] != ":") for c in text)
    return text if plain and text[0].isalpha() or (plain and text[0] == "/") else '"' + text.replace('"', '\\"') + '"'


def reference() -> str:
    """The reference page in Markdown."""
    lines = [
        "# homeserver.yaml",
        "",
        "Generated from `homeserver/config/model.py` by `make docs`.",
        "",
        "Relative file names are relative to the file. Sizes may end in K, M or G, durations in ms, s, m, h or d. Any",
        "single value can be given by an environment variable: `PARLEY_` and the path in capitals with `__` between",
        "levels, such as `PARLEY_DATABASE__URL`. A secret may come from a file: `<key>_file`.",
        "",
        "| Key | What | Type | Default |",
        "|---|---|---|---|",
        *_rows(Config, ""),
        "",
    ]
    return "\n".join(lines)


def _rows(cls: type, path: str) -> list[str]:
    rows = []
    hints = typing.get_type_hints(cls)
    for field in attrs.fields(cls):
        want, kind = hints[field.name], field.metadata["kind"]
        inner = _section_class(want)
        if inner is not None and inner.__name__ != "Rate":
            listed = get_origin(want) is tuple
            doc = field.metadata["doc"] or (inner.__doc__ or "").strip()
            rows.append(f"| `{path}{field.name}` | {doc} | {'list of sections' if listed else 'section'} | |")
            rows += _rows(inner, f"{path}{field.name}{'[]' if listed else ''}.")
            continue
        default = "required" if field.default is attrs.NOTHING else _flow(_default(field), kind)
        shown = f"`{default}`" if default and default != "required" else default
        name = {"size": "size", "duration": "duration", "secret": "text, or `_file`"}.get(kind or "") or describe(want)
        rows.append(f"| `{path}{field.name}` | {field.metadata['doc']} | {name} | {shown} |")
    return rows
