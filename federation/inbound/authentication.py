# SPDX-License-Identifier: Apache-2.0
"""How a request of another server proves who sends it."""

from collections.abc import Callable, Mapping

from federation import x_matrix
from federation.outbound.destination import Destinations
from federation.outbound.keyring import Keyring
from homeserver.http.auth import Authenticate
from homeserver.http.endpoint import Bound, Call, Server
from homeserver.http.incoming import Incoming
from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError, forbidden
from homeserver.protocol.signing import BadSignature

Heard = Callable[[str], None]


class RequestAuth:
    """Signatures on requests. `heard` is told of each server that proves itself."""

    def __init__(self, server_name: str, keyring: Keyring, destinations: Destinations, heard: Heard) -> None:
        self._server_name = server_name
        self._keyring = keyring
        self._destinations = destinations
        self._heard = heard

    @property
    def kinds(self) -> Mapping[type, Authenticate]:
        """How the caller of a server-to-server endpoint is found."""
        return {Server: self.server}

    async def server(self, bound: Bound, call: Call, incoming: Incoming) -> Server:
        """The server that signed the request. Raises M_UNAUTHORIZED, M_FORBIDDEN and M_NOT_JSON."""
        claim = x_matrix.parse(call.header("authorization") or "")
        if claim is None:
            raise unauthorized("The request has no X-Matrix authorization")
        if claim.destination is not None and claim.destination != self._server_name:
            raise unauthorized(f"This server is not {claim.destination[:255]}")
        if claim.origin == self._server_name:
            raise unauthorized("A server does not ask itself")
        if not self._destinations.permitted(claim.origin):
            raise forbidden("This server does not federate with yours")
        content = canonical_json.decode(incoming.content(), strict=False) if incoming.size else None
        uri = incoming.path + (f"?{incoming.raw_query.decode('latin-1')}" if incoming.raw_query else "")
        message = x_matrix.signed(
            incoming.method, uri, claim.origin, self._server_name, content, has_content=incoming.size > 0
        )
        try:
            await self._keyring.verify(claim.origin, claim.key_id, claim.signature, message)
        except BadSignature as error:
            raise unauthorized(str(error)) from None
        self._heard(claim.origin)
        return Server(claim.origin, content)


def unauthorized(message: str) -> MatrixError:
    """401 M_UNAUTHORIZED."""
    return MatrixError(401, "M_UNAUTHORIZED", message)
