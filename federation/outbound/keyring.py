# SPDX-License-Identifier: Apache-2.0
"""Which keys of other servers are known, how more are had, and for what each is good.

https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore

from federation.outbound.client import Client
from federation.together import together
from homeserver.protocol.event_signatures import MAX_KEY_VALIDITY_MS, key_is_valid, required_signers, verify_event
from homeserver.protocol.events import Event
from homeserver.protocol.signing import BadSignature, Signer, VerifyKey, signatures_of, verify_bytes, verify_signed
from homeserver.runtime import Runtime
from homeserver.services.database import Database
from homeserver.services.ports import RemoteFailure
from storage import server_keys
from storage.server_keys import StoredKey

REMEMBERED = 20_000
ASK_AGAIN_MS = 60_000
MOST_KEYS = 200
FOREVER = 2**62
MOST_AT_ONCE = 64
KEY_PATH = "/_matrix/key/v2/server"

Keys = Mapping[str, StoredKey]


@attrs.frozen
class OwnKeys:
    """This server's name and key, and the keys it signed with before: key → when that ended (ms)."""

    signer: Signer
    retired: Mapping[VerifyKey, int] = attrs.field(factory=dict)

    def known(self) -> Keys:
        """All of them, for events of ours that come back."""
        current = self.signer.key.verify_key
        found = {one.key_id: StoredKey(one.key_id, one.public, until, until) for one, until in self.retired.items()}
        return {**found, current.key_id: StoredKey(current.key_id, current.public, FOREVER, FOREVER)}


class Keyring:
    """Keys by server. Own keys are known; others are asked for once at a time, and kept."""

    def __init__(
        self,
        own: "OwnKeys",
        runtime: Runtime,
        db: Database,
        client: Client,
        notaries: Sequence[str] = (),
    ) -> None:
        self._runtime = runtime
        self._db = db
        self._client = client
        self._notaries = notaries
        self._own = own
        self._turns = DeferredSemaphore(MOST_AT_ONCE)
        self._known: OrderedDict[str, Keys] = OrderedDict()
        self._asked: OrderedDict[str, int] = OrderedDict()
        self._asking: dict[str, list[Deferred[None]]] = {}

    # ---- requests ----

    async def verify(self, server: str, key_id: str, signature: str, message: bytes) -> None:
        """Raises BadSignature unless the server signed the message with a key that is valid now."""
        now = self._runtime.now_ms()
        keys = await self._having(server, [key_id], now)
        stored = keys.get(key_id)
        if stored is None or trusted_until(stored) < now:
            raise BadSignature(f"No valid key {key_id} of {server} is known")
        found = signatures_of({"signatures": {server: {key_id: signature}}}, server)
        verify_bytes(message, found, {key_id: VerifyKey(key_id, stored.public)}, server)

    async def verify_json(self, server: str, value: Mapping[str, Any]) -> None:
        """Raises BadSignature unless the server signed the object."""
        now = self._runtime.now_ms()
        keys = await self._having(server, list(signatures_of(value, server)), now)
        verify_signed(value, server, {one: VerifyKey(one, key.public) for one, key in keys.items()})

    # ---- events ----

    async def check_events(self, events: Sequence[Event]) -> dict[str, str]:
        """Event id → what is wrong with its signatures, for those with which something is."""
        wanted: dict[str, set[str]] = {}
        newest: dict[str, int] = {}
        for event in events:
            for server in required_signers(event):
                wanted.setdefault(server, set()).update(signatures_of(event.pdu, server))
                newest[server] = max(newest.get(server, 0), min(event.origin_server_ts, self._runtime.now_ms()))
        servers = [server for server in wanted if server]
        keys = await together(self._having(server, wanted[server], newest[server]) for server in servers)
        found: dict[str, Keys] = dict(zip(servers, keys, strict=True))
        if len(events) <= 8:
            return check_all(events, found)
        return await self._runtime.in_thread(check_all, events, found)

    # ---- keys ----

    async def stored(self, server: str) -> Keys:
        """What is known of a server's keys, without asking anybody."""
        known = self._known.get(server)
        if known is None:
            rows = await self._db.point(server_keys.of_server, server)
            known = {one.key_id: one for one in rows}
            self._keep(server, known)
        else:
            self._known.move_to_end(server)
        return known

    async def _having(self, server: str, key_ids: Collection[str], at: int) -> Keys:
        """The server's keys, fetched when one of these is not known, or is not known to be good at a time (ms)."""
        if server == self._own.signer.server_name:
            return self._own.known()
        known = await self.stored(server)
        if key_ids and all(one in known and trusted_until(known[one]) >= at for one in key_ids):
            return known
        await self.refresh_politely(server)
        return await self.stored(server)

    async def refresh_politely(self, server: str) -> None:
        """Asks for the server's keys unless that was done just now."""
        last = self._asked.get(server)
        if last is None or self._runtime.now_ms() - last >= ASK_AGAIN_MS:
            await self.refresh(server)

    async def refresh(self, server: str) -> None:
        """Asks for the server's keys: itself, then notaries. Who asks meanwhile waits for the same answer."""
        others = self._asking.get(server)
        if others is not None:
            waiting: Deferred[None] = Deferred()
            others.append(waiting)
            await waiting
            return
        self._asking[server] = []
        try:
            # Anybody can name servers whose keys are wanted: only so many are asked at once.
            await self._turns.acquire()
            try:
                keys = await self._fetched(server)
            finally:
                self._turns.release()
            if keys:
                await self._db.write(server_keys.put, server, keys)
                self._known.pop(server, None)
            self._asked[server] = self._runtime.now_ms()
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
        finally:
            for one in self._asking.pop(server):
                one.callback(None)

    async def _fetched(self, server: str) -> list[StoredKey]:
        try:
            answer = await self._client.get(server, KEY_PATH, signs=False, insists=True, largest=1 << 20, seconds=10)
            return read_keys(server, answer, self._runtime.now_ms())
        except (RemoteFailure, BadSignature):
            pass
        for notary in self._notaries:
            try:
                return await self._from_notary(notary, server)
            except (RemoteFailure, BadSignature):
                continue
        return []

    async def _from_notary(self, notary: str, server: str) -> list[StoredKey]:
        now = self._runtime.now_ms()
        body: dict[str, Any] = {"server_keys": {server: {}}}
        answer = await self._client.call(notary, "POST", "/_matrix/key/v2/query", body=body, seconds=10)
        found: list[StoredKey] = []
        listed = answer.get("server_keys") if isinstance(answer, dict) else None
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and one.get("server_name") == server:
                await self.verify_json(notary, one)
                found += read_keys(server, one, now)
        return found

    def _keep(self, server: str, keys: Keys) -> None:
        self._known[server] = keys
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def trusted_until(key: StoredKey) -> int:
    """Until when a key is taken for valid: what its server says, but a week after it said so at most."""
    return min(key.valid_until, key.fetched + MAX_KEY_VALIDITY_MS)


