# SPDX-License-Identifier: Apache-2.0
"""`parley run`: the server in the foreground."""

import argparse
import gc
import logging
import os
import signal
import sys
from pathlib import Path

from homeserver import logs
from homeserver.cli.init import write_key
from homeserver.cli.read import read
from homeserver.config.load import ConfigError, load
from homeserver.config.model import Config
from homeserver.protocol.signing import SigningKey, parse_key_file

_log = logging.getLogger(__name__)


def run(given: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # What the server writes is for its own user only.
    os.umask(0o077)
    config = read(given.config)
    if config is None:
        return 2
    try:
        key = signing_key(config)
    except (OSError, ValueError) as error:
        print(f"{config.key_file}: {error}", file=sys.stderr)
        return 2
    # Nothing that is made from here to the start is ever garbage: looking for it would cost a tenth of the start.
    gc.disable()
    # The reactor is chosen when it is first imported.
    from twisted.internet import reactor

    from homeserver.app import build
    from homeserver.runtime import Runtime
    from homeserver.supervise import Supervisor

    _start_logs(config)
    logs.route_twisted()
    runtime = Runtime(reactor)
    supervisor = Supervisor(build(config, runtime, key), runtime, say=_say)
    runtime.reactor.callWhenRunning(_collect_garbage)
    signal.signal(signal.SIGHUP, lambda *_: runtime.call_from_thread(_reload, given.config, supervisor))
    return supervisor.run()


def _collect_garbage() -> None:
    """Look for garbage from now on, seldom, and not among what the start made."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def signing_key(config: Config) -> SigningKey:
    """The server's key; made when there is no key and no data yet. Raises OSError or ValueError."""
    file = config.key_file
    if not file.exists() and (not config.data_dir.exists() or not any(config.data_dir.iterdir())):
        return write_key(file)
    keys = parse_key_file(file.read_text(encoding="ascii"))
    if not keys:
        raise ValueError("the file holds no key")
    return keys[0]


def _start_logs(config: Config) -> None:
    logs.start(config.log.level, config.log.format, str(config.log.file) if config.log.file else None)


def _say(text: str) -> None:
    print(text, flush=True)


def _reload(file: str, supervisor: object) -> None:
    """Take over what can change without a restart; a faulty file changes nothing."""
    from homeserver.supervise import Supervisor

    assert isinstance(supervisor, Supervisor)
    try:
        config = load(Path(file), os.environ)
    except ConfigError as error:
        _log.error("the configuration was not reloaded:\n%s", error)
        return
    _start_logs(config)
    supervisor.reload(config)
    _log.info("the configuration was reloaded")
