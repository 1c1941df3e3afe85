# SPDX-License-Identifier: Apache-2.0
"""The generated pages of docs/reference: `python -m tests.architecture.pages` writes them."""

import sys
from pathlib import Path

from homeserver.config.template import reference as configuration_page
from tests.architecture import proofs, reference
from tests.harness import spec

FOLDER = spec.REPOSITORY / "docs" / "reference"


def pages() -> dict[Path, str]:
    """Each generated page and its text."""
    return {
        FOLDER / "configuration.md": configuration_page(),
        FOLDER / "endpoints.md": reference.endpoints_page(),
        FOLDER / "operations.md": proofs.page(),
    }


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(spec.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
