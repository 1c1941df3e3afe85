# SPDX-License-Identifier: Apache-2.0
"""Where a user's clients want to be notified, and what a client may ask for."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from homeserver.protocol.errors import bad_json, invalid_param, missing_param
from homeserver.runtime import Runtime
from homeserver.services.callers import User
from homeserver.services.database import Database
from storage import pushers
from storage.pushers import Pusher

KINDS = ("http",)
GATEWAY_PATH = "/_matrix/push/v1/notify"
MAX_APP_ID = 64
MAX_PUSHKEY_BYTES = 512
MAX_BODY_BYTES = 16 * 1024
#: What a pusher shows and keeps of the request besides its key.
SHOWN = ("app_display_name", "device_display_name", "lang", "data")
ENABLED, DEVICE_ID = "org.matrix.msc3881.enabled", "org.matrix.msc3881.device_id"


class Pushers:
    """The pushers of local users. `plain_http` allows gateways without TLS, for tests on private networks."""

    def __init__(self, database: Database, runtime: Runtime, plain_http: bool) -> None:
        self._database = database
        self._runtime = runtime
        self._plain_http = plain_http

    async def of_user(self, user: User) -> list[dict[str, Any]]:
        """The user's pushers as clients see them."""
        return [_shown(pusher) for pusher in await self._database.point(pushers.of_user, user.usr)]

    async def set(self, user: User, body: Mapping[str, Any]) -> None:
        """`POST /pushers/set`: make, change or (kind null) delete one. Raises what a bad pusher is answered with."""
        app_id, pushkey = _key(body)
        if "kind" not in body:
            raise missing_param("kind is missing")
        if body["kind"] is None:
            await self._database.write(pushers.remove, user.usr, app_id, pushkey)
            return
        append = body.get("append", False)
        if not isinstance(append, bool):
            raise bad_json("append must be true or false")
        kept = self._checked(body)
        pusher = Pusher(
            usr=user.usr,
            app_id=app_id,
            pushkey=pushkey,
            kind=body["kind"],
            body=orjson.dumps(kept | {DEVICE_ID: user.device_id}),
            device=user.device,
            token=user.token,
            enabled=body.get(ENABLED, True),
            created=self._runtime.now_ms(),
            done=0,
            failing_since=0,
        )
        if len(pusher.body) > MAX_BODY_BYTES:
            raise invalid_param("The pusher is too large")
        await self._database.write(pushers.put, pusher, not append)

    def _checked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of the body, of the right form."""
        if body["kind"] not in KINDS:
            raise invalid_param("kind must be http or null")
        for name in SHOWN:
            if name not in body:
                raise missing_param(f"{name} is missing")
            if not isinstance(body[name], dict if name == "data" else str):
                raise bad_json(f"{name} has the wrong type")
        if not isinstance(body.get("profile_tag", ""), str):
            raise bad_json("profile_tag must be a string")
        if not isinstance(body.get(ENABLED, True), bool):
            raise bad_json(f"{ENABLED} must be true or false")
        self._check_url(body["data"].get("url"))
        return {name: body[name] for name in (*SHOWN, "profile_tag") if name in body}

    def _check_url(self, url: object) -> None:
        """ "MUST be an HTTPS URL with a path of /_matrix/push/v1/notify"."""
        if url is None:
            raise missing_param("data.url is missing")
        try:
            parts = urlsplit(url) if isinstance(url, str) else None
            valid = parts is not None and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid, parts = False, None
        schemes = ("https", "http") if self._plain_http else ("https",)
        if parts is None or not valid or parts.scheme not in schemes or parts.path != GATEWAY_PATH:
            raise invalid_param(f"data.url must be an HTTPS URL with the path {GATEWAY_PATH}")


def _key(body: Mapping[str, Any]) -> tuple[str, str]:
    for name in ("app_id", "pushkey"):
        if name not in body:
            raise missing_param(f"{name} is missing")
        if not isinstance(body[name], str) or not body[name]:
            raise bad_json(f"{name} must be a string that is not empty")
    app_id, pushkey = body["app_id"], body["pushkey"]
    if len(app_id) > MAX_APP_ID:
        raise invalid_param(f"app_id has at most {MAX_APP_ID} characters")
    if len(pushkey.encode("utf-8", "surrogatepass")) > MAX_PUSHKEY_BYTES:
        raise invalid_param(f"pushkey has at most {MAX_PUSHKEY_BYTES} bytes")
    return app_id, pushkey


def _shown(pusher: Pusher) -> dict[str, Any]:
    kept: dict[str, Any] = orjson.loads(pusher.body)
    kept |= {"app_id": pusher.app_id, "pushkey": pusher.pushkey, "kind": pusher.kind, ENABLED: pusher.enabled}
    if kept.get(DEVICE_ID) is None:
        kept.pop(DEVICE_ID, None)
    return kept
