# SPDX-License-Identifier: Apache-2.0
"""Runs the suites and ends with one line that sums them: `N passed, N failed`."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]

# Suites whose tests depend on the database: run once more on PostgreSQL.
ON_BOTH = ("storage", "http", "accounts", "rooms", "userdata", "e2e", "sync", "media", "appservices", "federation")
# Suites that start servers of their own: one after the other, they measure and kill.
ALONE = ("clients", "faults", "fuzz", "interop")


@attrs.frozen
class Suite:
    """One call of trial."""

    title: str
    modules: tuple[str, ...]
    environment: dict[str, str]
    jobs: int = 2


@attrs.frozen
class Result:
    passed: int
    failed: int
    skipped: int


def present(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the test packages that hold tests."""
    return tuple(f"tests.{name}" for name in names if any((ROOT / "tests" / name).glob("test_*.py")))


def suites(postgres: str, long: bool) -> list[Suite]:
    """What is to be run."""
    folders = sorted(path.name for path in (ROOT / "tests").iterdir() if (path / "__init__.py").exists())
    plain = present(tuple(name for name in folders if name not in ALONE))
    common = {"PARLEY_TEST_LONG": "1" if long else "", "PARLEY_TEST_POSTGRESQL": postgres}
    on_postgresql = {**common, "PARLEY_TEST_DATABASE": "postgresql"}
    found = [Suite("on SQLite", plain, dict(common)), Suite("on PostgreSQL", present(ON_BOTH), on_postgresql)]
    found += [Suite(module, (module,), common, 1) for module in present(ALONE)]
    return [suite for suite in found if suite.modules]


def run(suite: Suite) -> Result:
    """Run one suite, showing its output; counts a run that died, or ran nothing, as a failure."""
    print(f"\n== {suite.title}: {' '.join(suite.modules)}", flush=True)
    command = [sys.executable, "-m", "twisted.trial", "--reporter=text"]
    command += [f"--jobs={suite.jobs}"] if suite.jobs > 1 else []
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *suite.modules],
        cwd=ROOT,
        env={**os.environ, **suite.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    tail = ""
    for line in process.stdout:
        sys.stdout.write(line)
        sys.stdout.flush()
        if re.match(r"(PASSED|FAILED)\b", line):
            tail = line
    status = process.wait()
    counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", tail)}
    failed = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0)
    passed = counts.get("successes", 0) + counts.get("expectedFailures", 0)
    if not failed and (status or not passed):
        failed = 1
    print(f"== {suite.title}: {passed} passed, {failed} failed in {time.monotonic() - began:.0f} s", flush=True)
    return Result(passed, failed, counts.get("skips", 0))


def borne_out(record: Path) -> Result:
    """Whether the tests just run prove the operations that tests/architecture/proofs.json says they prove."""
    from tests.architecture import proofs
    from tests.harness import spec

    if spec.folder() is None or not record.exists():
        return Result(0, 0, 1)
    with record.open(encoding="utf-8") as lines:
        wrong = proofs.stale(lines)
    if wrong:
        print("\n== proofs that no longer hold (make proofs renews them)", *wrong, sep="\n")
    return Result(0, 1, 0) if wrong else Result(1, 0, 0)


def need_servers(clients: bool) -> None:
    """Install PostgreSQL, clamd, and npm for the clients' tests, when they are missing and we may; else say how."""
    missing = [] if _has_postgresql() else ["postgresql", "postgresql-client", "libpq-dev"]
    if not shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        missing.append("clamav-daemon")
    if clients and not shutil.which("npm"):
        missing.append("npm")
    if not missing:
        return
    line = "apt-get install -y --no-install-recommends " + " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SystemExit(f"The tests need PostgreSQL 15 or newer, clamd, and npm: {line}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
    subprocess.run(line.split(), check=True, env=quiet, stdout=subprocess.DEVNULL)


def _has_postgresql() -> bool:
    if not shutil.which("pg_config") or not shutil.which("psql"):
        return False
    folder = subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
    return os.access(f"{folder}/initdb", os.X_OK)


def main(arguments: list[str]) -> int:
    """`--long` runs every matrix in full; other arguments are modules to run instead of everything."""
    from tests.harness import spec

    if spec.folder() is None:
        print("The specification's data is not here: answers and endpoints are not checked against it (PARLEY_SPEC).")
    long = "--long" in arguments
    only = tuple(argument for argument in arguments if not argument.startswith("-"))
    need_servers(clients=not only)
    from tests.harness.servers import Postgres

    postgres = Postgres(durable=False)
    record = Path(tempfile.mkdtemp(prefix="parley-run-")) / "requests"
    try:
        wanted = suites(postgres.url("postgres"), long)
        if only:
            wanted = [Suite("chosen", only, wanted[0].environment)]
        else:
            wanted[0].environment["PARLEY_PROOFS"] = str(record)
        results = [run(suite) for suite in wanted]
        results += [] if only else [borne_out(record)]
    finally:
        postgres.stop()
        shutil.rmtree(record.parent, ignore_errors=True)
    passed, failed, skipped = (sum(getattr(r, n) for r in results) for n in ("passed", "failed", "skipped"))
    print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
