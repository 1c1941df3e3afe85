# SPDX-License-Identifier: Apache-2.0
"""What a client's cryptography makes: signed device keys, one-time keys and cross-signing keys, from fixed seeds."""

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs
from nacl.signing import SigningKey

from homeserver.protocol import canonical_json
from homeserver.protocol.hashing import unpadded

Json = dict[str, Any]
ALGORITHM = "signed_curve25519"


@attrs.frozen
class KeyPair:
    """An ed25519 key made from a name."""

    secret: SigningKey

    @classmethod
    def named(cls, name: str) -> "KeyPair":
        return cls(SigningKey(hashlib.sha256(name.encode()).digest()))

    @property
    def public(self) -> str:
        return unpadded(bytes(self.secret.verify_key))

    def sign(self, value: Mapping[str, Any], user_id: str, key_id: str) -> Json:
        """The object with this key's signature added."""
        covered = {name: part for name, part in value.items() if name not in ("signatures", "unsigned")}
        signature = unpadded(self.secret.sign(canonical_json.encode(covered)).signature)
        signatures = {user: dict(own) for user, own in value.get("signatures", {}).items()}
        signatures.setdefault(user_id, {})[key_id] = signature
        return {**value, "signatures": signatures}


@attrs.frozen
class Device:
    """A device with its identity key."""

    user_id: str
    device_id: str
    generation: int = 0

    @property
    def key(self) -> KeyPair:
        return KeyPair.named(f"{self.user_id} {self.device_id} {self.generation}")

    @property
    def key_id(self) -> str:
        return f"ed25519:{self.device_id}"

    def sign(self, value: Mapping[str, Any]) -> Json:
        return self.key.sign(value, self.user_id, self.key_id)

    def keys(self) -> Json:
        """The signed identity keys."""
        return self.sign(
            {
                "user_id": self.user_id,
                "device_id": self.device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
                "keys": {
                    self.key_id: self.key.public,
                    f"curve25519:{self.device_id}": unpadded(hashlib.sha256(self.key.public.encode()).digest()),
                },
            }
        )

    def one_time(self, *numbers: int, fallback: bool = False) -> Json:
        """Signed one-time keys, or a fallback key, with these numbers."""
        kind: Json = {"fallback": True} if fallback else {}
        return {
            f"{ALGORITHM}:{number:08}": self.sign({"key": f"{self.device_id}+{number}", **kind}) for number in numbers
        }


@attrs.frozen
class Owner:
    """A user with three cross-signing keys."""

    user_id: str
    generation: int = 0

    def key(self, usage: str) -> KeyPair:
        return KeyPair.named(f"{self.user_id} {usage} {self.generation}")

    def public(self, usage: str) -> str:
        return self.key(usage).public

    def sign_with(self, usage: str, value: Mapping[str, Any]) -> Json:
        pair = self.key(usage)
        return pair.sign(value, self.user_id, f"ed25519:{pair.public}")

    def bare(self, usage: str) -> Json:
        """A key nobody has signed."""
        public = self.public(usage)
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{public}": public}}

    def upload(self) -> Json:
        """The body of an upload of all three keys."""
        return {
            "master_key": self.bare("master"),
            "self_signing_key": self.sign_with("master", self.bare("self_signing")),
            "user_signing_key": self.sign_with("master", self.bare("user_signing")),
        }
