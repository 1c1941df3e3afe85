# SPDX-License-Identifier: Apache-2.0
"""Several Parley servers in one test that talk over TLS on loopback."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from twisted.internet import reactor, task
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from homeserver import app
from homeserver.config.load import parse
from homeserver.http.dispatch import Dispatcher
from homeserver.http.endpoint import Stream
from homeserver.http.incoming import Incoming
from homeserver.http.listen import Site
from homeserver.http.tls import Certificate
from homeserver.protocol.signing import SigningKey
from homeserver.runtime import Runtime
from tests.federation import certificates
from tests.harness.server import EPOCH_MS, PASSWORD, Reply, RequestFailed, Session, fresh_database
from tests.harness.servers import free_port


class Peer:
    """One server of a test. Its name is localhost with its port."""

    def __init__(self, number: int, clock: task.Clock, settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="parley-test-"))
        self.url = fresh_database(self.folder)
        self.port = free_port()
        self.name = f"localhost:{self.port}"
        self.number = number
        self.clock = clock
        self.settings = settings
        self.key = SigningKey.from_seed(f"k{number}", b"%032d" % number)
        self.listening: Any = None

    async def start(self) -> None:
        """Start it, on its data as they are."""
        files = certificates.usual()
        text = f"""
server_name: "{self.name}"
public_base_url: https://{self.name}
data_dir: .
database: {{url: "{self.url}", readers: 2}}
registration: {{enabled: true}}
passwords: {{memory_kib: 8, rounds: 1, minimum_length: 1}}
rate_limits: {{enabled: false}}
network: {{allow_private_addresses: [127.0.0.0/8, "::1/128"]}}
{self.settings}
"""
        if "federation:" not in self.settings:
            text += f"federation: {{enabled: true, ca_file: {files.ca}}}\n"
        config = parse(text, "test.yaml", self.folder, {})
        self.runtime = Runtime(reactor, clock=self.clock, epoch_ms=EPOCH_MS)
        self.app = app.build(config, self.runtime, self.key)
        await self.app.start()
        self.dispatcher: Dispatcher = self.app.dispatcher(("client", "federation"))
        self.site = Site(self.dispatcher, self.runtime)
        listen: Any = reactor.listenSSL  # type: ignore[attr-defined]
        self.listening = listen(self.port, self.site, Certificate(files.certificate, files.key), interface="127.0.0.1")

    async def stop(self) -> None:
        """Stop it; its data stay."""
        if self.listening is None:
            return
        await maybeDeferred(self.listening.stopListening)
        self.listening = None
        for channel in list(self.site.channels):
            if channel.transport is not None:
                channel.transport.abortConnection()
        await self.app.stop()

    # ---- requests, as clients make them ----

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: Session | None = None,
        *,
        query: Mapping[str, object] | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expect: int | None = 200,
    ) -> Reply:
        """Send a request through the real router; `expect` None takes any status."""
        content = raw if raw is not None else b"" if body is None else orjson.dumps(body)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if token is not None:
            sent["authorization"] = "Bearer " + token.token
        text = urlencode(query or {}, doseq=True)
        incoming = Incoming(method, path, text.encode(), sent.get, "127.0.0.1", BytesIO(content), len(content))
        answer = await self.dispatcher.respond(incoming)
        raw_body = answer.body
        if isinstance(raw_body, Stream):
            with raw_body.file as file:
                raw_body = file.read(raw_body.length)
        is_json = (answer.content_type or "").startswith("application/json")
        own = {name.lower(): value for name, value in (answer.headers or {}).items()}
        reply = Reply(answer.status, orjson.loads(raw_body) if is_json and raw_body else None, own, raw_body)
        if expect is not None and reply.status != expect:
            raise RequestFailed(f"{method} {path}", reply)
        return reply

    async def get(self, path: str, token: Session | None = None, **query: object) -> Any:
        return (await self.request("GET", f"/_matrix/client/v3/{path}", None, token, query=query)).json

    async def post(self, path: str, body: Any, token: Session | None = None, expect: int | None = 200) -> Any:
        return (await self.request("POST", f"/_matrix/client/v3/{path}", body, token, expect=expect)).json

    async def put(self, path: str, body: Any, token: Session | None = None, expect: int | None = 200) -> Any:
        return (await self.request("PUT", f"/_matrix/client/v3/{path}", body, token, expect=expect)).json

    async def register(self, name: str) -> Session:
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        made = await self.post("register", body)
        return Session(made["user_id"], made["access_token"], made["device_id"])

    async def create_room(self, creator: Session, **body: object) -> str:
        return str((await self.post("createRoom", body, creator))["room_id"])

    async def join(self, user: Session, room: str, *via: str, expect: int | None = 200) -> Any:
        query = {"via": list(via)} if via else {}
        path = f"/_matrix/client/v3/join/{quote(room, safe='')}"
        return (await self.request("POST", path, {}, user, query=query, expect=expect)).json

    async def send(self, user: Session, room_id: str, text: str) -> str:
        path = f"rooms/{quote(room_id)}/send/m.room.message/{self.runtime.token(8)}"
        return str((await self.put(path, {"msgtype": "m.text", "body": text}, user))["event_id"])

    async def set_state(self, user: Session, room_id: str, kind: str, content: object, key: str = "") -> str:
        path = f"rooms/{quote(room_id)}/state/{kind}/{quote(key, safe='')}"
        return str((await self.put(path, content, user))["event_id"])

    async def members(self, user: Session, room_id: str) -> dict[str, str]:
        """User id → membership, as the user sees them."""
        found = await self.get(f"rooms/{quote(room_id)}/members", user)
        return {one["state_key"]: one["content"]["membership"] for one in found["chunk"]}

    async def bodies(self, user: Session, room_id: str) -> list[str]:
        """The texts in the room that the user sees, oldest first."""
        found = await self.get(f"rooms/{quote(room_id)}/messages", user, dir="b", limit=100)
        return [one["content"]["body"] for one in reversed(found["chunk"]) if "body" in one["content"]]

    async def sync(self, user: Session, since: str | None = None) -> Any:
        given: dict[str, object] = {"timeout": 0}
        if since is not None:
            given["since"] = since
        return await self.get("sync", user, **given)


class FederationCase(TestCase):
    """Starts `count` servers for each test, in `self.peers`, with a common clock that stands still."""

    timeout = 120
    count = 2
    settings = ""

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = task.Clock()
        self.clock.advance(1.0)
        self.peers: list[Peer] = []
        self.addCleanup(self._stop)
        for number in range(self.count):
            await self.add_peer(number)

    async def add_peer(self, number: int, settings: str | None = None) -> Peer:
        peer = Peer(number + 1, self.clock, self.settings if settings is None else settings)
        self.addCleanup(shutil.rmtree, peer.folder, ignore_errors=True)
        self.peers.append(peer)
        await peer.start()
        return peer

    async def _stop(self) -> None:
        for peer in self.peers:
            await peer.stop()
        await self.settle(0.02)

    async def settle(self, seconds: float = 0.0) -> None:
        """Let the reactor work for a moment of real time."""
        await task.deferLater(reactor, seconds, lambda: None)

    async def until(self, check: Callable[[], Any], what: str = "it", advance: float = 0.0) -> Any:
        """Ask until the answer is true, moving the test's time by `advance` seconds at each turn."""
        for _ in range(1500):
            found = await check()
            if found:
                return found
            if advance:
                self.clock.advance(advance)
            await self.settle(0.01)
        raise AssertionError(f"{what} never came")
