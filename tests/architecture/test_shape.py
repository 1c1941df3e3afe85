# SPDX-License-Identifier: Apache-2.0
"""The house rules that a program can check."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("homeserver", "storage", "federation", "bridge")
LONGEST_FUNCTION = 60
LONGEST_MODULE = 450

# Each with the reason why the better code is longer.
LONG_FUNCTIONS: dict[str, str] = {}
LONG_MODULES: dict[str, str] = {}

EMPTY_WORDS = re.compile(r"(?i)(handler|manager|controller|helper|util)s?$|_inner$|^do_|^process_")
# Names that others chose: the standard library's and Twisted's.
GIVEN_NAMES = {"WatchedFileHandler", "StreamHandler"}


@cache
def modules() -> tuple[tuple[Path, str, ast.Module], ...]:
    """Every module of the program: where it is, its text, its tree."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append((path.relative_to(ROOT), text, ast.parse(text)))
    return tuple(found)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


class Sizes(TestCase):
    def test_a_function_fits_a_screen(self) -> None:
        long = {
            f"{path}:{one.name}": (one.end_lineno or one.lineno) - one.lineno + 1
            for path, _, tree in modules()
            for one in functions(tree)
            if (one.end_lineno or one.lineno) - one.lineno + 1 > LONGEST_FUNCTION
        }
        self.assertEqual({name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS}, {})
        self.assertEqual(set(LONG_FUNCTIONS) - set(long), set(), "these are short now")

    def test_a_module_is_one_idea(self) -> None:
        long = {str(path): text.count("\n") for path, text, _ in modules() if text.count("\n") > LONGEST_MODULE}
        self.assertEqual({name: lines for name, lines in long.items() if name not in LONG_MODULES}, {})
        self.assertEqual(set(LONG_MODULES) - set(long), set(), "these are short now")

    def test_a_constructor_takes_at_most_seven_things(self) -> None:
        crowded = [
            f"{path}:{one.lineno}"
            for path, _, tree in modules()
            for one in functions(tree)
            if one.name == "__init__" and len(one.args.args) - 1 > 7
        ]
        self.assertEqual(crowded, [])


class Words(TestCase):
    def test_every_module_says_what_it_knows_and_under_which_licence(self) -> None:
        silent = [
            str(path)
            for path, text, tree in modules()
            if not text.startswith("# SPDX-License-Identifier: Apache-2.0\n") or not ast.get_docstring(tree)
        ]
        self.assertEqual(silent, [])

    def test_no_name_says_nothing(self) -> None:
        empty = []
        for path, _, tree in modules():
            if EMPTY_WORDS.search(path.stem):
                empty.append(str(path))
            for node in ast.walk(tree):
                named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                if named and EMPTY_WORDS.search(node.name) and node.name not in GIVEN_NAMES:
                    empty.append(f"{path}:{node.lineno} {node.name}")
        self.assertEqual(empty, [])

    def test_nothing_is_left_to_do_in_comments(self) -> None:
        marks = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError(\(\))?$")
        left = [
            f"{path}:{n}"
            for path, text, _ in modules()
            for n, line in enumerate(text.splitlines(), 1)
            if marks.search(line)
        ]
        self.assertEqual(left, [])


class Purity(TestCase):
    def test_no_module_keeps_state(self) -> None:
        """Empty containers at the top of a module are there to be filled."""
        stateful = [
            f"{path}:{node.lineno}"
            for path, _, tree in modules()
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(node.value, ast.Dict | ast.List | ast.Set)
            and not (isinstance(node, ast.AnnAssign) and "Mapping" in ast.unparse(node.annotation))
            and not (getattr(node.value, "elts", None) or getattr(node.value, "keys", None))
        ]
        self.assertEqual(stateful, [])

    def test_no_function_says_global(self) -> None:
        found = [
            f"{path}:{node.lineno}"
            for path, _, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Global)
        ]
        self.assertEqual(found, [])

    def test_the_protocol_is_pure(self) -> None:
        allowed = {"attrs", "orjson", "canonicaljson", "nacl", "homeserver"} | set(sys.stdlib_module_names)
        allowed -= {"time", "random", "secrets", "logging", "asyncio", "threading", "socket", "sqlite3"}
        impure = []
        for path, _, tree in modules():
            if path.parts[:2] != ("homeserver", "protocol"):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.AsyncFunctionDef | ast.Await):
                    impure.append(f"{path}:{node.lineno} is asynchronous")
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                for name in names:
                    if name.split(".")[0] not in allowed or name.split(".")[0] in (
                        "time",
                        "random",
                        "secrets",
                        "logging",
                    ):
                        impure.append(f"{path}:{node.lineno} imports {name}")
        self.assertEqual(impure, [])

    def test_room_versions_are_not_compared_by_name(self) -> None:
        compared = re.compile(r"version\.id\s*(==|!=|in\b|<|>)")
        found = [
            f"{path}:{n}"
            for path, text, _ in modules()
            if path.parts[:2] == ("homeserver", "protocol")
            for n, line in enumerate(text.splitlines(), 1)
            if compared.search(line)
        ]
        self.assertEqual(found, [])


class Layers(TestCase):
    def test_imports_point_down(self) -> None:
        command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])
