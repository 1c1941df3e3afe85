# SPDX-License-Identifier: Apache-2.0
"""A whole homeserver inside a test: the real composition, router and database, without sockets."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import orjson
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from homeserver import app
from homeserver.config.load import parse
from homeserver.config.model import Config
from homeserver.http.dispatch import Dispatcher
from homeserver.http.endpoint import Stream
from homeserver.http.incoming import Incoming
from homeserver.protocol.signing import SigningKey
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from tests.harness import postgres, spec

SERVER_NAME = "parley.test"
EPOCH_MS = 1_790_000_000_000
NO_TOKEN = ("M_MISSING_TOKEN", "M_UNKNOWN_TOKEN", "M_USER_LOCKED")
KEY = SigningKey.from_seed("test", b"parley-test-key-of-32-bytes-long")
PASSWORD = "correct horse battery staple"
RECORD = os.environ.get("PARLEY_PROOFS")  # where to note each request, for tests/architecture/proofs.py
ON_POSTGRESQL = os.environ.get("PARLEY_TEST_DATABASE") == "postgresql"


@attrs.frozen
class Reply:
    """An answer: its JSON (None when it is not JSON), its raw body, and its own headers by lower-case name."""

    status: int
    json: Any
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Session:
    """A signed-in device."""

    user_id: str
    token: str
    device_id: str


class RequestFailed(AssertionError):
    """An answer that a test did not expect; `reply` is it."""

    def __init__(self, what: str, reply: Reply) -> None:
        super().__init__(f"{what} answered {reply.status}: {reply.json if reply.json is not None else reply.body!r}")
        self.reply = reply


@cache
def _template() -> str:
    """A migrated database to copy: the path of a SQLite file or the name of a PostgreSQL database."""
    if ON_POSTGRESQL:
        url = postgres.create()
        name = url.partition("@/")[2].partition("?")[0]
        _migrate(url)
        return name
    file = Path(tempfile.mkdtemp(prefix="parley-template-")) / "parley.db"
    _migrate(f"sqlite:///{file}")
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return str(file)


def _migrate(url: str) -> None:
    database = Database(Runtime(reactor), url)
    database.open()
    database.close()


def fresh_database(folder: Path) -> str:
    """The address of a new, migrated database; a SQLite one lies in `folder`."""
    if ON_POSTGRESQL:
        return postgres.create(_template())
    shutil.copyfile(_template(), folder / "parley.db")
    return f"sqlite:///{folder / 'parley.db'}"


class HomeserverCase(TestCase):
    """Starts a server for each test.

    `settings` is YAML that is added to the configuration. Time stands still until `self.clock.advance(seconds)`;
    answers are checked against the specification's schemas.
    """

    timeout = 60
    settings = ""
    listener = ("client", "web", "metrics")

    async def setUp(self) -> None:  # type: ignore[override]
        self.folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.database_url = fresh_database(self.folder)
        self.clock = task.Clock()
        self.clock.advance(1.0)
        await self.start_server()
        self.addCleanup(self._stop_if_running)

    def configuration(self) -> Config:
        """The configuration of the test's server."""
        text = f"""
server_name: {SERVER_NAME}
public_base_url: https://{SERVER_NAME}
data_dir: .
database: {{url: "{self.database_url}", readers: 2}}
{self.settings}
"""
        for section, default in (
            ("registration:", "registration: {enabled: true}"),
            ("passwords:", "passwords: {memory_kib: 8, rounds: 1, minimum_length: 1}"),
            ("rate_limits:", "rate_limits: {enabled: false}"),
        ):
            text += "" if section in self.settings else default + "\n"
        return parse(text, "test.yaml", self.folder, {})

    async def start_server(self) -> None:
        """Start the server, on the database as it is."""
        self.runtime = Runtime(reactor, clock=self.clock, seed=7, epoch_ms=EPOCH_MS)
        self.app = app.build(self.configuration(), self.runtime, KEY)
        await self.app.start()
        self.dispatcher: Dispatcher = self.app.dispatcher(self.listener)  # type: ignore[arg-type]

    async def stop_server(self) -> None:
        """Stop the server cleanly; `start_server` starts it again with the same data."""
        await self.app.stop()

    async def restart_server(self) -> None:
        await self.stop_server()
        await self.start_server()

    async def _stop_if_running(self) -> None:
        if not self.app.stopping:
            await self.app.stop()

    # ---- requests ----

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | Session | None = None,
        *,
        query: Mapping[str, object] | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        ip: str = "127.0.0.1",
        expect: int | None = None,
        validate: bool = True,
    ) -> Reply:
        """Send a request through the real router. `body` is sent as JSON, `raw` as it is; `expect` is the status that
        the answer must have.
        """
        content = raw if raw is not None else b"" if body is None else orjson.dumps(body)
        sent = {"content-type": "application/json"} if body is not None else {}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        if token is not None:
            sent["authorization"] = "Bearer " + (token.token if isinstance(token, Session) else token)
        path, _, given = path.partition("?")
        text = "&".join(filter(None, [given, urlencode(query or {}, doseq=True)]))
        incoming = Incoming(method, path, text.encode(), sent.get, ip, BytesIO(content), len(content))
        answer = await self.dispatcher.respond(incoming)
        raw_body = answer.body
        if isinstance(raw_body, Stream):
            with raw_body.file as file:
                raw_body = file.read(raw_body.length)
        is_json = (answer.content_type or "").startswith("application/json")
        own = {name.lower(): value for name, value in (answer.headers or {}).items()}
        own["content-type"] = answer.content_type or ""
        reply = Reply(answer.status, orjson.loads(raw_body) if is_json and raw_body else None, own, raw_body)
        if RECORD:
            with open(RECORD, "a", encoding="utf-8") as file:
                file.write(f"{method}\t{path}\t{reply.status}\t{self.id()}\n")
        if validate and is_json:
            self._validate(method, path, reply)
        if expect is not None and reply.status != expect:
            raise RequestFailed(f"{method} {path}", reply)
        return reply

    def _validate(self, method: str, path: str, reply: Reply) -> None:
        if reply.status in (404, 405) and reply.json and reply.json.get("errcode") == "M_UNRECOGNIZED":
            return
        if reply.status == 401 and reply.json and reply.json.get("errcode") in NO_TOKEN:
            return  # where a 401 asks for interactive authentication the schema forgets that a token may be missing
        declared = self.dispatcher.declared(method, path)
        wrong = spec.faults(method, declared, reply.status, reply.json) if declared else []
        if wrong:
            raise RequestFailed(f"{method} {path} does not follow the specification: {wrong}", reply)

    def begin(self, *args: Any, **kwargs: Any) -> "Deferred[Reply]":
        """Send a request whose answer is awaited later, such as a long poll."""
        return Deferred.fromCoroutine(self.request(*args, **kwargs))

    async def settle(self, seconds: float = 0.0) -> None:
        """Let the reactor and the database's threads work for a moment of real time."""
        await task.deferLater(reactor, seconds, lambda: None)

    async def eventually(self, deferred: "Deferred[Any]", advance: float = 0.0) -> Any:
        """The result of a Deferred, moving the test's time by `advance` seconds at each turn while it waits."""
        for _ in range(10_000):
            if deferred.called:
                return await deferred
            if advance:
                self.clock.advance(advance)
            await self.settle(0.002)
        raise AssertionError("nothing came")

    # ---- what most tests begin with ----

    async def register(self, name: str, password: str = PASSWORD, device_id: str | None = None) -> Session:
        """Make an account and sign in a device."""
        body: dict[str, object] = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}}
        if device_id is not None:
            body["device_id"] = device_id
        made = (await self.request("POST", "/_matrix/client/v3/register", body, expect=200)).json
        return Session(made["user_id"], made["access_token"], made["device_id"])

    async def login(self, name: str, password: str = PASSWORD, device_id: str | None = None) -> Session:
        """Sign in one more device."""
        body: dict[str, object] = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": name},
            "password": password,
        }
        if device_id is not None:
            body["device_id"] = device_id
        made = (await self.request("POST", "/_matrix/client/v3/login", body, expect=200)).json
        return Session(made["user_id"], made["access_token"], made["device_id"])

    async def create_room(self, creator: Session, **body: object) -> str:
        """Make a room; gives its id."""
        made = await self.request("POST", "/_matrix/client/v3/createRoom", body, creator, expect=200)
        return str(made.json["room_id"])

    async def join(self, user: Session, room_id: str) -> None:
        await self.request("POST", f"/_matrix/client/v3/rooms/{quote(room_id)}/join", {}, user, expect=200)

    async def send(self, user: Session, room_id: str, text: str = "hello", txn: str | None = None) -> str:
        """Send a text message; gives its event id."""
        return await self.send_event(user, room_id, "m.room.message", {"msgtype": "m.text", "body": text}, txn)

    async def send_event(
        self, user: Session, room_id: str, kind: str, content: Mapping[str, object], txn: str | None = None
    ) -> str:
        path = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/{quote(kind)}/{txn or self.runtime.token(8)}"
        return str((await self.request("PUT", path, content, user, expect=200)).json["event_id"])

    async def sync(self, user: Session, since: str | None = None, **query: object) -> Any:
        """One /sync; does not wait unless told to."""
        given: dict[str, object] = {"timeout": 0, **query}
        if since is not None:
            given["since"] = since
        return (await self.request("GET", "/_matrix/client/v3/sync", None, user, query=given, expect=200)).json


__all__ = ["HomeserverCase", "Reply", "RequestFailed", "Session"]
