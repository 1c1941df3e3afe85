# SPDX-License-Identifier: Apache-2.0
"""`parley init`: a configuration file and a signing key for a new server."""

import argparse
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from homeserver.config.load import ConfigError, parse
from homeserver.config.template import template
from homeserver.protocol.signing import SigningKey


def init(given: argparse.Namespace) -> int:
    """Write DIR/homeserver.yaml and DIR/signing.key; touches nothing when either is there or something is wrong."""
    folder = Path(given.data)
    file, key = folder / "homeserver.yaml", folder / "signing.key"
    for present in (file, key):
        if present.exists():
            print(f"{present} is there already; nothing was changed", file=sys.stderr)
            return 1
    text = template(_values(given))
    try:
        config = parse(text, str(file), folder.resolve(), {})
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    write_key(key)
    file.write_text(text, encoding="utf-8")
    print(f"Wrote {file} and {key} for {config.server_name}.")
    print(f"Start the server with: parley run -c {file}")
    return 0


def _values(given: argparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = {
        "server_name": given.server_name,
        "data_dir": ".",
        "listeners": [{"port": given.port, "bind": given.bind, "serve": ["client", "federation", "web"]}],
    }
    if given.database:
        values["database"] = {"url": given.database}
    if given.open_registration:
        values["registration"] = {"enabled": True, "guests": True}
        values["passwords"] = {"minimum_length": 1}
    if given.no_rate_limits:
        values["rate_limits"] = {"enabled": False}
    return values


def write_key(file: Path) -> SigningKey:
    """Make a signing key that only its owner can read."""
    key = SigningKey.from_seed("a_" + secrets.token_hex(2), secrets.token_bytes(32))
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(key.line())
    return key
