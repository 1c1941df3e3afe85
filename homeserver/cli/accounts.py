# SPDX-License-Identifier: Apache-2.0
"""`parley register` and `parley setup-link`: through the running server, or on the database while none runs."""

import argparse
import getpass
import http.client
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from homeserver.cli.read import read
from homeserver.config.model import Config
from homeserver.protocol.errors import MatrixError


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def accounts(given: argparse.Namespace) -> int:
    """Run one of the two commands."""
    config = read(given.config)
    if config is None:
        return 2
    body: dict[str, Any] = {}
    if given.command == "register":
        password = _password(given.password_file)
        if not password:
            print("no password was given", file=sys.stderr)
            return 2
        body = {"username": given.user, "password": password, "admin": given.admin}
    said = ask_server(config, given.command, body)
    if said is None:
        said = _on_database(config, given.command, body)
    if "errcode" in said:
        print(said["error"], file=sys.stderr)
        return 1
    print(said.get("link") or f"Made {said['user_id']}" + (", a server administrator" if body.get("admin") else ""))
    return 0


def _password(file: str | None) -> str:
    if file == "-":
        return sys.stdin.readline().rstrip("\n")
    if file is not None:
        return Path(file).read_text(encoding="utf-8").strip("\n")
    password = getpass.getpass("Password: ")
    return password if getpass.getpass("Again: ") == password else ""


def ask_server(config: Config, command: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer of the running server; None when there is none."""
    connection = _UnixConnection(str(config.data_dir.resolve() / "parley.sock"))
    try:
        connection.request("POST", f"/_parley/local/{command}", orjson.dumps(body))
        answer: dict[str, Any] = orjson.loads(connection.getresponse().read())
        return answer
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        return {"errcode": "M_UNKNOWN", "error": f"the running server did not answer: {error}"}
    finally:
        connection.close()


def _on_database(config: Config, command: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Do it here, with the database opened for that long."""
    from twisted.internet import reactor

    from homeserver.app import build
    from homeserver.cli.run import signing_key
    from homeserver.runtime import Runtime
    from homeserver.services.registration import NewUser
    from storage.faults import StorageError

    runtime = Runtime(reactor)
    app = build(config, runtime, signing_key(config))
    said: dict[str, Any] = {}

    async def work() -> None:
        try:
            app.base.db.open()
            if command == "register":
                new = NewUser(body["username"], body["password"], body["admin"])
                said["user_id"] = await app.registrar.make_account(new)
            else:
                said["link"] = f"{config.base_url}/_parley/setup#{await app.registrar.setup_token()}"
            app.base.db.close()
        except StorageError as error:
            said.update(errcode="M_UNKNOWN", error=error.reason)
        except MatrixError as error:
            said.update(error.body())
        finally:
            runtime.reactor.stop()

    runtime.reactor.callWhenRunning(runtime.background, command, work())
    runtime.reactor.run()
    return said
