# SPDX-License-Identifier: Apache-2.0
"""How passwords are hashed and checked, in threads of their own."""

import unicodedata

from homeserver.config.model import Passwords as Settings
from homeserver.protocol.errors import MatrixError
from homeserver.runtime import Runtime

THREADS = 2
# bcrypt reads 72 bytes, and its library refuses more instead of cutting.
BCRYPT_BYTES = 72


class Passwords:
    """Makes argon2id hashes and checks those and imported bcrypt ones; two at a time, never on the reactor's thread."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings

    def check_strength(self, password: str) -> None:
        """Raise M_WEAK_PASSWORD for one that is too short."""
        if len(password) < self._settings.minimum_length:
            raise MatrixError(
                400, "M_WEAK_PASSWORD", f"The password must have at least {self._settings.minimum_length} characters"
            )

    async def hash(self, password: str) -> str:
        return await self._runtime.in_pool("passwords", THREADS, _hash, password, self._settings)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the stored one; without a stored hash it takes as long and answers False."""
        return await self._runtime.in_pool("passwords", THREADS, _verify, stored, password, self._settings)

    def is_outdated(self, stored: str) -> bool:
        """Whether the stored hash should be made anew at the next login: imported, or of another cost."""
        s = self._settings
        return f"$m={s.memory_kib},t={s.rounds},p=1$" not in stored


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _hash(password: str, settings: Settings) -> str:
    from argon2 import PasswordHasher  # takes a while to import

    hasher = PasswordHasher(settings.rounds, settings.memory_kib, 1)
    return hasher.hash(_normal(password))


def _verify(stored: str | None, password: str, settings: Settings) -> bool:
    if stored is None:
        _hash(password, settings)
        return False
    if stored.startswith(("$2a$", "$2b$", "$2y$")):
        import bcrypt

        given = (_normal(password) + (settings.imported_pepper or "").encode())[:BCRYPT_BYTES]
        return bcrypt.checkpw(given, stored.encode())
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return PasswordHasher().verify(stored, _normal(password))
    except (VerificationError, InvalidHashError):
        return False
