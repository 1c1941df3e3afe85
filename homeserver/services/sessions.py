# SPDX-License-Identifier: Apache-2.0
"""Which user an access token stands for, answered from memory, and when each device was last seen."""

from collections import OrderedDict
from collections.abc import Container
from typing import Protocol

import attrs

from homeserver.protocol.errors import missing_token, unknown_token
from homeserver.runtime import Runtime
from homeserver.services.callers import User, user_locked
from homeserver.services.database import Database
from storage import devices, tokens

GUEST = 1
CACHED_TOKENS = 50_000
SEEN_EVERY_MS = 60_000


@attrs.frozen
class Acting:
    """As whom an application service acts."""

    user: User
    locked: bool


class ServiceTokens(Protocol):
    """Port to the application services: who may use a token that no account owns."""

    @property
    def tokens(self) -> Container[bytes]:
        """Hashes of the services' tokens."""

    async def acting(self, token: bytes, user_id: str | None, device_id: str | None) -> Acting:
        """As whom the service with this token acts; raises M_FORBIDDEN or M_UNKNOWN_DEVICE."""


@attrs.define(slots=True)
class Held:
    """A token in memory."""

    user: User
    expires: int | None
    locked: bool
    noted: int = 0
    ip: str = ""


class Sessions:
    """Access tokens to users. One point read per token and process; every change of an account forgets its tokens."""

    def __init__(self, database: Database, runtime: Runtime, services: ServiceTokens | None = None) -> None:
        self._database = database
        self._runtime = runtime
        self._services = services
        self._held: OrderedDict[bytes, Held] = OrderedDict()
        self._of_user: dict[int, set[bytes]] = {}
        self._changes = 0
        self._seen: dict[int, devices.Seen] = {}
        self._flush_due = False

    async def by_token(
        self,
        token: str | None,
        *,
        ip: str = "",
        user_agent: str = "",
        locked_allowed: bool = False,
        acting_user: str | None = None,
        acting_device: str | None = None,
    ) -> User:
        """The user of an access token. Raises M_MISSING_TOKEN, M_UNKNOWN_TOKEN or M_USER_LOCKED.

        `acting_user` and `acting_device` are the identity an application service asserts; others' are ignored.
        """
        if not token:
            raise missing_token()
        key = tokens.digest(token)
        held: Held | None
        if self._services is not None and key in self._services.tokens:
            held = await self._of_service(self._services, key, acting_user, acting_device)
        else:
            held = self._held.get(key)
            if held is None:
                held = await self._look_up(key)
            else:
                self._held.move_to_end(key)
        if held is None:
            raise unknown_token()
        now = self._runtime.now_ms()
        if held.expires is not None and held.expires <= now:
            raise unknown_token(soft_logout=True)
        if held.locked and not locked_allowed:
            raise user_locked()
        if now - held.noted >= SEEN_EVERY_MS or held.ip != ip:
            self._note(held, now, ip, user_agent)
        return held.user

    async def _look_up(self, key: bytes) -> Held | None:
        changes = self._changes
        owner = await self._database.point(tokens.find, key)
        if owner is None:
            return None
        if owner.unsettled is not None:
            await self._database.write(tokens.settle, owner.unsettled)
            self.forget_user(owner.usr)
            changes = self._changes
        user = User(
            user_id=owner.user_id,
            usr=owner.usr,
            device_id=owner.device_id,
            device=owner.device,
            is_guest=owner.kind == GUEST,
            is_admin=owner.admin,
            token=owner.token,
            appservice_id=None,
            is_suspended=owner.suspended,
        )
        held = Held(user, owner.expires, owner.locked)
        if changes == self._changes:  # nothing was revoked while the row was read
            self._hold(key, held)
        return held

    def _hold(self, key: bytes, held: Held) -> None:
        self._held[key] = held
        self._of_user.setdefault(held.user.usr, set()).add(key)
        if len(self._held) > CACHED_TOKENS:
            oldest, gone = self._held.popitem(last=False)
            keys = self._of_user[gone.user.usr]
            keys.discard(oldest)
            if not keys:
                del self._of_user[gone.user.usr]

    async def _of_service(
        self, services: ServiceTokens, token: bytes, user_id: str | None, device_id: str | None
    ) -> Held:
        key = token if user_id is None and device_id is None else tokens.digest(f"{token!r} {user_id} {device_id}")
        held = self._held.get(key)
        if held is None:
            changes = self._changes
            acting = await services.acting(token, user_id, device_id)
            held = Held(acting.user, None, acting.locked)
            if changes == self._changes:
                self._hold(key, held)
        else:
            self._held.move_to_end(key)
        return held

    def forget_user(self, usr: int) -> None:
        """Read the tokens of this account again; call after every change to it, its devices or its tokens."""
        self._changes += 1
        for key in self._of_user.pop(usr, ()):
            self._held.pop(key, None)

    def forget_everybody(self) -> None:
        """Read all tokens again: the database was lost and came back."""
        self._changes += 1
        self._of_user.clear()
        self._held.clear()

    def _note(self, held: Held, now: int, ip: str, user_agent: str) -> None:
        held.noted = now
        held.ip = ip
        if not held.user.device:
            return
        self._seen[held.user.device] = devices.Seen(held.user.device, now, ip, user_agent)
        if not self._flush_due:
            self._flush_due = True
            self._runtime.call_later(SEEN_EVERY_MS / 1000, self._flush_later)

    def _flush_later(self) -> None:
        self._runtime.background("recording last seen", self.flush())

    async def flush(self) -> None:
        """Write what was seen since the last time; also called when the server stops."""
        self._flush_due = False
        if self._seen:
            seen = list(self._seen.values())
            await self._database.write(devices.record_seen, seen)
            for one in seen:
                if self._seen.get(one.device) is one:
                    del self._seen[one.device]

    def seen(self, device: int) -> devices.Seen | None:
        """When and from where the device was last seen, if that is not written yet."""
        return self._seen.get(device)

    @property
    def cached(self) -> int:
        """Number of tokens in memory."""
        return len(self._held)
