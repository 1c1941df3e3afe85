# SPDX-License-Identifier: Apache-2.0
"""Whether an answer has the shape that the specification's data gives it."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import orjson

REPOSITORY = Path(__file__).resolve().parents[2]


@cache
def folder() -> Path | None:
    """The specification's data: PARLEY_SPEC, else beside the repository; None where it is absent."""
    found = Path(os.environ.get("PARLEY_SPEC", REPOSITORY.parent / "shared" / "spec"))
    return found if (found / "bundle" / "client-server.json").is_file() else None


def plain(path: str) -> str:
    """A path without the names of its variables and the slash at its end."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/")


@cache
def _operations() -> dict[tuple[str, str], dict[str, Any]]:
    place = folder()
    if place is None:
        return {}
    document = orjson.loads((place / "bundle" / "client-server.json").read_bytes())
    return {
        (method.upper(), plain(path)): operation
        for path, methods in document["paths"].items()
        if not path.endswith(" ")
        for method, operation in methods.items()
        if isinstance(operation, dict) and "responses" in operation
    }


@cache
def _validator(method: str, path: str, status: int) -> jsonschema.Draft202012Validator | None:
    operation = _operations().get((method, plain(path)))
    if operation is None:
        return None
    content = operation["responses"].get(str(status), {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is not None and "oneOf" in schema:
        # The state of a key is an event "or" any object: what is an event is always both.
        schema = {"anyOf": schema["oneOf"], **{key: value for key, value in schema.items() if key != "oneOf"}}
    return jsonschema.Draft202012Validator(schema) if schema is not None else None


def faults(method: str, path: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer of the endpoint declared as `path`."""
    if status == 401 and isinstance(body, dict) and "flows" in body:
        return [] if isinstance(body.get("session"), str) or len(body) else ["no session"]
    if status >= 400 and not (
        isinstance(body, dict) and isinstance(body.get("errcode"), str) and isinstance(body.get("error"), str)
    ):
        return [f"{status} without errcode and error: {body!r}"]
    validator = _validator(method, path, status)
    if validator is None:
        return []
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}"[:500] for e in validator.iter_errors(body)]
