# SPDX-License-Identifier: Apache-2.0
"""How a request's body becomes the value that an endpoint asked for."""

from collections.abc import Callable

import msgspec
import orjson

from homeserver.http.endpoint import Upload
from homeserver.http.incoming import Incoming
from homeserver.protocol.errors import MatrixError, bad_json, not_json

# orjson reads 1024 levels but writes 254: deeper values could be stored and never be sent again.
MAX_DEPTH = 200

Parse = Callable[[Incoming], object]


def parser(body: type, optional: bool) -> Parse:
    """The function that reads a request's body as `body`: dict, list, bytes, Upload or a msgspec.Struct."""
    if body is Upload:
        return lambda incoming: Upload(incoming.file, incoming.size, incoming.header("content-type"))
    if body is bytes:
        return lambda incoming: incoming.file.read()
    if body in (dict, list):
        return _plain(body, optional)
    if issubclass(body, msgspec.Struct):
        return _typed(body, optional)
    raise TypeError(f"a body cannot be read as {body}")


def _plain(want: type, optional: bool) -> Parse:
    def parse(incoming: Incoming) -> object:
        raw = incoming.file.read()
        if optional and not raw:
            return want()
        value = read_json(raw)
        if type(value) is not want:
            raise bad_json("The body must be a JSON object" if want is dict else "The body must be a JSON array")
        return value

    return parse


def _typed(want: type[msgspec.Struct], optional: bool) -> Parse:
    decode = msgspec.json.Decoder(want).decode

    def parse(incoming: Incoming) -> object:
        raw = incoming.file.read()
        if optional and not raw:
            raw = b"{}"
        try:
            if _might_be_deep(raw):
                read_json(raw)
            return decode(raw)
        except msgspec.ValidationError as error:
            raise bad_json(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _malformed(raw) from None

    return parse


def read_json(raw: bytes) -> object:
    """The value of a JSON text; raises M_NOT_JSON, or M_BAD_JSON for one that is nested too deeply."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _malformed(raw) from None
    if _might_be_deep(raw) and _depth(value) > MAX_DEPTH:
        raise bad_json("The body is nested too deeply")
    return value


def _malformed(raw: bytes) -> MatrixError:
    return not_json("The body is not valid JSON" if raw else "The body is empty, not JSON")


def _might_be_deep(raw: bytes) -> bool:
    return len(raw) > MAX_DEPTH and raw.count(b"{") + raw.count(b"[") > MAX_DEPTH


def _depth(value: object) -> int:
    """How many objects and arrays stand inside one another."""
    depth, level = 0, [value]
    while level:
        inside: list[object] = []
        for one in level:
            if type(one) is dict:
                inside += one.values()
            elif type(one) is list:
                inside += one
        level = [one for one in inside if type(one) in (dict, list)]
        depth += 1
    return depth
