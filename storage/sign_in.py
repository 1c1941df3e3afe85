# SPDX-License-Identifier: Apache-2.0
"""What signing in and refreshing write: a device and its tokens, together with what allowed it."""

import attrs

from storage import accounts, devices, registration_tokens, threepids, tokens, uia_sessions
from storage.txn import Txn
from storage.validations import Validation


@attrs.frozen(slots=True)
class NewTokens:
    """Hashes of the tokens to hand out; `refresh` is None for a client that cannot refresh."""

    access: bytes
    now: int
    expires: int | None = None
    refresh: bytes | None = None
    refresh_expires: int | None = None


@attrs.frozen(slots=True)
class NewSession:
    """A device to sign in; an existing one keeps its name and keys and loses its earlier tokens."""

    device_id: str
    name: str | None
    tokens: NewTokens


@attrs.frozen(slots=True)
class Registration:
    """An account to make, and what made it possible."""

    account: accounts.NewAccount
    session: NewSession | None
    registration_token: str | None = None
    address: Validation | None = None
    uia_session: str | None = None


def issue(txn: Txn, usr: int, device: int, new: NewTokens, parent: int | None = None) -> None:
    """Store an access token, and a refresh token with it if there is one; `parent` is what they are exchanged for."""
    refresh = None
    if new.refresh is not None:
        refresh = tokens.add_refresh(txn, new.refresh, usr, device, new.now, new.refresh_expires, parent)
    tokens.add_access(txn, new.access, usr, device, new.now, new.expires, refresh)


def start(txn: Txn, usr: int, session: NewSession) -> int | None:
    """Sign a device in; returns its number, None when the account was closed meanwhile.

    "If the client sets the device_id, the server will invalidate any access and refresh tokens previously assigned to
    that device." (v1.19, Relationship between access tokens and devices)
    """
    account = accounts.by_usr(txn, usr)
    if account is None or account.deactivated:
        return None
    known = devices.find(txn, usr, session.device_id)
    if known is None:
        device = devices.add(txn, usr, session.device_id, session.name, session.tokens.now)
    else:
        device = known.device
        tokens.delete_of_device(txn, usr, device)
    issue(txn, usr, device, session.tokens)
    return device


def ensure_device(txn: Txn, usr: int, device_id: str, name: str | None, now: int) -> bool:
    """Make a device without tokens; False when it existed."""
    if devices.find(txn, usr, device_id) is not None:
        return False
    devices.add(txn, usr, device_id, name, now)
    return True


class TokenUsedUp(Exception):
    """The registration token ended while the person was registering."""


class AddressTaken(Exception):
    """Another account got the address while the person was registering."""


def register(txn: Txn, registration: Registration) -> int | None:
    """Make the account and sign its first device in; the account's number, None when the user id is taken.

    Raises TokenUsedUp or AddressTaken.
    """
    if accounts.find(txn, registration.account.user_id) is not None:
        return None
    address = registration.address
    if address is not None and threepids.owner(txn, address.medium, address.address) is not None:
        raise AddressTaken
    if registration.registration_token is not None and not registration_tokens.use(
        txn, registration.registration_token, registration.account.now
    ):
        raise TokenUsedUp
    usr = accounts.create(txn, registration.account)
    if usr is None:
        return None
    if address is not None:
        threepids.add_proven(txn, usr, address, registration.account.now)
    if registration.uia_session is not None:
        uia_sessions.delete(txn, registration.uia_session)
    if registration.session is not None:
        start(txn, usr, registration.session)
    return usr


def upgrade(txn: Txn, usr: int, password: str, session: NewSession | None, uia_session: str | None) -> bool:
    """Make a guest's account a person's, and sign a device in; False when it is no guest's any more."""
    if not accounts.make_person(txn, usr, password):
        return False
    if uia_session is not None:
        uia_sessions.delete(txn, uia_session)
    if session is not None:
        start(txn, usr, session)
    return True


def refresh(txn: Txn, old: bytes, new: NewTokens) -> tokens.RefreshToken | None:
    """Exchange a refresh token; the old one and its access token stay valid until a new one is used.

    None when the token is unknown; nothing is issued when it has expired or its account is locked.
    """
    found = tokens.find_refresh(txn, old)
    if found is None or found.locked or (found.expires is not None and found.expires <= new.now):
        return found
    tokens.settle(txn, found.nid)
    issue(txn, found.usr, found.device, new, parent=found.nid)
    return found
