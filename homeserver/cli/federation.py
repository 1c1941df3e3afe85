# SPDX-License-Identifier: Apache-2.0
"""`parley federation`: how another server is found, how those known do, and to try one again now."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from homeserver.cli.accounts import ask_server
from homeserver.cli.read import read
from homeserver.config.model import Config


def federation(given: argparse.Namespace) -> int:
    """Run one of the commands."""
    config = read(given.config)
    if config is None:
        return 2
    if given.action == "check":
        return _check(config, given.name)
    said = ask_server(config, f"federation-{given.action}", {"server": given.name} if given.action == "retry" else {})
    if said is None:
        print("the server does not run", file=sys.stderr)
        return 1
    if "errcode" in said:
        print(
            "this server does not federate" if said["errcode"] == "M_UNRECOGNIZED" else said["error"], file=sys.stderr
        )
        return 1
    if given.action == "retry":
        print(f"{given.name} is tried again" if said["known"] else f"Nothing waits for {given.name}")
        return 0
    for one in said["destinations"]:
        print(line(one))
    return 0


def line(one: dict[str, Any]) -> str:
    """A destination in a line."""
    text = f"{one['server']}: {one['state']}, {one['waiting']} waiting, {one['transactions']} transactions sent"
    if one["behind"]:
        text += ", catching up"
    if "failing_since" in one:
        since, until = (datetime.fromtimestamp(one[key] / 1000, UTC) for key in ("failing_since", "retry_at"))
        text += f", failing since {since:%Y-%m-%d %H:%M:%S}, next try {until:%H:%M:%S}: {one['last_error']}"
    return text


def _check(config: Config, name: str) -> int:
    from twisted.internet import reactor

    from federation.check import Examiner
    from homeserver.compose.federation import finding
    from homeserver.runtime import Runtime

    runtime = Runtime(reactor)
    transport, resolver = finding(config, runtime)
    result = [1]

    async def work() -> None:
        try:
            result[0] = 0 if await Examiner(runtime, resolver, transport).examine(name, print) else 1
        finally:
            runtime.reactor.stop()

    runtime.reactor.callWhenRunning(runtime.background, "federation check", work())
    runtime.reactor.run()
    return result[0]
