# SPDX-License-Identifier: Apache-2.0
"""The command line: what `python -m homeserver` and `parley` understand."""

import argparse
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = argparse.ArgumentParser(prog="parley", description="Parley, a Matrix homeserver.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="write a configuration and a signing key")
    init.add_argument("--server-name", required=True, metavar="NAME", help="the part of user ids after the colon")
    init.add_argument("--data", required=True, metavar="DIR", help="the folder for homeserver.yaml and all data")
    init.add_argument("--port", type=int, default=8008, metavar="N", help="the port to listen on (8008)")
    init.add_argument("--bind", default="127.0.0.1", metavar="ADDR", help="the address to listen on (127.0.0.1)")
    init.add_argument("--database", metavar="URL", help="sqlite:///FILE or postgresql://… (a SQLite file in DIR)")
    init.add_argument(
        "--open-registration", action="store_true", help="let anybody, guests too, make an account, with any password"
    )
    init.add_argument("--no-rate-limits", action="store_true", help="for tests and benchmarks only")

    run = commands.add_parser("run", help="start the server")
    check = commands.add_parser("check-config", help="say what is wrong with a configuration")
    register = commands.add_parser("register", help="make an account; also while the server runs")
    register.add_argument("--user", required=True, metavar="NAME", help="the part of the user id before the colon")
    register.add_argument("--admin", action="store_true", help="make it a server administrator")
    register.add_argument(
        "--password-file", metavar="FILE", help="read the password from FILE (- for standard input) instead of asking"
    )
    link = commands.add_parser("setup-link", help="make a new one-time link for the first administrator")
    db = commands.add_parser("db", help="look at or migrate the database")
    actions = db.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="show which migrations were applied")
    migrate = actions.add_parser("migrate", help="apply the migrations that are missing")
    federation = commands.add_parser("federation", help="see how other servers are found, and how they do")
    steps = federation.add_subparsers(dest="action", required=True, metavar="ACTION")
    examine = steps.add_parser("check", help="explain step by step how a server is found and talked with")
    destinations = steps.add_parser("status", help="show what waits for which server; the server must run")
    retry = steps.add_parser("retry", help="try a server again now; the server must run")
    for command in (examine, retry):
        command.add_argument("name", metavar="NAME", help="the server's name")
    for command in (examine, destinations, retry):
        command.add_argument("-c", "--config", required=True, metavar="FILE", help="homeserver.yaml")
    for command in (run, check, register, link, status, migrate):
        command.add_argument("-c", "--config", required=True, metavar="FILE", help="homeserver.yaml")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: 0, 1 for a failure, 2 for wrong use or a wrong configuration."""
    given = parser().parse_args(arguments)
    # Each command imports what it needs: `--help` and `check-config` must not pay for the server.
    match given.command:
        case "init":
            from homeserver.cli.init import init

            return init(given)
        case "run":
            from homeserver.cli.run import run

            return run(given)
        case "check-config":
            from homeserver.cli.read import read

            return 0 if read(given.config) is not None else 2
        case "register" | "setup-link":
            from homeserver.cli.accounts import accounts

            return accounts(given)
        case "federation":
            from homeserver.cli.federation import federation

            return federation(given)
    from homeserver.cli.database import database

    return database(given)


if __name__ == "__main__":
    sys.exit(main())
