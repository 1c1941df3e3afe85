# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration for a command, and telling the person what is wrong with it."""

import os
import sys
from pathlib import Path

from homeserver.config.load import ConfigError, load
from homeserver.config.model import Config


def read(file: str) -> Config | None:
    """The configuration; None after its faults were printed."""
    try:
        return load(Path(file), os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None
