# SPDX-License-Identifier: Apache-2.0
"""`parley db`: which migrations a database has, and applying those it lacks."""

import argparse
import sys

from homeserver.cli.read import read
from storage.db import open_database
from storage.faults import StorageError
from storage.migrate import migrate, status


def database(given: argparse.Namespace) -> int:
    """Run `db status` or `db migrate`."""
    config = read(given.config)
    if config is None:
        return 2
    try:
        found = open_database(config.database_url)
        if given.action == "migrate":
            applied = migrate(found, report=print)
            print(f"{len(applied)} migrations applied" if applied else "Nothing to do")
            return 0
        now = status(found)
    except StorageError as error:
        print(error.reason, file=sys.stderr)
        return 1
    print(f"{len(now.applied)} migrations applied" + (f", newest {now.applied[-1]:04d}" if now.applied else ""))
    for name in now.pending:
        print(f"waiting: {name}")
    return 0