def read_keys(server: str, answer: object, now: int) -> list[StoredKey]:
    """The keys of a server's own answer, old ones included. Raises BadSignature unless each current key signed it."""
    if not isinstance(answer, dict) or answer.get("server_name") != server:
        raise BadSignature(f"the answer is not about {server}")
    valid_until = answer.get("valid_until_ts")
    current, old = answer.get("verify_keys"), answer.get("old_verify_keys", {})
    if type(valid_until) is not int or not isinstance(current, dict) or not isinstance(old, dict):
        raise BadSignature("the answer has not the form of server keys")
    found = list(_parsed(current, lambda _: valid_until, now))
    if not found or len(current) + len(old) > MOST_KEYS:
        raise BadSignature("the answer holds no key, or too many")
    for key in found:
        verify_signed(answer, server, {key.key_id: VerifyKey(key.key_id, key.public)})
    return found + list(_parsed(old, lambda entry: entry.get("expired_ts"), now))


def _parsed(keys: Mapping[str, Any], until: Any, now: int) -> Iterable[StoredKey]:
    for key_id, entry in keys.items():
        valid = until(entry) if isinstance(entry, dict) else None
        if type(valid) is not int or not -(2**62) < valid < 2**62:
            continue
        try:
            key = VerifyKey.parse(key_id, entry.get("key"))
        except ValueError:
            continue
        yield StoredKey(key_id, key.public, valid, now)


def check_all(events: Sequence[Event], found: Mapping[str, Keys]) -> dict[str, str]:
    """Event id → what is wrong with its signatures, by keys that are at hand."""
    wrong: dict[str, str] = {}
    for event in events:
        usable = {server: good_for(event, found.get(server, {})) for server in required_signers(event)}
        try:
            verify_event(event, usable)
        except BadSignature as error:
            wrong[event.event_id] = str(error)
    return wrong


def good_for(event: Event, keys: Keys) -> dict[str, VerifyKey]:
    """The keys that may sign an event of that time."""
    return {
        key_id: VerifyKey(key_id, key.public)
        for key_id, key in keys.items()
        if key_is_valid(event.version, key.valid_until, key.fetched, event.origin_server_ts)
    }
