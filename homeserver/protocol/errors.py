# SPDX-License-Identifier: Apache-2.0
"""The errors of the protocol: what a client may be told, and what the authorization rules refuse.

https://spec.matrix.org/v1.18/client-server-api/#standard-error-response
"""

from typing import Any


class MatrixError(Exception):
    """An error that a client or another server is shown: status, errcode, message and further keys of the body."""

    def __init__(self, status: int, errcode: str, message: str, **extra: object) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode
        self.message = message
        self.extra: dict[str, object] = extra

    @property
    def retry_after_ms(self) -> int | None:
        """How long the caller is asked to wait, in milliseconds."""
        value = self.extra.get("retry_after_ms")
        return value if isinstance(value, int) else None

    def body(self) -> dict[str, Any]:
        """The standard error object."""
        return {"errcode": self.errcode, "error": self.message, **self.extra}


class Rejected(Exception):
    """The authorization rules refuse an event; `rule` is numbered as `auth_rules` says."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"rule {rule}: {reason}")
        self.rule = rule
        self.reason = reason


class MissingEvents(Exception):
    """A decision needs events that it was not given; the caller loads `ids` and asks again."""

    def __init__(self, ids: frozenset[str]) -> None:
        super().__init__(f"{len(ids)} events are missing")
        self.ids = ids


def not_found(message: str = "Not found") -> MatrixError:
    """404 M_NOT_FOUND."""
    return MatrixError(404, "M_NOT_FOUND", message)


def forbidden(message: str = "You are not allowed to do this") -> MatrixError:
    """403 M_FORBIDDEN."""
    return MatrixError(403, "M_FORBIDDEN", message)


def bad_json(message: str) -> MatrixError:
    """400 M_BAD_JSON: valid JSON of the wrong shape."""
    return MatrixError(400, "M_BAD_JSON", message)


def not_json(message: str = "The body is not valid JSON") -> MatrixError:
    """400 M_NOT_JSON."""
    return MatrixError(400, "M_NOT_JSON", message)


def invalid_param(message: str) -> MatrixError:
    """400 M_INVALID_PARAM."""
    return MatrixError(400, "M_INVALID_PARAM", message)


def missing_param(message: str) -> MatrixError:
    """400 M_MISSING_PARAM."""
    return MatrixError(400, "M_MISSING_PARAM", message)


def unrecognized(status: int = 404, message: str = "Unrecognized request") -> MatrixError:
    """404 (unknown path) or 405 (unknown method) M_UNRECOGNIZED."""
    return MatrixError(status, "M_UNRECOGNIZED", message)


def too_large(message: str) -> MatrixError:
    """413 M_TOO_LARGE."""
    return MatrixError(413, "M_TOO_LARGE", message)


def limit_exceeded(retry_after_ms: int) -> MatrixError:
    """429 M_LIMIT_EXCEEDED."""
    return MatrixError(429, "M_LIMIT_EXCEEDED", "Too many requests", retry_after_ms=retry_after_ms)


def unknown_token(soft_logout: bool = False) -> MatrixError:
    """401 M_UNKNOWN_TOKEN."""
    return MatrixError(401, "M_UNKNOWN_TOKEN", "Unrecognized access token", soft_logout=soft_logout)


def missing_token() -> MatrixError:
    """401 M_MISSING_TOKEN."""
    return MatrixError(401, "M_MISSING_TOKEN", "Missing access token")


def user_in_use(message: str = "This user name is already taken") -> MatrixError:
    """400 M_USER_IN_USE."""
    return MatrixError(400, "M_USER_IN_USE", message)


def guest_forbidden(message: str = "Guests may not do this") -> MatrixError:
    """403 M_GUEST_ACCESS_FORBIDDEN."""
    return MatrixError(403, "M_GUEST_ACCESS_FORBIDDEN", message)


def unsupported_room_version(version: str) -> MatrixError:
    """400 M_UNSUPPORTED_ROOM_VERSION, the answer to clients."""
    return MatrixError(400, "M_UNSUPPORTED_ROOM_VERSION", f"Room version {version!r} is not supported")


def incompatible_room_version(version: str) -> MatrixError:
    """400 M_INCOMPATIBLE_ROOM_VERSION, the answer to servers."""
    return MatrixError(400, "M_INCOMPATIBLE_ROOM_VERSION", f"The room has version {version!r}", room_version=version)
