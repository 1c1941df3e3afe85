# SPDX-License-Identifier: Apache-2.0
"""What tests of end-to-end encryption begin with."""

from typing import Any

from homeserver.compose.alone import NoRemoteKeys
from homeserver.services.claim_journal import ClaimJournal
from homeserver.services.e2e_keys import E2eKeys
from storage import membership, names
from storage.txn import Txn
from tests.e2e.identities import ALGORITHM, Device, Json, Owner
from tests.harness.server import PASSWORD, HomeserverCase, Reply, Session

V3 = "/_matrix/client/v3"


class EncryptionCase(HomeserverCase):
    """Calls of the encryption endpoints, short."""

    def device(self, session: Session, generation: int = 0) -> Device:
        return Device(session.user_id, session.device_id, generation)

    async def upload(self, session: Session, expect: int | None = 200, **body: Any) -> Reply:
        return await self.request("POST", f"{V3}/keys/upload", body, session, expect=expect)

    async def publish(self, session: Session, *numbers: int) -> Device:
        """Publish the identity keys of a session's device, and one-time keys with these numbers."""
        device = self.device(session)
        await self.upload(session, device_keys=device.keys(), one_time_keys=device.one_time(*numbers))
        return device

    async def query(self, session: Session, *user_ids: str) -> Json:
        body = {"device_keys": {user_id: [] for user_id in user_ids}}
        return dict((await self.request("POST", f"{V3}/keys/query", body, session, expect=200)).json)

    async def claim(self, session: Session, target: Session, algorithm: str = ALGORITHM) -> Json | None:
        """The key of a claim from one device, by its name; None when there was none."""
        body = {"one_time_keys": {target.user_id: {target.device_id: algorithm}}}
        reply = await self.request("POST", f"{V3}/keys/claim", body, session, expect=200)
        found: Json | None = reply.json["one_time_keys"].get(target.user_id, {}).get(target.device_id)
        return found

    async def sign_cross(self, session: Session, body: Json, password: str | None = None) -> Reply:
        """Upload cross-signing keys, proving who asks when a password is given."""
        if password is not None:
            identifier = {"type": "m.id.user", "user": session.user_id}
            body = {**body, "auth": {"type": "m.login.password", "identifier": identifier, "password": password}}
        return await self.request("POST", f"{V3}/keys/device_signing/upload", body, session)

    async def cross_sign(self, session: Session, generation: int = 0) -> Owner:
        """Give a user cross-signing keys."""
        owner = Owner(session.user_id, generation)
        reply = await self.sign_cross(session, owner.upload(), PASSWORD)
        self.assertEqual(reply.status, 200, reply.json)
        return owner

    async def send_to_device(
        self, session: Session, messages: Any, txn: str, kind: str = "m.test", expect: int | None = 200
    ) -> Reply:
        path = f"{V3}/sendToDevice/{kind}/{txn}"
        return await self.request("PUT", path, {"messages": messages}, session, expect=expect)

    # ---- what the database says ----

    def app_keys(self) -> E2eKeys:
        """The service that sync asks for counts, beside the running server's own."""
        base = self.app.base
        journal = ClaimJournal(base.runtime, self.folder / "beside.position")
        keys = E2eKeys(base.db, "parley.test", NoRemoteKeys(), journal)
        base.db.subscribe(keys.forget_counts)
        return keys

    async def numbers(self, session: Session) -> tuple[int, int]:
        """The numbers of a session's user and device."""

        def look(txn: Txn) -> tuple[int, int]:
            usr = names.user_nid(txn, session.user_id)
            assert usr is not None
            row = txn.one("SELECT nid FROM device WHERE usr = ? AND id = ?", (usr, session.device_id.encode()))
            return usr, row[0] if row else 0

        return await self.app.base.db.read(look)

    async def set_membership(self, usr: int, room: int, kind: int) -> int:
        """Put a user into a room, or out of it, as an event would; the position of the change."""

        def write(txn: Txn) -> int:
            pos = txn.position()
            membership.put(txn, usr, room, kind, pos, pos)
            return pos

        return await self.app.base.db.write(write)
