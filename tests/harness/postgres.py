# SPDX-License-Identifier: Apache-2.0
"""Fresh PostgreSQL databases for tests, on the server that the test run started or on one of this process's own."""

import atexit
import os
import uuid
from functools import cache

import psycopg2

from tests.harness.servers import Postgres

VARIABLE = "PARLEY_TEST_POSTGRESQL"


@cache
def server() -> str:
    """The address of a server's database `postgres`; the server is started when first asked for."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    own = Postgres(durable=False)
    atexit.register(own.stop)
    return own.url("postgres")


def url(name: str) -> str:
    """The address of a database of that name."""
    return server().replace("/postgres?", f"/{name}?")


def create(template: str | None = None) -> str:
    """Make a database, a copy of `template` (to which nobody may be connected) or empty; give its address."""
    name = f"t{uuid.uuid4().hex[:12]}"
    connection = psycopg2.connect(server())
    connection.autocommit = True
    copy = f" TEMPLATE {template} STRATEGY file_copy" if template else ""
    connection.cursor().execute(f"CREATE DATABASE {name}{copy}")
    connection.close()
    return url(name)
