# SPDX-License-Identifier: Apache-2.0
"""How another server is found and talked with, step by step, for an admin who wonders why it is not."""

from collections.abc import Callable

import attrs

from federation.outbound.keyring import KEY_PATH, read_keys
from federation.outbound.resolver import Resolver
from federation.outbound.transport import Response, Target, Transport, Unreachable
from homeserver.protocol import canonical_json
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.signing import BadSignature
from homeserver.runtime import Runtime

VERSION_PATH = "/_matrix/federation/v1/version"
SECONDS = 15.0
LARGEST = 1 << 20

Say = Callable[[str], None]


@attrs.frozen
class Examiner:
    """Asks what anybody may ask; nothing is signed, so that one's own name can be looked at as others see it."""

    runtime: Runtime
    resolver: Resolver
    transport: Transport

    async def examine(self, server: str, say: Say) -> bool:
        """Tells each step; whether all went well."""
        try:
            found = await self.resolver.resolve(server)
        except Unreachable as error:
            say(f"FAILED  {server}: {error.reason}")
            return False
        for step in found.steps:
            say(f"        {step}")
        results = [await self._target(server, target, say) for target in found.targets]
        return all(results)

    async def _target(self, server: str, target: Target, say: Say) -> bool:
        where = f"{target.host} port {target.port}, certificate for {target.tls_name}"
        try:
            response = await self._get(target, VERSION_PATH)
        except Unreachable as error:
            say(f"FAILED  {where}: {error.reason}")
            return False
        software = _json(response).get("server")
        shown = software if isinstance(software, dict) else {}
        say(f"ok      {where}: {shown.get('name', 'something')} {shown.get('version', '')}".rstrip())
        try:
            answer = _json(await self._get(target, KEY_PATH))
            keys = read_keys(server, answer, self.runtime.now_ms())
        except (Unreachable, BadSignature) as error:
            say(f"FAILED  its keys: {error}")
            return False
        now = self.runtime.now_ms()
        valid = [key for key in keys if key.valid_until >= now]
        named = ", ".join(key.key_id for key in valid)
        say(f"ok      its keys: {named}" if valid else "FAILED  its keys: none is valid now")
        return bool(valid)

    async def _get(self, target: Target, path: str) -> Response:
        response = await self.transport.request(target, "GET", path, {}, timeout=SECONDS, largest=LARGEST)
        if response.status != 200:
            raise Unreachable(f"{path} answered with status {response.status}")
        return response


def _json(response: Response) -> dict[str, object]:
    try:
        found = canonical_json.decode(response.body, strict=False)
    except MatrixError:
        return {}
    return found if isinstance(found, dict) else {}
