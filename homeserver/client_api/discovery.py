# SPDX-License-Identifier: Apache-2.0
"""What a client asks first: where the server is, which versions it speaks, what an account may do.

https://spec.matrix.org/v1.18/client-server-api/#server-discovery
"""

from collections.abc import Mapping

import attrs

from homeserver.http.endpoint import Anyone, Call, User, endpoint
from homeserver.protocol.errors import not_found

SPEC = "https://spec.matrix.org/v1.18/client-server-api/#server-discovery"

VERSIONS = ("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1") + tuple(
    f"v1.{minor}" for minor in range(1, 13)
)
# Each is there: a client acts on the name alone.
UNSTABLE_FEATURES = (
    "org.matrix.e2e_cross_signing",
    "org.matrix.msc2285.stable",
    "org.matrix.msc3827.stable",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3771",
    "org.matrix.msc3773",
    "org.matrix.msc3981",
    "org.matrix.msc3916.stable",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133.stable",
    "org.matrix.msc4222",
    "org.matrix.msc3814",
    "org.matrix.simplified_msc3575",
    "org.matrix.msc3912",
    "org.matrix.msc4140",
    "org.matrix.msc4380.stable",
    "com.beeper.msc4169",
)


@attrs.frozen
class SupportContact:
    """Whom to turn to."""

    email: str | None
    matrix_id: str | None
    page: str | None


class WellKnown:
    """The well-known files of the domain in this server's name."""

    def __init__(
        self,
        base_url: str,
        delegate: str | None,
        support: SupportContact,
        policy_key: str | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`policy_key` is the ed25519 public key of a policy server on this host, `more` goes to clients as it is."""
        self._base_url = base_url
        self._delegate = delegate
        self._support = support
        self._policy_key = policy_key
        self._more = more or {}

    @endpoint("GET", "/.well-known/matrix/client", spec=SPEC)
    async def client(self, caller: Anyone) -> dict[str, object]:
        return {"m.homeserver": {"base_url": self._base_url}, **self._more}

    @endpoint("GET", "/.well-known/matrix/server")
    async def server(self, caller: Anyone) -> dict[str, object]:
        if self._delegate is None:
            raise not_found("This server does not take part in federation")
        return {"m.server": self._delegate}

    @endpoint("GET", "/.well-known/matrix/support", spec=SPEC)
    async def support(self, caller: Anyone) -> dict[str, object]:
        contact = {"role": "m.role.admin"}
        if self._support.email:
            contact["email_address"] = self._support.email
        if self._support.matrix_id:
            contact["matrix_id"] = self._support.matrix_id
        found: dict[str, object] = {"contacts": [contact]} if len(contact) > 1 else {}
        if self._support.page:
            found["support_page"] = self._support.page
        if not found:
            raise not_found("No support contact is configured")
        return found

    @endpoint("GET", "/.well-known/matrix/policy_server", spec=SPEC)
    async def policy_server(self, caller: Anyone) -> dict[str, object]:
        if self._policy_key is None:
            raise not_found("There is no policy server on this host")
        return {"public_keys": {"ed25519": self._policy_key}}


class Versions:
    """Specification versions and unstable features; the same for everybody."""

    def __init__(self, features: tuple[str, ...] = UNSTABLE_FEATURES) -> None:
        self._answer: dict[str, object] = {
            "versions": list(VERSIONS),
            "unstable_features": dict.fromkeys(features, True),
        }

    @endpoint("GET", "/_matrix/client/versions", spec=SPEC)
    async def versions(self, caller: Anyone) -> dict[str, object]:
        return self._answer


class Capabilities:
    """What this server lets an account do.

    `room_versions` maps each version to "stable" or "unstable"; `capabilities` are further ones, by name.
    """

    def __init__(
        self, default_version: str, room_versions: Mapping[str, str], capabilities: Mapping[str, object]
    ) -> None:
        self._answer: dict[str, dict[str, object]] = {
            "capabilities": {
                "m.room_versions": {"default": default_version, "available": dict(room_versions)},
                **capabilities,
            }
        }
        moderation = {"m.account_moderation": {"suspend": True, "lock": True}}
        self._of_administrators = {"capabilities": {**self._answer["capabilities"], **moderation}}

    @endpoint("GET", "/_matrix/client/v3/capabilities", guests=True, spec=SPEC)
    async def capabilities(self, caller: User, call: Call) -> Mapping[str, object]:
        return self._of_administrators if caller.is_admin else self._answer
