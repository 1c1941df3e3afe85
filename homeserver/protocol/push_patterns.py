# SPDX-License-Identifier: Apache-2.0
"""How push rules find a property of an event and match a glob against it, in time linear in the text.

Globs are client-server API v1.19 "Glob-style matching": `*` is any run of characters, `?` exactly one.
"""

import re
from collections.abc import Callable

Matcher = Callable[[str], bool]

_STARS = re.compile(r"\*+")
#: A word boundary is "the start or end of the value, or any character not in the sets [A-Z], [a-z], [0-9] or _".
_WORD = "[a-z0-9_]"


def property_path(key: str) -> tuple[str, ...]:
    """The names in a dot-separated path: `\\.` is a dot in a name, `\\\\` a backslash, other escapes stay."""
    names, name, i = [], "", 0
    while i < len(key):
        if key[i] == "\\" and key[i + 1 : i + 2] in (".", "\\"):
            name += key[i + 1]
            i += 2
        elif key[i] == ".":
            names.append(name)
            name = ""
            i += 1
        else:
            name += key[i]
            i += 1
    return (*names, name)


def lookup(value: object, path: tuple[str, ...]) -> tuple[bool, object]:
    """Whether the path leads to a property, and that property."""
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def whole_matcher(pattern: str) -> Matcher:
    """Match all of a text, case-insensitively."""
    segments = _STARS.split(pattern.casefold())
    if len(segments) == 1:
        if "?" not in pattern:
            wanted = segments[0]
            return lambda text: text.casefold() == wanted
        only = _compiled(segments[0])
        return lambda text: only.fullmatch(text.casefold()) is not None
    first, *middle, last = (_compiled(segment) for segment in segments)
    last_length = len(segments[-1])

    def matches(text: str) -> bool:
        text = text.casefold()
        end = len(text) - last_length
        start = first.match(text)
        if start is None or end < start.end() or last.match(text, end) is None:
            return False
        return _in_order(middle, text, start.end(), end) is not None

    return matches


def word_matcher(pattern: str) -> Matcher:
    """Match any part of a text that starts and ends at a word boundary, case-insensitively."""
    segments = _STARS.split(pattern.casefold())
    if len(segments) == 1:
        only = _compiled(segments[0], before=f"(?<!{_WORD})", after=f"(?!{_WORD})")
        return lambda text: only.search(text.casefold()) is not None
    # An empty first or last segment is a `*` at that end, which reaches the text's own start or end.
    first = _compiled(segments[0], before=f"(?<!{_WORD})") if segments[0] else _compiled("")
    middle = [_compiled(segment) for segment in segments[1:-1]]
    last = _compiled(segments[-1], after=f"(?!{_WORD})") if segments[-1] else _compiled("")

    def matches(text: str) -> bool:
        text = text.casefold()
        start = first.search(text)
        if start is None:
            return False
        position = _in_order(middle, text, start.end(), len(text))
        return position is not None and last.search(text, position) is not None

    return matches


def contains_words(words: str) -> Matcher:
    """Match a text that holds these very words (no wildcards) between word boundaries, case-insensitively."""
    found = re.compile(f"(?<!{_WORD}){re.escape(words.casefold())}(?!{_WORD})")
    return lambda text: found.search(text.casefold()) is not None


def _in_order(segments: list[re.Pattern[str]], text: str, start: int, end: int) -> int | None:
    """Where the segments end when each is taken as early as possible, or None."""
    for segment in segments:
        found = segment.search(text, start, end)
        if found is None:
            return None
        start = found.end()
    return start


def _compiled(segment: str, before: str = "", after: str = "") -> re.Pattern[str]:
    return re.compile(before + "".join("." if c == "?" else re.escape(c) for c in segment) + after, re.DOTALL)
