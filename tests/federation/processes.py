# SPDX-License-Identifier: Apache-2.0
"""Parley and Synapse as processes that federate over TLS on loopback, and a client for both."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import attrs

from tests.federation import certificates
from tests.harness.servers import ROOT, SECRET, Server, free_port, synapse_python

PATIENCE = 60.0


class Failed(AssertionError):
    """A request was answered otherwise than expected."""


@attrs.define
class Account:
    """Somebody signed in to one of the servers."""

    server: "Side"
    user_id: str
    token: str

    def request(self, method: str, path: str, body: object = None, expect: int = 200, **query: object) -> Any:
        """The JSON of the answer; `expect` 0 takes any status."""
        return self.server.request(method, path, body, self.token, expect, **query)

    def get(self, path: str, **query: object) -> Any:
        return self.request("GET", path, **query)

    def post(self, path: str, body: object = None, expect: int = 200, **query: object) -> Any:
        return self.request("POST", path, {} if body is None else body, expect, **query)

    def put(self, path: str, body: object, expect: int = 200) -> Any:
        return self.request("PUT", path, body, expect)

    def create_room(self, **body: object) -> str:
        return str(self.post("createRoom", body)["room_id"])

    def join(self, room: str, *via: str, expect: int = 200) -> Any:
        given = [("via", one) for one in via] + [("server_name", one) for one in via]
        return self.post(f"join/{quote(room, safe='')}?{urlencode(given)}", {}, expect)

    def send(self, room: str, text: str) -> str:
        return self.event(room, "m.room.message", {"msgtype": "m.text", "body": text})

    def event(self, room: str, kind: str, content: object) -> str:
        self.server.count += 1
        return str(self.put(f"rooms/{quote(room)}/send/{kind}/t{self.server.count}", content)["event_id"])

    def state(self, room: str, kind: str, content: object, key: str = "") -> str:
        return str(self.put(f"rooms/{quote(room)}/state/{kind}/{quote(key, safe='')}", content)["event_id"])

    def state_ids(self, room: str) -> dict[tuple[str, str], str]:
        found = self.get(f"rooms/{quote(room)}/state")
        return {(one["type"], one["state_key"]): one["event_id"] for one in found}

    def membership(self, room: str, user_id: str) -> str | None:
        path = f"rooms/{quote(room)}/state/m.room.member/{quote(user_id, safe='')}"
        found = self.request("GET", path, expect=0)
        return found.get("membership")

    def texts(self, room: str) -> list[str]:
        found = self.get(f"rooms/{quote(room)}/messages", dir="b", limit=100)
        return [one["content"]["body"] for one in reversed(found["chunk"]) if "body" in one.get("content", {})]

    def sync(self, since: str | None = None, timeout: int = 0) -> Any:
        return self.get("sync", timeout=timeout, **({} if since is None else {"since": since}))


@attrs.define
class Side:
    """One running server. `name` is its server name."""

    name: str
    server: Server
    count: int = 0

    def request(
        self, method: str, path: str, body: object, token: str | None, expect: int = 200, **query: object
    ) -> Any:
        at = "" if path.startswith("/") else "/_matrix/client/v3/"
        url = self.server.base + at + path + (("&" if "?" in path else "?") + urlencode(query) if query else "")
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, raw = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        if expect and status != expect:
            raise Failed(f"{self.name}: {method} {path} answered {status}: {raw[:500]!r}")
        return json.loads(raw) if raw else {}

    def account(self, name: str) -> Account:
        made = self.server.register(name)
        return Account(self, made["user_id"], made["access_token"])

    def log(self) -> str:
        return (self.server.folder / "out.log").read_text(errors="replace")


def until(check: Callable[[], Any], what: str) -> Any:
    """The first true answer; AssertionError when there is none for long."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} never came")


