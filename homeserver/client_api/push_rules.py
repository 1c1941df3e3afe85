# SPDX-License-Identifier: Apache-2.0
"""The page of push rules."""

from typing import Any

import msgspec

from homeserver.http.endpoint import Call, User, endpoint
from homeserver.services.push_rules import PushRules

SPEC = "https://spec.matrix.org/v1.19/client-server-api/#push-rules-api"
RULES = "/_matrix/client/v3/pushrules"
RULE = RULES + "/global/{kind}/{ruleId}"


class EnabledBody(msgspec.Struct):
    enabled: bool


class PushRulePage:
    def __init__(self, rules: PushRules) -> None:
        self._rules = rules

    @endpoint("GET", RULES + "/", spec=SPEC)
    async def everything(self, caller: User) -> dict[str, Any]:
        return {"global": await self._rules.ruleset(caller)}

    @endpoint("GET", RULES + "/global/", spec=SPEC)
    async def everything_global(self, caller: User) -> dict[str, Any]:
        return await self._rules.ruleset(caller)

    @endpoint("GET", RULE, spec=SPEC)
    async def one(self, caller: User, call: Call) -> dict[str, Any]:
        return (await self._rules.rule(caller, call.params["kind"], call.params["ruleId"])).render()

    @endpoint("PUT", RULE, limit="user_data", spec=SPEC)
    async def put(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        before, after = call.query.get("before"), call.query.get("after")
        await self._rules.put(caller, call.params["kind"], call.params["ruleId"], body, before, after)
        return {}

    @endpoint("DELETE", RULE, spec=SPEC)
    async def delete(self, caller: User, call: Call) -> dict[str, Any]:
        await self._rules.delete(caller, call.params["kind"], call.params["ruleId"])
        return {}

    @endpoint("GET", RULE + "/enabled", spec=SPEC)
    async def is_enabled(self, caller: User, call: Call) -> dict[str, Any]:
        return {"enabled": (await self._rules.rule(caller, call.params["kind"], call.params["ruleId"])).enabled}

    @endpoint("PUT", RULE + "/enabled", spec=SPEC)
    async def enable(self, caller: User, call: Call, body: EnabledBody) -> dict[str, Any]:
        await self._rules.enable(caller, call.params["kind"], call.params["ruleId"], body.enabled)
        return {}

    @endpoint("GET", RULE + "/actions", spec=SPEC)
    async def actions(self, caller: User, call: Call) -> dict[str, Any]:
        rule = await self._rules.rule(caller, call.params["kind"], call.params["ruleId"])
        return {"actions": list(rule.actions)}

    @endpoint("PUT", RULE + "/actions", spec=SPEC)
    async def set_actions(self, caller: User, call: Call, body: dict[str, Any]) -> dict[str, Any]:
        await self._rules.set_actions(caller, call.params["kind"], call.params["ruleId"], body)
        return {}
