# SPDX-License-Identifier: Apache-2.0
"""How a key of homeserver.yaml declares itself: its type, default, meaning and what is expected of it."""

from collections.abc import Callable
from typing import Any

import attrs

MISSING = attrs.NOTHING


def option(
    doc: str,
    *,
    default: Any = MISSING,
    kind: str | None = None,
    check: Callable[[Any], str | None] | None = None,
    example: str | tuple[str, ...] | None = None,
) -> Any:
    """One key. Without a default it must be given.

    `kind` is "path" (relative to the YAML file), "secret" (may come from the file that `<key>_file` names), "size"
    (bytes, or with K, M, G), "duration" (milliseconds in the program; in the file with ms, s, m, h, d) or "database".
    `check` returns what was expected of a value that is wrong, or None.
    """
    metadata = {"doc": doc, "kind": kind, "check": check, "example": example}
    if isinstance(default, type):
        return attrs.field(factory=default, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def at_least(least: float) -> Callable[[Any], str | None]:
    """A check: a number that is not smaller."""
    return lambda value: None if value >= least else f"at least {least}"
