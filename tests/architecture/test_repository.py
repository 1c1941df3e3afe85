# SPDX-License-Identifier: Apache-2.0
"""What may not be committed, and under which licences the dependencies come."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import orjson
from twisted.trial.unittest import SkipTest, TestCase

ROOT = Path(__file__).resolve().parents[2]

HOSTS = re.compile(
    r"https?://[^\s\"')]*(?:/simple/|pypi|npmjs|registry\.|artifactory|nexus|devpi)[^\s\"')]*", re.IGNORECASE
)
PUBLIC = re.compile(r"https?://(?:www\.)?(?:pypi\.org|npmjs\.com)/(?:project|package)/")
PATHS = re.compile(r"(?<![\w/.])/(?:root|work|home/\w+|Users/\w+)/[\w.-]+")
KEYS = re.compile(r"-----BEGIN (?:\w+ )?PRIVATE KEY-----|\bsyt_[A-Za-z0-9]{10,}_[A-Za-z0-9]{10,}")

ALLOWED = re.compile(
    r"apache|mit\b|bsd|isc|mpl|mozilla|psf|python software foundation|lgpl|lesser general|zpl|zope|unlicense|0bsd"
    r"|hpnd|historical permission|public domain|cc0",
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SkipTest("this is not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def plain_name(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Commits(TestCase):
    def found(self, *patterns: re.Pattern[str]) -> list[str]:
        lines = []
        for path in tracked():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            for n, line in enumerate(text.splitlines(), 1):
                if (
                    any(pattern.search(line) for pattern in patterns)
                    and not PUBLIC.search(line)
                    and path != Path(__file__)
                ):
                    lines.append(f"{path.relative_to(ROOT)}:{n}: {line.strip()[:100]}")
        return lines

    def test_no_registry_host_is_committed(self) -> None:
        self.assertEqual(self.found(HOSTS), [])

    def test_no_path_of_a_machine_is_committed(self) -> None:
        self.assertEqual(self.found(PATHS), [])

    def test_no_key_or_token_is_committed(self) -> None:
        self.assertEqual(self.found(KEYS), [])

    def test_the_specification_is_not_copied(self) -> None:
        copied = [str(path) for path in tracked() if path.name in ("client-server.json", "endpoints.csv")]
        self.assertEqual(copied, [])


class Licences(TestCase):
    def test_every_dependency_may_be_used(self) -> None:
        command = [str(Path(sys.executable).parent / "pip-licenses"), "--format=json", "--from=mixed"]
        done = subprocess.run(command, capture_output=True, check=True)
        packages = orjson.loads(done.stdout)
        self.assertGreater(len(packages), 20)
        wrong = [f"{one['Name']}: {one['License']}" for one in packages if not ALLOWED.search(one["License"])]
        self.assertEqual([line for line in wrong if not line.startswith("parley:")], [])

    def test_what_the_project_asks_for_is_locked(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = project["dependencies"] + project["optional-dependencies"]["dev"]
        text = (ROOT / "requirements-dev.lock").read_text()
        locked = {plain_name(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
        missing = [one for one in asked if plain_name(re.split(r"[^\w.-]", one)[0]) not in locked]
        self.assertEqual(missing, [], "run make lock")

    def test_every_dependency_is_locked_with_its_hash(self) -> None:
        for name in ("requirements.lock", "requirements-dev.lock"):
            text = (ROOT / name).read_text()
            packages = re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)
            self.assertGreater(len(packages), 20)
            for block in re.split(r"\n(?=[A-Za-z0-9])", text):
                if re.match(r"[A-Za-z0-9_.-]+==", block):
                    self.assertIn("--hash=sha256:", block, block[:60])
