# SPDX-License-Identifier: Apache-2.0
"""schemathesis over the whole description against a running server: no 5xx, no answer outside the schema."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

import orjson
from twisted.trial.unittest import SkipTest, TestCase

from tests.fuzz import description, installs
from tests.harness import spec
from tests.harness.connections import Person
from tests.harness.servers import Server, parley

LONG = bool(os.environ.get("PARLEY_TEST_LONG"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


async def furnish(person: Person) -> dict[str, list[str]]:
    """Give an account a room, messages and more; values of parameters that are there afterwards, by name."""
    room = await person.create_room(preset="public_chat", room_alias_name="fuzz", name="Red bicycle")
    event = await person.send(room, "Is it still available?")
    user = f"/_matrix/client/v3/user/{person.user_id}"
    made = await person.http.good("POST", f"{user}/filter", {"room": {"timeline": {"limit": 3}}})
    await person.http.good("PUT", f"{user}/account_data/org.example.note", {"text": "red"})
    await person.http.good("PUT", f"{user}/rooms/{room}/tags/m.favourite", {"order": 0.5})
    backup = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "abc"}}
    version = await person.http.good("POST", "/_matrix/client/v3/room_keys/version", backup)
    token = str((await person.sync())["next_batch"])
    return {
        "roomId": [room],
        "room_id": [room],
        "roomIdOrAlias": [room, "#fuzz:localhost"],
        "roomAlias": ["#fuzz:localhost"],
        "alias": ["#fuzz:localhost"],
        "eventId": [event],
        "userId": [person.user_id],
        "user_id": [person.user_id],
        "serverName": ["localhost"],
        "eventType": ["m.room.message", "m.room.name"],
        "stateKey": ["", person.user_id],
        "type": ["org.example.note"],
        "deviceId": [person.device_id],
        "filterId": [str(made["filter_id"])],
        "filter": [str(made["filter_id"]), "{}"],
        "version": [str(version["version"])],
        "since": [token],
        "from": [token],
        "ruleId": [".m.rule.master", "red"],
        "keyName": ["displayname", "org.example.color"],
        "url": ["http://127.0.0.1:1/"],
    }


class Description(TestCase):
    """One server for each of the three parts of the description."""

    timeout = 7200 if LONG else 600

    def setUp(self) -> None:
        if spec.folder() is None:
            raise SkipTest("the specification's data is not here; set PARLEY_SPEC")
        self.folder = Path(tempfile.mkdtemp(prefix="parley-fuzz-"))
        self.server = parley(self.folder / "server", None)
        self.server.start()
        self.addCleanup(self.server.stop)

    def run_on(self, server: Server, part: str, admin: bool, examples: int) -> None:
        """Let schemathesis loose on one part."""
        person = Person(server.base, server.register("fuzz", admin))
        known = asyncio.run(furnish(person))
        file = self.folder / f"{part}.json"
        file.write_bytes(orjson.dumps(description.parts(known)[part]))
        command = [installs.schemathesis(), "run", str(file), "--url", server.base, "--no-color"]
        command += ["--header", f"Authorization: Bearer {person.token}", "--checks", ",".join(CHECKS)]
        command += ["--phases", "examples,coverage,fuzzing" if LONG else "examples,fuzzing"]
        command += ["--max-examples", str(examples), "--request-timeout", "30"]
        command += ["--warnings", "off", "--suppress-health-check", "all", "--continue-on-failure", "--no-shrink"]
        command += ["--generation-database", "none"] if LONG else ["--generation-deterministic"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        log = (self.folder / "server" / "out.log").read_text(errors="replace")
        self.assertEqual(done.returncode, 0, f"{done.stdout[-20000:]}\n{done.stderr[-2000:]}\n{log[-4000:]}")
        self.assertNotIn("Traceback", log)

    def test_ordinary_operations(self) -> None:
        self.run_on(self.server, "ordinary", admin=False, examples=100 if LONG else 4)

    def test_the_two_operations_that_share_their_path(self) -> None:
        self.run_on(self.server, "spaces", admin=False, examples=300 if LONG else 10)

    def test_operations_that_end_sessions_and_accounts(self) -> None:
        self.run_on(self.server, "final", admin=True, examples=100 if LONG else 10)
