# SPDX-License-Identifier: Apache-2.0
"""The specification's OpenAPI description as schemathesis gets it: with ids that exist, and what any operation may say.

An answer of 4xx that the description leaves out must be the standard error object. The two paths that end in a space
are other operations of the same path, and calls that end a session or an account would end the run: each is a
description of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from tests.harness import spec

Json = dict[str, Any]
ERROR: Json = {
    "type": "object",
    "properties": {"errcode": {"type": "string"}, "error": {"type": "string"}},
    "required": ["errcode", "error"],
}
UIA: Json = {"type": "object", "required": ["flows", "session"]}
LATER = ("/_matrix/client/v1/auth_metadata", "/login/sso/redirect")
FINAL = (
    "/_matrix/client/v3/logout",
    "/_matrix/client/v3/logout/all",
    "/_matrix/client/v3/account/deactivate",
    "/_matrix/client/v3/account/password",
    "/_matrix/client/v3/delete_devices",
    "/_matrix/client/v3/devices/{deviceId}",
    "/_matrix/client/v1/admin/lock/{userId}",
    "/_matrix/client/v1/admin/suspend/{userId}",
)
WAITS = ("timeout", "timeout_ms")


def whole() -> Json:
    """The description as the specification has it."""
    place = spec.folder()
    if place is None:
        raise FileNotFoundError("the specification's data is not here; set PARLEY_SPEC")
    found: Json = orjson.loads((place / "bundle" / "client-server.json").read_bytes())
    return found


def is_final(path: str) -> bool:
    """Whether a call may end the session or the account that makes it."""
    return path in FINAL


def parts(known: Mapping[str, list[str]]) -> dict[str, Json]:
    """Three descriptions by name, ready to use; `known` has values of parameters that exist on the server."""

    def ordinary(path: str) -> bool:
        return not path.endswith(" ") and not is_final(path)

    return {
        "ordinary": _part(known, ordinary),
        "spaces": _part(known, lambda path: path.endswith(" ")),
        "final": _part(known, is_final),
    }


def _part(known: Mapping[str, list[str]], wanted: Callable[[str], bool]) -> Json:
    document = whole()
    paths = {
        path.strip(): methods
        for path, methods in document["paths"].items()
        if wanted(path) and not any(part in path for part in LATER)
    }
    for path, methods in paths.items():
        for operation in methods.values():
            _prepare(operation, known, path)
    document["paths"] = paths
    document["servers"] = [{"url": "/"}]
    return document


def _prepare(operation: Json, known: Mapping[str, list[str]], path: str) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in WAITS:
            parameter["schema"] = {"type": "integer", "minimum": 0, "maximum": 50}
        elif parameter["name"] in known:
            _offer(parameter, known[parameter["name"]])
    answers = operation["responses"]
    refusal = {"description": "Refused", "content": {"application/json": {"schema": ERROR}}}
    for status, answer in answers.items():
        if status.startswith("4"):
            _refused(answer)
    answers.setdefault("401", {"description": "Refused", "content": {"application/json": {"schema": ERROR}}})
    answers["4XX"] = refusal
    for schema in _schemas(answers.values()):
        if "oneOf" in schema:
            # The state of a key is an event "or" any object: what is an event is always both.
            schema["anyOf"] = schema.pop("oneOf")


def _offer(parameter: Json, values: list[str]) -> None:
    """Let a parameter be one of the values that exist, or anything else that it may be."""
    for key in ("example", "examples"):
        parameter.pop(key, None)
    schema = copy.deepcopy(parameter.get("schema", {"type": "string"}))
    for key in ("example", "examples"):
        schema.pop(key, None)
    parameter["schema"] = {"anyOf": [{"type": "string", "enum": values}, schema]}


def _refused(answer: Json) -> None:
    """What a documented refusal says, or the standard error: many descriptions forget one."""
    content = answer.setdefault("content", {})
    schema = content.get("application/json", {}).get("schema")
    content["application/json"] = {"schema": {"anyOf": [ERROR, UIA, *([schema] if schema else [])]}}


def _schemas(answers: Iterable[Json]) -> Iterable[Json]:
    for answer in answers:
        for content in answer.get("content", {}).values():
            if "schema" in content:
                yield content["schema"]
