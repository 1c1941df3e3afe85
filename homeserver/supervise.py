# SPDX-License-Identifier: Apache-2.0
"""How a process lives: ports opened, ready, drained, stopped."""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError

from homeserver.app import App
from homeserver.config.model import Config, Listener
from homeserver.http.listen import Site
from homeserver.http.tls import Certificate
from homeserver.runtime import Runtime
from storage.faults import StorageError

_log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
LAG_SECONDS = 1.0


class Supervisor:
    """One server process. `say` prints a line for the person who started it."""

    def __init__(self, app: App, runtime: Runtime, say: Callable[[str], None]) -> None:
        self._app = app
        self._runtime = runtime
        self._say = say
        self._sites: list[Site] = []
        self._ports: list[Any] = []
        self._certificates: list[tuple[int, Certificate]] = []
        self._status = 0
        self._lag = 0.0
        app.base.metrics.gauge("parley_reactor_lag_seconds", "How late the last timer was", lambda: self._lag)

    def run(self) -> int:
        """Serve until told to stop; gives the exit status."""
        reactor = self._runtime.reactor
        reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))
        reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(self._drain()))
        reactor.run()
        return self._status

    def reload(self, config: Config) -> None:
        """Take over a new configuration, and certificates that were renewed."""
        self._app.reload(config)
        for _, certificate in self._certificates:
            certificate.reload()

    async def _start(self) -> None:
        config = self._app.base.config
        try:
            await self._app.start()
            for at, listener in enumerate(config.listeners):
                self._listen(at, listener)
            self._listen_locally(config.data_dir)
        except StorageError as error:
            self._fail(error.reason)
        except (CannotListenError, OSError, ValueError) as error:
            self._fail(str(error))
        except Exception:
            _log.exception("the server did not start")
            self._fail("the server did not start; the log says why")
        else:
            self._measure_lag(self._runtime.monotonic())
            await self._announce()

    def _fail(self, reason: str) -> None:
        self._status = 1
        print(f"parley: {reason}", file=sys.stderr, flush=True)
        self._runtime.reactor.stop()

    def _listen(self, at: int, listener: Listener) -> None:
        spool = self._app.base.config.data_dir
        site = Site(
            self._app.dispatcher(listener.serve), self._runtime, behind_proxy=listener.behind_proxy, spool=str(spool)
        )
        self._sites.append(site)
        reactor = self._runtime.reactor
        if listener.tls is None:
            port = reactor.listenTCP(listener.port, site, backlog=512, interface=listener.bind)
        else:
            certificate = Certificate(listener.tls.certificate_file, listener.tls.private_key_file)
            self._certificates.append((at, certificate))
            port = reactor.listenSSL(listener.port, site, certificate, backlog=512, interface=listener.bind)
        self._ports.append(port)
        where = port.getHost()
        scheme = "https" if listener.tls else "http"
        _log.info("listening on %s://%s:%s for %s", scheme, where.host, where.port, ", ".join(listener.serve))

    def _listen_locally(self, folder: Path) -> None:
        """The socket over which commands on this machine reach the running server."""
        path = local_socket(folder)
        if path is None:
            _log.warning("%s is too long a path for a socket; commands need the server stopped", folder)
            return
        Path(path).unlink(missing_ok=True)
        site = Site(self._app.local_dispatcher(), self._runtime, spool=str(folder))
        self._sites.append(site)
        self._ports.append(self._runtime.reactor.listenUNIX(path, site, mode=0o600))

    async def _announce(self) -> None:
        config = self._app.base.config
        _log.info("%s is ready", config.server_name)
        address = config.base_url
        if not config.public_base_url and self._ports:
            listener = config.listeners[0]
            if listener.port == 0:
                address = address.removesuffix(":0") + f":{self._ports[0].getHost().port}"
        self._say(f"Parley serves {config.server_name} at {address}/")
        if await self._app.registrar.needs_setup():
            token = await self._app.registrar.setup_token()
            self._say(f"Make the first administrator (once, within 24 hours): {address}/_parley/setup#{token}")

    async def _drain(self) -> None:
        """Take no new connections, finish what was asked, drop long polls, then stop the services."""
        self._app.stopping = True
        started = time.perf_counter()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        for site in self._sites:
            site.close_idle()
        while any(site.in_flight for site in self._sites) and time.perf_counter() - started < DRAIN_SECONDS:
            await self._runtime.sleep(0.02)
        await self._app.stop()
        _log.info("stopped")

    def _measure_lag(self, due: float) -> None:
        now = self._runtime.monotonic()
        self._lag = max(0.0, now - due)
        if not self._app.stopping:
            self._runtime.call_later(LAG_SECONDS, self._measure_lag, now + LAG_SECONDS)


def local_socket(folder: Path) -> str | None:
    """Where the local socket of a data folder is; None when that path is too long for a socket's address."""
    path = os.path.abspath(folder / "parley.sock")
    return path if len(os.fsencode(path)) < 108 else None