def parley(folder: Path) -> Side:
    """A Parley that federates, started."""
    plain, port = free_port(), free_port()
    folder.mkdir(parents=True)
    files = certificates.usual()
    name = f"localhost:{port}"
    tls = f"{{certificate_file: {files.certificate}, private_key_file: {files.key}}}"
    (folder / "homeserver.yaml").write_text(
        f"""
server_name: "{name}"
public_base_url: http://127.0.0.1:{plain}
data_dir: data
listeners:
  - {{port: {plain}, bind: 127.0.0.1}}
  - {{port: {port}, bind: 127.0.0.1, serve: [federation], tls: {tls}}}
registration: {{enabled: true, shared_secret: "{SECRET}"}}
rate_limits: {{enabled: false}}
network: {{allow_private_addresses: [127.0.0.0/8, "::1/128"]}}
federation: {{enabled: true, ca_file: {files.ca}}}
log: {{level: info}}
"""
    )
    run = [sys.executable, "-m", "homeserver", "run", "-c", str(folder / "homeserver.yaml")]
    side = Side(name, Server("Parley", folder, f"http://127.0.0.1:{plain}", run, None, ""))
    side.server.start()
    return side


def synapse(folder: Path) -> Side:
    """A Synapse that federates, started."""
    plain, port = free_port(), free_port()
    folder.mkdir(parents=True)
    files = certificates.usual()
    name = f"localhost:{port}"
    (folder / "log.yaml").write_text(
        "version: 1\nformatters: {f: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}\n"
        "handlers: {c: {class: logging.StreamHandler, formatter: f}}\n"
        "root: {level: INFO, handlers: [c]}\ndisable_existing_loggers: false\n"
    )
    unlimited = {"per_second": 1_000_000, "burst_count": 1_000_000}
    config = {
        "server_name": name,
        "public_baseurl": f"http://127.0.0.1:{plain}/",
        "listeners": [
            {"port": plain, "bind_addresses": ["127.0.0.1"], "type": "http", "resources": [{"names": ["client"]}]},
            {
                "port": port,
                "bind_addresses": ["127.0.0.1"],
                "type": "http",
                "tls": True,
                "resources": [{"names": ["federation"]}],
            },
        ],
        "tls_certificate_path": str(files.certificate),
        "tls_private_key_path": str(files.key),
        "federation_custom_ca_list": [str(files.ca)],
        "federation_ip_range_blacklist": [],
        "ip_range_blacklist": [],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "log_config": str(folder / "log.yaml"),
        "report_stats": False,
        "registration_shared_secret": SECRET,
        "macaroon_secret_key": "interop",
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "bcrypt_rounds": 4,
        "room_list_publication_rules": [{"action": "allow"}],
        "caches": {"sync_response_cache_duration": "0s"},
        "allow_public_rooms_over_federation": True,
        "allow_public_rooms_without_auth": True,
        "federation": {"max_short_retry_delay": "1s", "destination_min_retry_interval": "1s"},
        **{key: unlimited for key in ("rc_message", "rc_registration", "rc_joins_per_room", "rc_room_creation")},
        "rc_login": {key: unlimited for key in ("address", "account", "failed_attempts")},
        "rc_joins": {key: unlimited for key in ("local", "remote")},
        "rc_invites": {key: unlimited for key in ("per_room", "per_user", "per_issuer")},
        "rc_federation": {"window_size": 1000, "sleep_limit": 10_000, "reject_limit": 10_000, "concurrent": 100},
    }
    path = folder / "homeserver.yaml"
    path.write_text(json.dumps(config, indent=1))
    python = synapse_python()
    command = [str(python), "-m", "synapse.app.homeserver", "-c", str(path)]
    subprocess.run([*command, "--generate-keys"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    side = Side(name, Server("Synapse", folder, f"http://127.0.0.1:{plain}", command, None, ""))
    side.server.start()
    return side


def available() -> bool:
    """Whether Synapse is installed where it is looked for."""
    home = os.environ.get("PARLEY_PEER_VENV")
    return (Path(home) / "bin" / "python").exists() if home else bool(list((ROOT / ".cache").glob("synapse-*/bin")))
