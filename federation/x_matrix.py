# SPDX-License-Identifier: Apache-2.0
"""How a request says which server sends it: the X-Matrix header and what its signature covers.

https://spec.matrix.org/v1.19/server-server-api/#request-authentication
"""

import re
from typing import Any

import attrs

from homeserver.protocol import canonical_json
from homeserver.protocol.ids import is_server_name
from homeserver.protocol.signing import Signer

_PART = re.compile(r'\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
LONGEST = 4_096


@attrs.frozen
class Claim:
    """Who says to have sent a request, to whom (None in old servers' requests), with which key and signature."""

    origin: str
    destination: str | None
    key_id: str
    signature: str


def signed(method: str, uri: str, origin: str, destination: str, content: object, *, has_content: bool) -> bytes:
    """What the signature covers; `uri` is the request's path with its query, as sent."""
    value: dict[str, Any] = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    if has_content:
        value["content"] = content
    return canonical_json.encode(value)


def header(signer: Signer, method: str, uri: str, destination: str, content: object, *, has_content: bool) -> str:
    """The Authorization header of a request of ours."""
    message = signed(method, uri, signer.server_name, destination, content, has_content=has_content)
    return (
        f'X-Matrix origin="{signer.server_name}",destination="{destination}",'
        f'key="{signer.key.key_id}",sig="{signer.sign(message)}"'
    )


def parse(value: str) -> Claim | None:
    """The claim of an Authorization header; None for what is none."""
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "x-matrix" or len(value) > LONGEST:
        return None
    found: dict[str, str] = {}
    at = 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            return None
        quoted = part.group(2)
        found[part.group(1).lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else part.group(3)
        at = part.end()
    origin, key_id, signature = found.get("origin"), found.get("key"), found.get("sig")
    if not origin or not key_id or not signature or not is_server_name(origin):
        return None
    return Claim(origin, found.get("destination"), key_id, signature)
