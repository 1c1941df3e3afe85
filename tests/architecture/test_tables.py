# SPDX-License-Identifier: Apache-2.0
"""Each table is written by one module."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parents[2]
WRITES = re.compile(r"\b(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM)\s+([a-z_][a-z0-9_]*)\b(?!\s*=)", re.IGNORECASE)
NOT_TABLES = {"set"}

# What several modules may write, with the reason.
SHARED = {"clock": "each dialect moves it its own way, in the same transaction as what it numbers"}


def texts(tree: ast.Module) -> list[str]:
    """Every text in a module but its docstrings; pieces of formatted ones too."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def writers() -> dict[str, set[str]]:
    """The modules that write each table."""
    found: dict[str, set[str]] = defaultdict(set)
    schema = "".join(path.read_text() for path in (ROOT / "storage" / "migrations").glob("*.sql"))
    tables = set(re.findall(r"CREATE (?:VIRTUAL )?TABLE (\w+)", schema))
    for path in sorted((ROOT / "storage").glob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for table in WRITES.findall(text):
                if table.lower() in tables:
                    found[table.lower()].add(path.stem)
    return found


class OneWriter(TestCase):
    def test_every_table_has_one_writing_module(self) -> None:
        several = {table: sorted(names) for table, names in writers().items() if len(names) > 1 and table not in SHARED}
        self.assertEqual(several, {})

    def test_the_exceptions_are_still_ones(self) -> None:
        several = {table for table, names in writers().items() if len(names) > 1}
        self.assertEqual(set(SHARED) - several, set())

    def test_only_storage_speaks_sql(self) -> None:
        speaking = re.compile(r"^\s*(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b")
        found = [
            str(path.relative_to(ROOT))
            for package in ("homeserver", "federation", "bridge")
            for path in (ROOT / package).rglob("*.py")
            if any(speaking.search(text) for text in texts(ast.parse(path.read_text(encoding="utf-8"))))
        ]
        self.assertEqual(found, [])
