# SPDX-License-Identifier: Apache-2.0
"""How values are read from a query string."""

from urllib.parse import unquote_to_bytes

import attrs

from homeserver.protocol.errors import invalid_param


@attrs.frozen
class Query:
    """A query string's values by name, in the order given."""

    values: dict[str, list[str]]

    @classmethod
    def parse(cls, raw: bytes) -> "Query":
        """Read `a=1&b=%20`; raises M_INVALID_PARAM for what is not UTF-8."""
        values: dict[str, list[str]] = {}
        for pair in raw.split(b"&"):
            if pair:
                name, _, value = pair.partition(b"=")
                values.setdefault(_decoded(name), []).append(_decoded(value))
        return cls(values)

    def get(self, name: str) -> str | None:
        """The last value given for the name."""
        given = self.values.get(name)
        return given[-1] if given else None

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def int(self, name: str, default: int, *, least: int | None = 0, most: int | None = None) -> int:
        """A whole number; more than `most` becomes `most`, less than `least` is an error."""
        text = self.get(name)
        if text is None:
            return default
        digits = text[1:] if text.startswith("-") else text
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
            raise invalid_param(f"Query parameter {name} must be an integer")
        number = int(text)
        if least is not None and number < least:
            raise invalid_param(f"Query parameter {name} must be at least {least}")
        return number if most is None else min(number, most)

    def flag(self, name: str, default: bool = False) -> bool:
        text = self.get(name)
        if text is None:
            return default
        if text not in ("true", "false"):
            raise invalid_param(f"Query parameter {name} must be true or false")
        return text == "true"


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise invalid_param("The query string is not valid UTF-8") from None
