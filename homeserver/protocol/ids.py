# SPDX-License-Identifier: Apache-2.0
"""The grammars and sizes of identifiers.

https://spec.matrix.org/v1.18/appendices/#identifier-grammar
"""

import re

import attrs

from homeserver.protocol.errors import invalid_param

MAX_ID_BYTES = 255

# server_name = hostname [ ":" port ]; the dotted-quad form is a subset of dns-name.
_SERVER = r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.\-]{1,255})(?::[0-9]{1,5})?"
# "any legal non-surrogate Unicode code points except for : and NUL"
_OPAQUE = r"[^:\x00\ud800-\udfff]"
_HASH = r"[0-9A-Za-z_\-]{43}"

_SERVER_NAME = re.compile(_SERVER)
_USER_ID = re.compile(rf"@({_OPAQUE}*):({_SERVER})")
_ROOM_ID = re.compile(rf"!(?:{_HASH}|{_OPAQUE}+:{_SERVER})")
_ROOM_ALIAS = re.compile(rf"#({_OPAQUE}+):({_SERVER})")
# Version 1 and 2: "$opaque:domain"; version 3: standard base64; from version 4: URL-safe base64.
_EVENT_ID = re.compile(rf"\$(?:[0-9A-Za-z_\-+/]{{43}}|{_OPAQUE}+:{_SERVER})")
_NEW_LOCALPART = re.compile(r"[a-z0-9._=\-/+]+")
_COMPLIANT_LOCALPART = re.compile(r"[\x21-\x39\x3b-\x7e]+")
_OPAQUE_ID = re.compile(r"[0-9A-Za-z\-._~]{1,255}")
_NAMESPACED_ID = re.compile(r"[a-z][a-z0-9\-_.]{0,254}")
_ROOM_VERSION = re.compile(r"[a-z0-9.\-]{1,32}")
_MEDIA_ID = re.compile(r"[0-9A-Za-z\-_]{1,255}")


@attrs.frozen
class UserId:
    """`@localpart:server`."""

    localpart: str
    server: str

    def __str__(self) -> str:
        return f"@{self.localpart}:{self.server}"


@attrs.frozen
class RoomAlias:
    """`#localpart:server`."""

    localpart: str
    server: str

    def __str__(self) -> str:
        return f"#{self.localpart}:{self.server}"


@attrs.frozen
class ServerName:
    """Host (an IPv6 literal without its brackets) and port of a server name."""

    host: str
    port: int | None
    is_ipv6: bool


@attrs.frozen
class MediaUri:
    """`mxc://server/media_id`."""

    server: str
    media_id: str

    def __str__(self) -> str:
        return f"mxc://{self.server}/{self.media_id}"


def fits(value: str, limit: int = MAX_ID_BYTES) -> bool:
    """Whether `value` takes at most `limit` bytes of UTF-8."""
    if value.isascii():
        return len(value) <= limit
    return len(value) <= limit and len(value.encode("utf-8", "surrogatepass")) <= limit


def is_server_name(value: str) -> bool:
    """Whether `value` follows the server name grammar."""
    return _SERVER_NAME.fullmatch(value) is not None


def split_server_name(value: str) -> ServerName:
    """Host and port of a server name; raises invalid_param."""
    if not is_server_name(value):
        raise invalid_param(f"{value[:300]!r} is not a server name")
    if value.startswith("["):
        host, _, rest = value[1:].partition("]")
        return ServerName(host, int(rest[1:]) if rest else None, True)
    host, _, port = value.partition(":")
    return ServerName(host, int(port) if port else None, False)


def is_user_id(value: object) -> bool:
    """Whether `value` is a user id; the historical localparts that federation must accept are included."""
    return isinstance(value, str) and _USER_ID.fullmatch(value) is not None and fits(value)


def is_compliant_user_id(value: str) -> bool:
    """Whether a user id may be shown outside of events: localpart not empty and within U+0021 to U+007E."""
    match = _USER_ID.fullmatch(value)
    return match is not None and fits(value) and _COMPLIANT_LOCALPART.fullmatch(match[1]) is not None


def is_valid_localpart_new(localpart: str) -> bool:
    """Whether a new user may have this localpart (a-z 0-9 . _ = - / +)."""
    return _NEW_LOCALPART.fullmatch(localpart) is not None


def is_room_id(value: object) -> bool:
    """Whether `value` is a room id of some room version, with or without a domain."""
    return isinstance(value, str) and _ROOM_ID.fullmatch(value) is not None and fits(value)


def is_room_alias(value: object) -> bool:
    """Whether `value` is a room alias."""
    return isinstance(value, str) and _ROOM_ALIAS.fullmatch(value) is not None and fits(value)


def is_event_id(value: object) -> bool:
    """Whether `value` is an event id of some room version."""
    return isinstance(value, str) and _EVENT_ID.fullmatch(value) is not None and fits(value)


def is_room_version_id(value: object) -> bool:
    """Whether `value` has the form of a room version (it need not be a known one)."""
    return isinstance(value, str) and _ROOM_VERSION.fullmatch(value) is not None


def is_opaque_id(value: object) -> bool:
    """The opaque identifier grammar: transaction-like ids, session ids, third-party invite secrets."""
    return isinstance(value, str) and _OPAQUE_ID.fullmatch(value) is not None


def is_namespaced_id(value: object) -> bool:
    """The common namespaced identifier grammar."""
    return isinstance(value, str) and _NAMESPACED_ID.fullmatch(value) is not None


def parse_user_id(value: object) -> UserId:
    """`@localpart:server` taken apart; raises invalid_param."""
    match = _USER_ID.fullmatch(value) if isinstance(value, str) else None
    if match is None or not fits(match[0]):
        raise invalid_param(f"{_shown(value)} is not a user id")
    return UserId(match[1], match[2])


def parse_room_alias(value: object) -> RoomAlias:
    """`#localpart:server` taken apart; raises invalid_param."""
    match = _ROOM_ALIAS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not fits(match[0]):
        raise invalid_param(f"{_shown(value)} is not a room alias")
    return RoomAlias(match[1], match[2])


def parse_room_id(value: object) -> str:
    """The room id itself; raises invalid_param. Room ids are opaque: no server is derived from them."""
    if not isinstance(value, str) or not is_room_id(value):
        raise invalid_param(f"{_shown(value)} is not a room id")
    return value


def parse_event_id(value: object) -> str:
    """The event id itself; raises invalid_param."""
    if not isinstance(value, str) or not is_event_id(value):
        raise invalid_param(f"{_shown(value)} is not an event id")
    return value


def parse_mxc(value: object) -> MediaUri:
    """`mxc://server/media_id` taken apart; raises invalid_param."""
    if isinstance(value, str) and value.startswith("mxc://"):
        server, _, media_id = value[6:].partition("/")
        if is_server_name(server) and _MEDIA_ID.fullmatch(media_id):
            return MediaUri(server, media_id)
    raise invalid_param(f"{_shown(value)} is not a media URI")


def server_of(identifier: str) -> str:
    """The server name in a valid user id, room alias or old event id; empty where there is none."""
    return identifier.partition(":")[2]


def _shown(value: object) -> str:
    return repr(value)[:300]
