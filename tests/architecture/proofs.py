# SPDX-License-Identifier: Apache-2.0
"""Which test proves each operation of the client-server API: `python -m tests.architecture.proofs` runs and records.

The harness notes every request of every test in the file that PARLEY_PROOFS names. A test proves an operation when the
operation succeeds in it; of several the one is taken that does least beside it. A proof that still holds stays.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import attrs
import orjson

from tests.architecture import reference
from tests.harness import spec

FILE = Path(__file__).with_name("proofs.json")
SUITES = ("accounts", "appservices", "e2e", "federation", "http", "media", "rooms", "sync", "userdata")
LATER = {
    "/_matrix/client/v1/auth_metadata": "OAuth 2.0",
    "{account_management_uri}": "OAuth 2.0",
    "{authorization_endpoint}": "OAuth 2.0",
    "{device_authorization_endpoint}": "OAuth 2.0",
    "{registration_endpoint}": "OAuth 2.0",
    "{revocation_endpoint}": "OAuth 2.0",
    "{token_endpoint}": "OAuth 2.0",
    "/_matrix/client/v3/login/sso/redirect": "Single sign-on",
    "/_matrix/client/v3/login/sso/redirect/{idpId}": "Single sign-on",
}
"""Operations that a later issue brings, and its subject."""
REFUSED = {
    "/_matrix/client/v3/account/3pid/bind": "this server works with no identity server",
    "/_matrix/client/v3/account/3pid/msisdn/requestToken": "it sends no text messages",
    "/_matrix/client/v3/account/password/msisdn/requestToken": "it sends no text messages",
    "/_matrix/client/v3/register/msisdn/requestToken": "it sends no text messages",
}
"""Operations that are refused here with the specification's error, and why; a refusal proves them."""
CHANCE = (
    "test_hostile",
    "test_odd_requests",
    "test_bad_input",
    "test_adding_up",
    "test_delivery_properties",
    "test_visibility_model",
    "test_unread_counts",
)
"""Modules that try things at random: what happens there proves little, and may not happen again."""


@attrs.frozen
class Proof:
    """The test in which an operation succeeds, and one in which bad input is refused; "" where there is none."""

    good: str
    bad: str


NONE = Proof("", "")


def name(method: str, path: str) -> str:
    """How an operation is called in the file."""
    return f"{method} {path}"


@cache
def _patterns() -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """Method, path and pattern of each operation; those with fewer variables first."""
    found = [
        (one.method, one.path, re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(one.path)) + "/?"))
        for one in reference.specified()
        if one.path.startswith("/")
    ]
    return tuple(sorted(found, key=lambda entry: (entry[1].count("{"), entry[1])))


@cache
def operation(method: str, path: str) -> str | None:
    """The operation that a request is of."""
    path = re.sub("^/_matrix/client/r0/", "/_matrix/client/v3/", path.partition("?")[0])
    path = re.sub("^/_matrix/media/(r0|v1)/(?!create)", "/_matrix/media/v3/", path)
    for other, template, pattern in _patterns():
        if other == method and pattern.fullmatch(path):
            return name(method, template)
    return None


def recorded(lines: Iterable[str]) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """How often each operation succeeded, and was refused, in each test."""
    good: dict[str, Counter[str]] = defaultdict(Counter)
    bad: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        method, path, status, test = line.rstrip("\n").split("\t")
        called = operation(method, path)
        if called is not None and _is(test):
            (good if int(status) < 400 else bad)[called][test] += 1
    return good, bad


def chosen(seen: Mapping[str, Counter[str]], before: Mapping[str, str]) -> dict[str, str]:
    """The test of each operation: the one before where it holds, else the one that does least beside it."""
    whole: Counter[str] = sum(seen.values(), Counter())
    best = {}
    for called, tests in seen.items():
        kept = before.get(called)
        best[called] = (
            kept if kept in tests else min(tests, key=lambda test: (_by_chance(test), -tests[test] / whole[test], test))
        )
    return best


def _by_chance(test: str) -> bool:
    return test.split(".")[2] in CHANCE


def read() -> dict[str, Proof]:
    """The checked-in proofs."""
    if not FILE.exists():
        return {}
    return {called: Proof(**entry) for called, entry in orjson.loads(FILE.read_bytes()).items()}


