# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: Parley and its peer, alternately, on the same machine in the same run; medians and ratios."""

from __future__ import annotations

import argparse
import asyncio
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median

import attrs

from benchmarks.client_scenarios import CLIENT_SCENARIOS, SIZES, ClientSizes
from benchmarks.disk import bytes_per_event
from benchmarks.scenarios import SCENARIOS, Figures, Sizes
from tests.harness.servers import SYNAPSE_VERSION, Postgres, Server, memory_mb, parley, synapse

SMALL = {
    "Parley": Sizes(2000, 20, 50, 100, 300, 4000, 4000),
    "Synapse": Sizes(200, 20, 50, 10, 300, 600, 600),
}
TINY = {
    "Parley": Sizes(200, 20, 10, 10, 20, 300, 300),
    "Synapse": Sizes(100, 20, 10, 5, 20, 300, 300),
}
FULL = {
    "Parley": Sizes(10_000, 20, 50, 300, 300, 10_000, 20_000),
    "Synapse": Sizes(500, 20, 50, 30, 300, 10_000, 5000),
}
Maker = Callable[[Path, Postgres | None], Server]
MAKERS: dict[str, Maker] = {"Parley": parley, "Synapse": synapse}


@attrs.frozen
class Run:
    """What to measure: how much of everything, and which scenarios."""

    sizes: dict[str, Sizes]
    clients: ClientSizes
    only: str

    def scenarios(self, server: str) -> list[tuple[str, Callable[[Server], Awaitable[Figures]]]]:
        """The scenarios by name, in order."""
        own, clients = self.sizes[server], self.clients
        found: list[tuple[str, Callable[[Server], Awaitable[Figures]]]]
        found = [(one.__name__, partial(one, sizes=own)) for one in SCENARIOS]
        found += [(one.__name__, partial(one, sizes=clients)) for one in CLIENT_SCENARIOS]
        return [(name, scenario) for name, scenario in found if self.only in name]


async def _awaited(figures: Awaitable[Figures]) -> Figures:
    return await figures


def one_round(make: Maker, folder: Path, postgres: Postgres | None, what: Run) -> Figures:
    """All figures of one server, from an empty database."""
    server = make(folder, postgres)
    server.start()
    server.stop()
    figures: Figures = {"start-up to first answer: wall ms": server.start() * 1000}
    time.sleep(2)
    figures["memory idle: MB"] = memory_mb(server.pid())
    for name, scenario in what.scenarios(server.name):
        began = time.perf_counter()
        figures |= asyncio.run(_awaited(scenario(server)))
        print(f"  {server.name} {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    figures["memory after the load: MB"] = memory_mb(server.pid())
    server.stop()
    return figures


def disk_round(make: Maker, folder: Path, postgres: Postgres | None, sizes: dict[str, Sizes]) -> Figures:
    """Bytes per event in rooms of three and of ten, each from an empty database."""
    figures: Figures = {}
    for members in (3, 10):
        server = make(folder.with_name(f"{folder.name}-disk{members}"), postgres)
        figures |= bytes_per_event(server, sizes[server.name], members)
    return figures


def table(name: str, rounds: dict[str, list[Figures]]) -> str:
    """A Markdown table of medians and ratios."""
    lines = [f"### {name}", "", "| | Parley | Synapse | ratio |", "|---|---|---|---|"]
    for key in rounds["Parley"][0]:
        ours = median(figures[key] for figures in rounds["Parley"])
        if rounds.get("Synapse"):
            peer = median(figures[key] for figures in rounds["Synapse"])
            lines.append(f"| {key} | {ours:,.2f} | {peer:,.2f} | {peer / ours if ours else 0:,.1f} |")
        else:
            lines.append(f"| {key} | {ours:,.2f} | - | - |")
    return "\n".join(lines) + "\n"


def measure_on(database: str, options: argparse.Namespace, what: Run) -> str:
    """Alternate the servers on one kind of database."""
    postgres = Postgres() if database == "PostgreSQL" else None
    home = Path(tempfile.mkdtemp(prefix="parley-bench-"))
    names = ["Parley"] if options.alone else ["Parley", "Synapse"]
    rounds: dict[str, list[Figures]] = {name: [] for name in names}
    try:
        for number in range(options.rounds):
            for name in names:
                figures = one_round(MAKERS[name], home / f"{name}{number}", postgres, what)
                if not options.only or "disk" in options.only:
                    figures |= disk_round(MAKERS[name], home / f"{name}{number}", postgres, what.sizes)
                rounds[name].append(figures)
    finally:
        if postgres:
            postgres.stop()
        shutil.rmtree(home, ignore_errors=True)
    return table(database, rounds)


def main() -> None:
    """Parse the options, run, print Markdown."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--size", choices=["tiny", "small", "full"], default="small")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--database", choices=["SQLite", "PostgreSQL", "both"], default="both")
    parser.add_argument("--alone", action="store_true", help="Parley without its peer")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    options = parser.parse_args()
    sizes = {"tiny": TINY, "small": SMALL, "full": FULL}[options.size]
    what = Run(sizes, SIZES[options.size], options.only)
    today = time.strftime("%Y-%m-%d")
    print(f"Python {platform.python_version()}, {platform.machine()}, Synapse {SYNAPSE_VERSION}, {today}\n")
    for database in ("SQLite", "PostgreSQL"):
        if options.database in (database, "both"):
            print(measure_on(database, options, what), flush=True)


if __name__ == "__main__":
    main()
