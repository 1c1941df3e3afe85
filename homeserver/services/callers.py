# SPDX-License-Identifier: Apache-2.0
"""Who is calling: the one value that says what an access token stands for."""

import attrs

from homeserver.protocol.errors import MatrixError


@attrs.frozen(slots=True)
class User:
    """The account and device behind an access token.

    `usr` is the account's number in the database, `device` the device's (0 when the token has no device), `token` the
    number of the access token itself (0 for an application service acting as the user). `is_limited` is whether rate
    limits count.
    """

    user_id: str
    usr: int
    device_id: str | None
    device: int
    is_guest: bool = False
    is_admin: bool = False
    token: int = 0
    appservice_id: str | None = None
    is_suspended: bool = False
    is_limited: bool = True


def user_locked() -> MatrixError:
    """The answer to every request of a locked account; the client keeps its data and waits."""
    return MatrixError(401, "M_USER_LOCKED", "This account has been locked", soft_logout=True)


def user_suspended() -> MatrixError:
    return MatrixError(403, "M_USER_SUSPENDED", "This account is suspended and may only read")


def require_not_suspended(user: User) -> None:
    """Raise M_USER_SUSPENDED for what a suspended account may not do: join, knock, invite, send, edit a profile."""
    if user.is_suspended:
        raise user_suspended()


def require_admin(user: User) -> None:
    """Raise M_FORBIDDEN unless the caller administers this server."""
    if not user.is_admin:
        raise MatrixError(403, "M_FORBIDDEN", "You are not a server administrator")
