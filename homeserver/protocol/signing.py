# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys of servers, their files, and signatures on JSON.

https://spec.matrix.org/v1.18/appendices/#signing-json
"""

import re
from collections.abc import Mapping
from typing import Any

import attrs
from nacl.bindings import crypto_sign as nacl_sign
from nacl.bindings import crypto_sign_BYTES, crypto_sign_ed25519_sk_to_pk, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

from homeserver.protocol import canonical_json
from homeserver.protocol.hashing import decode_base64, unpadded

ALGORITHM = "ed25519"
SEED_BYTES = 32
KEY_BYTES = 32

# "The key version MUST have characters matching the regular expression [a-zA-Z0-9_]."
_KEY_VERSION = re.compile(r"[a-zA-Z0-9_]+")


class BadSignature(Exception):
    """A signature is missing, malformed or does not fit."""


@attrs.frozen
class VerifyKey:
    """A server's public key."""

    key_id: str
    public: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, key_id: str, encoded: object) -> "VerifyKey":
        """From the key's id and its base64; raises ValueError."""
        if not key_id.startswith(f"{ALGORITHM}:"):
            raise ValueError("unknown signing algorithm")
        public = decode_base64(encoded) if isinstance(encoded, str) else b""
        if len(public) != KEY_BYTES:
            raise ValueError("an ed25519 key has 32 bytes")
        return cls(key_id, public)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature fits the message."""
        if len(signature) != crypto_sign_BYTES:
            return False
        try:
            crypto_sign_open(signature + message, self.public)
        except CryptoError:
            return False
        return True


@attrs.frozen
class SigningKey:
    """A private key; `version` is the part after `ed25519:`."""

    version: str
    secret: bytes = attrs.field(repr=False)

    @classmethod
    def from_seed(cls, version: str, seed: bytes) -> "SigningKey":
        """From 32 random bytes; raises ValueError."""
        if not _KEY_VERSION.fullmatch(version):
            raise ValueError("a key version consists of letters, digits and underscores")
        if len(seed) != SEED_BYTES:
            raise ValueError("an ed25519 seed has 32 bytes")
        return cls(version, crypto_sign_seed_keypair(seed)[1])

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """From a line `ed25519 VERSION SEED`, the format of Synapse's key file; raises ValueError."""
        keys = parse_key_file(text)
        if not keys:
            raise ValueError("the file holds no key")
        return keys[0]

    @property
    def key_id(self) -> str:
        """`ed25519:VERSION`."""
        return f"{ALGORITHM}:{self.version}"

    @property
    def seed(self) -> bytes:
        """The 32 bytes the key is made of."""
        return self.secret[:SEED_BYTES]

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.key_id, crypto_sign_ed25519_sk_to_pk(self.secret))

    @property
    def public_base64(self) -> str:
        """The public half as it is published."""
        return unpadded(crypto_sign_ed25519_sk_to_pk(self.secret))

    def line(self) -> str:
        """The key file's line, with its newline."""
        return f"{ALGORITHM} {self.version} {unpadded(self.seed)}\n"

    def sign(self, message: bytes) -> str:
        """Signature as unpadded base64."""
        return unpadded(nacl_sign(message, self.secret)[:crypto_sign_BYTES])


@attrs.frozen
class Signer:
    """A server's name with its key."""

    server_name: str
    key: SigningKey

    def sign(self, message: bytes) -> str:
        """Signature as unpadded base64."""
        return self.key.sign(message)


def parse_key_file(text: str) -> list[SigningKey]:
    """All keys of a key file, the first being the current one; raises ValueError."""
    keys = []
    for line in text.splitlines():
        if not line.strip():
            continue
        words = line.split()
        if len(words) != 3 or words[0] != ALGORITHM:
            raise ValueError("expected a line: ed25519 VERSION SEED")
        keys.append(SigningKey.from_seed(words[1], decode_base64(words[2])))
    return keys


def sign_json(value: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """The object with the signer's signature added; `unsigned` and other signatures are not covered."""
    signature = signer.sign(_covered_bytes(value))
    present = value.get("signatures")
    signatures = dict(present) if isinstance(present, dict) else {}
    own = signatures.get(signer.server_name)
    signatures[signer.server_name] = {**(own if isinstance(own, dict) else {}), signer.key.key_id: signature}
    return {**value, "signatures": signatures}


def signatures_of(value: Mapping[str, Any], entity: str) -> dict[str, bytes]:
    """Key id → signature for the ed25519 signatures by `entity` that can be decoded."""
    signatures = value.get("signatures")
    own = signatures.get(entity) if isinstance(signatures, dict) else None
    found: dict[str, bytes] = {}
    if isinstance(own, dict):
        for key_id, encoded in own.items():
            if key_id.startswith(f"{ALGORITHM}:") and isinstance(encoded, str):
                try:
                    found[key_id] = decode_base64(encoded)
                except ValueError:
                    continue
    return found


def verify_signed(value: Mapping[str, Any], entity: str, keys: Mapping[str, VerifyKey]) -> None:
    """Raise BadSignature unless `entity` has signed the object with one of `keys` (by key id)."""
    verify_bytes(_covered_bytes(value), signatures_of(value, entity), keys, entity)


def verify_bytes(
    message: bytes, signatures: Mapping[str, bytes], keys: Mapping[str, VerifyKey], entity: str = "the server"
) -> None:
    """Raise BadSignature unless there is a signature by one of `keys`, and all that are by one of them fit."""
    if not signatures:
        raise BadSignature(f"No signature by {entity}")
    known = [(keys[key_id], signature) for key_id, signature in signatures.items() if key_id in keys]
    if not known:
        raise BadSignature(f"No known key among the signatures by {entity}")
    # "If all signatures from known unexpired keys from the originating server(s) are found to be valid"
    if not all(key.verifies(message, signature) for key, signature in known):
        raise BadSignature(f"The signature by {entity} does not fit")


def _covered_bytes(value: Mapping[str, Any]) -> bytes:
    """What a signature covers: everything but `signatures` and `unsigned`."""
    return canonical_json.encode({k: v for k, v in value.items() if k not in ("signatures", "unsigned")})
