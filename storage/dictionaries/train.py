# SPDX-License-Identifier: Apache-2.0
"""How a dictionary is made: from envelopes of generated events of every room version, of many servers and users.

``python -m storage.dictionaries.train N`` writes `N.zdict` beside this file. Run it for a new N only.
"""

import random
import sys
from pathlib import Path

import zstandard

from homeserver.protocol.events import Draft, PrevRef, build
from homeserver.protocol.hashing import id_of_hash
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.protocol.signing import Signer, SigningKey
from storage.envelope import split

SIZE = 4096
EVENTS = 6000
_TYPES = (
    ("m.room.message", 40),
    ("m.room.encrypted", 40),
    ("m.reaction", 10),
    ("m.room.redaction", 3),
    ("m.room.member", 20),
    ("m.room.create", 2),
    ("m.room.power_levels", 3),
    ("m.room.join_rules", 2),
    ("m.room.history_visibility", 2),
    ("m.room.guest_access", 2),
    ("m.room.name", 2),
    ("m.room.topic", 2),
    ("m.room.avatar", 1),
    ("m.room.canonical_alias", 1),
    ("m.room.encryption", 2),
    ("m.space.child", 1),
    ("m.call.member", 2),
)


def _samples(chance: random.Random) -> list[bytes]:
    versions = [ROOM_VERSIONS[name] for name in ("12", "12", "12", "11", "10", "10", "9", "6", "4", "1")]
    types, weights = zip(*_TYPES, strict=True)
    found = []
    for _ in range(EVENTS):
        version = chance.choice(versions)
        kind = chance.choices(types, weights)[0]
        found.append(_envelope(chance, version, kind))
    return found


def _word(chance: random.Random, length: int) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def _reference(chance: random.Random, version: RoomVersion, server: str) -> PrevRef:
    digest = chance.randbytes(32)
    if version.references_carry_hashes:
        return PrevRef(f"${_word(chance, 18)}:{server}", digest)
    return PrevRef(id_of_hash(version, digest))


def _envelope(chance: random.Random, version: RoomVersion, kind: str) -> bytes:
    other = f"{_word(chance, 7)}.{chance.choice(['com', 'org', 'de', 'net'])}"
    server = chance.choice(["example.org", "matrix.org", other])
    signer = Signer(server, SigningKey.from_seed(f"a_{_word(chance, 4)}", chance.randbytes(32)))
    sender = f"@{_word(chance, chance.randint(3, 12))}:{server}"
    is_state = kind.startswith("m.room.") and kind not in ("m.room.message", "m.room.encrypted", "m.room.redaction")
    hashed_room = version.room_id_is_create_hash
    opaque = id_of_hash(version, chance.randbytes(32))[1:] if hashed_room else f"{_word(chance, 18)}:{server}"
    room: str | None = f"!{opaque}"
    if kind == "m.room.create" and hashed_room:
        room = None
    built = build(
        version,
        Draft(kind, {}, sender, (sender if kind == "m.room.member" else "") if is_state else None),
        room_id=room,
        prev_events=[_reference(chance, version, server) for _ in range(0 if kind == "m.room.create" else 1)],
        auth_events=[
            _reference(chance, version, server)
            for _ in range(0 if kind == "m.room.create" else chance.randint(2, 3) + version.create_in_auth_events)
        ],
        depth=chance.randint(1, 30_000),
        ts=chance.randint(1_700_000_000_000, 1_900_000_000_000),
        signer=signer,
        event_id=f"${_word(chance, 18)}:{server}" if version.sends_event_id else None,
    )
    return split(built.pdu_bytes, built.content_span)[1]


def train(number: int) -> int:
    """Writes the dictionary; gives its size."""
    samples: list[bytes | bytearray | memoryview[int]] = list(_samples(random.Random(number)))
    made = zstandard.train_dictionary(SIZE, samples, level=3, dict_id=number)
    return Path(__file__).with_name(f"{number}.zdict").write_bytes(made.as_bytes())


if __name__ == "__main__":
    print(train(int(sys.argv[1])))