def renewed(lines: Iterable[str]) -> dict[str, Proof]:
    """Proofs of every operation that has one, by what a run of the tests recorded."""
    seen, refused = recorded(lines)
    before = read()
    good = chosen(seen, {called: proof.good for called, proof in before.items()})
    bad = chosen(refused, {called: proof.bad for called, proof in before.items()})
    return {called: Proof(good.get(called, ""), bad.get(called, "")) for called in sorted({*good, *bad})}


def unproven() -> list[str]:
    """Operations, except those left to a later issue, that are not served or that no test proves."""
    proofs, wrong = read(), [f"{name(one.method, one.path)}: not served" for one in _due(reference.missing())]
    absent = {(one.method, one.path) for one in reference.missing()}
    for one in _due(reference.specified()):
        called = name(one.method, one.path)
        if (one.method, one.path) in absent:
            continue
        proof = proofs.get(called, NONE)
        if not (proof.bad if one.path in REFUSED else proof.good):
            wrong.append(f"{called}: no test in which it does what it is for; run make proofs")
        wrong += [f"{called}: {test} is gone; run make proofs" for test in _tests(proof) if not _is(test)]
    return wrong


def stale(lines: Iterable[str]) -> list[str]:
    """Proofs that a whole run of the tests did not bear out."""
    good, _ = recorded(lines)
    return [
        f"{called}: {proof.good}" for called, proof in read().items() if proof.good and proof.good not in good[called]
    ]


def _due(operations: Iterable[reference.Specified]) -> list[reference.Specified]:
    return [one for one in operations if one.path not in LATER]


def _tests(proof: Proof) -> list[str]:
    return [test for test in (proof.good, proof.bad) if test]


@cache
def _is(test: str) -> bool:
    """Whether there is a test of this id."""
    module, case, method = test.rsplit(".", 2)
    try:
        return callable(getattr(getattr(import_module(module), case), method))
    except (ImportError, AttributeError):
        return False


def page() -> str:
    """The page of operations in Markdown."""
    proofs, have = read(), reference.served()
    rows = reference.specified()
    lines = [
        "# Operations",
        "",
        "Generated by `make docs` from the specification's table of the client-server API, the declarations in",
        "`homeserver/client_api/` and `tests/architecture/proofs.json`, which `make proofs` renews.",
        f"The table has {len(rows)} rows: the operations of the OpenAPI description, and those that only the text has.",
        "*Proof* is a test in which the operation does what it is for, *Refusal* one in which it refuses bad input.",
        "",
        "| Method | Path | Since | Who | Limit | Proof | Refusal |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        bound = have.get((one.method, spec.plain(one.path)))
        proof = proofs.get(name(one.method, one.path), NONE)
        since = (one.since or "1.0") + (", deprecated" if one.deprecated else "")
        limit = (bound.declaration.limit or "") if bound else ""
        shown = _short(proof.good)
        if one.path in LATER or one.path in REFUSED:
            shown = f"later: {LATER[one.path]}" if one.path in LATER else f"refused: {REFUSED[one.path]}"
        lines.append(
            f"| {one.method} | `{one.path}` | {since} | {one.auth} | {limit} | {shown} | {_short(proof.bad)} |"
        )
    later = [one for one in rows if one.path in LATER]
    lines += ["", "## Left to a later issue", ""]
    lines += [f"- {one.method} `{one.path}`: {LATER[one.path]}" for one in later]
    return "\n".join([*lines, ""])


def _short(test: str) -> str:
    """A test's id as trial takes it, without the package."""
    return f"`{test.removeprefix('tests.')}`" if test else ""


def main(arguments: list[str]) -> int:
    """Run the suites, or read the records given as arguments, and write the proofs."""
    if arguments:
        lines = [line for record in arguments for line in Path(record).read_text(encoding="utf-8").splitlines()]
    else:
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "requests"
            suites = [f"tests.{suite}" for suite in SUITES]
            command = [sys.executable, "-m", "twisted.trial", "--reporter=text", "--jobs=2", *suites]
            subprocess.run(command, env={**os.environ, "PARLEY_PROOFS": str(record)}, cwd=spec.REPOSITORY)
            lines = record.read_text(encoding="utf-8").splitlines()
    proofs = {called: attrs.asdict(proof) for called, proof in renewed(lines).items()}
    FILE.write_bytes(orjson.dumps(proofs, option=orjson.OPT_INDENT_2) + b"\n")
    print(*unproven(), f"{len(proofs)} operations have a proof", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
