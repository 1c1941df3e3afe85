# SPDX-License-Identifier: Apache-2.0
"""Where schemathesis is installed: in an environment of its own, pinned by the lock file beside this module."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("PARLEY_CACHE", HERE.parent.parent / ".cache"))


def schemathesis() -> str:
    """The command."""
    lock = HERE / "requirements.txt"
    home = CACHE / f"schemathesis-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (home / "done").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(lock)]
        subprocess.run([str(home / "bin" / "python"), *install], check=True)
        (home / "done").touch()
    return str(home / "bin" / "schemathesis")
