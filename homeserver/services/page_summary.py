# SPDX-License-Identifier: Apache-2.0
"""What a web page says it is about: its Open Graph properties, or what stands in for them.

Only a few tags are looked for, by patterns that never go back: parsers of whole pages take minutes for hostile ones.
"""

import re
from html import unescape

MAX_PROPERTIES = 60
MAX_VALUE = 1_000
_CHARSET = re.compile(rb"""charset\s{0,9}=\s{0,9}["']?\s{0,9}([A-Za-z0-9_:.\-]{2,40})""", re.IGNORECASE)
_TAG = re.compile(
    r"""<(meta|link)\b((?:[^"'<>]{1,500}+|"[^"]{0,4000}+"|'[^']{0,4000}+'){0,60}+)>|<(title|h1)\b[^<>]{0,500}+>([^<]{0,2000}+)""",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""([A-Za-z][\w:.-]{0,40}+)\s{0,20}+=\s{0,20}+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""")
_HIDDEN = re.compile(r"<!--|<(?:script|style|svg|template|noscript)\b", re.IGNORECASE)
_WANTED = ("og:", "article:", "video:", "music:", "book:", "profile:")
_NAMED = ("description", "twitter:title", "twitter:description", "twitter:image")


def decoded(body: bytes, content_type: str) -> str:
    """The page as text: by its first bytes, its header, what it says of itself, else as UTF-8."""
    if body.startswith(b"\xef\xbb\xbf"):
        return body[3:].decode("utf-8", "replace")
    for found in (_CHARSET.search(content_type.encode("utf-8", "replace")), _CHARSET.search(body[:2048])):
        if found is not None:
            try:
                text = body.decode(found[1].decode(), "replace")
            except LookupError:
                continue
            return text if isinstance(text, str) else body.decode("utf-8", "replace")
    return body.decode("utf-8", "replace")


def shown(text: str) -> str:
    """The page without comments, scripts and the like, in which tags mean nothing."""
    lower = text.lower()
    if len(lower) != len(text):  # a few letters change their length
        text = lower
    kept, start = [], 0
    while (found := _HIDDEN.search(text, start)) is not None:
        kept.append(text[start : found.start()])
        end = "-->" if found[0] == "<!--" else f"</{found[0][1:].lower()}"
        close = lower.find(end, found.end())
        if close < 0:
            return "".join(kept)
        start = close + len(end)
    return "".join([*kept, text[start:]])


def summarize(body: bytes, content_type: str) -> dict[str, str]:
    """The page's properties by their Open Graph names; `og:image` is as the page gives it. Takes CPU: use a thread."""
    properties: dict[str, str] = {}
    named: dict[str, str] = {}
    for tag in _TAG.finditer(shown(decoded(body, content_type))):
        if len(properties) + len(named) >= MAX_PROPERTIES:
            break
        if tag[3] is not None:
            named.setdefault(tag[3].lower(), _clean(tag[4]))
            continue
        given = {one[1].lower(): one[2] or one[3] or one[4] or "" for one in _ATTRIBUTE.finditer(tag[2])}
        if tag[1].lower() == "link":
            if given.get("rel", "").lower() == "image_src":
                named.setdefault("image_src", _clean(given.get("href", "")))
            continue
        name, value = (given.get("property") or given.get("name") or "").lower(), _clean(given.get("content", ""))
        if value and name.startswith(_WANTED):
            properties.setdefault(name, value)
        elif value and name in _NAMED:
            named.setdefault(name, value)
    for name, stand_ins in (
        ("og:title", ("twitter:title", "title", "h1")),
        ("og:description", ("twitter:description", "description")),
        ("og:image", ("twitter:image", "image_src")),
    ):
        value = next((named[one] for one in stand_ins if named.get(one)), "")
        if value:
            properties.setdefault(name, value)
    return properties


def _clean(text: str) -> str:
    return " ".join(unescape(text[: 2 * MAX_VALUE]).split())[:MAX_VALUE]
