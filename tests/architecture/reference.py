# SPDX-License-Identifier: Apache-2.0
"""The declared endpoints beside the specification's table, and the page that lists them."""

import csv
import tempfile
from functools import cache
from pathlib import Path

import attrs
from twisted.internet import reactor

from homeserver import app
from homeserver.config.load import parse
from homeserver.http.endpoint import Anyone, AppService, Bound, MaybeUser, User, bind
from homeserver.protocol.signing import SigningKey
from homeserver.runtime import Runtime
from tests.harness import spec

WHO = {Anyone: "anybody", MaybeUser: "anybody, a user", User: "user", AppService: "application service"}


@attrs.frozen
class Specified:
    """One endpoint of the specification."""

    method: str
    path: str
    auth: str
    guests: bool
    limited: bool
    since: str
    deprecated: bool
    module: str


@cache
def declared() -> tuple[Bound, ...]:
    """Every endpoint of the client and web faces."""
    with tempfile.TemporaryDirectory() as folder:
        config = parse("server_name: parley.test", "test.yaml", Path(folder), {})
        server = app.build(config, Runtime(reactor), SigningKey.from_seed("a", bytes(32)))
    return tuple(bound for face in ("client", "web", "metrics") for page in server.pages[face] for bound in bind(page))


def specified() -> list[Specified]:
    """The client-server API's endpoints; raises FileNotFoundError without the specification's data."""
    place = spec.folder()
    if place is None:
        raise FileNotFoundError("the specification's data is not here; set PARLEY_SPEC")
    with (place / "endpoints.csv").open(encoding="utf-8", newline="") as file:
        return [
            Specified(
                row["method"],
                row["path"].strip(),
                row["auth"],
                row["guests"] == "y",
                row["rate_limited"] == "y",
                row["since"],
                bool(row["deprecated"]),
                row["module"].rpartition("/")[2].strip(),
            )
            for row in csv.DictReader(file)
            if row["api"] == "client-server" and not row["removed_in"]
        ]


def served() -> dict[tuple[str, str], Bound]:
    """The declared endpoints by method and plain path."""
    return {(b.declaration.method, spec.plain(path)): b for b in declared() for path in b.declaration.paths}


def missing() -> list[Specified]:
    """What the specification has and Parley has not."""
    have = served()
    return [one for one in specified() if (one.method, spec.plain(one.path)) not in have]


def endpoints_page() -> str:
    """The page of endpoints in Markdown."""
    named = {(one.method, spec.plain(one.path)) for one in specified()}
    lines = [
        "# Endpoints",
        "",
        "Generated from the declarations in `homeserver/client_api/` by `make docs`. Every `/_matrix/client/v3` path",
        "answers under `r0` too, every `/_matrix/media/v3` path under `r0` and `v1`. *Limit* is the bucket of",
        "`rate_limits` that a call draws from.",
        "",
        "| Method | Path | Who | Guests | Limit | Page |",
        "|---|---|---|---|---|---|",
    ]
    for bound in sorted(declared(), key=lambda b: (b.path, b.declaration.method)):
        one = bound.declaration
        guests = "yes" if one.guests else ""
        known = "" if (one.method, spec.plain(bound.path)) in named else " *"
        who = WHO.get(bound.caller, bound.caller.__name__)
        page = bound.name.partition(".")[0]
        lines.append(f"| {one.method} | `{bound.path}`{known} | {who} | {guests} | {one.limit or ''} | {page} |")
    lines += ["", "\\* not in the specification's table of stable endpoints.", "", "## Not there yet", ""]
    gaps = missing()
    lines += [f"Of {len(specified())} endpoints of the client-server API these {len(gaps)} are missing.", ""]
    if gaps:
        lines += ["| Method | Path | Part of the specification |", "|---|---|---|"]
        lines += [f"| {one.method} | `{one.path}` | {one.module} |" for one in gaps]
        lines.append("")
    return "\n".join(lines)
