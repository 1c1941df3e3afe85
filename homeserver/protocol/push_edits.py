# SPDX-License-Identifier: Apache-2.0
"""What a client may change in a set of push rules, and what it is told when it may not."""

from collections.abc import Mapping

import attrs

from homeserver.protocol.errors import bad_json, invalid_param, missing_param, not_found, too_large
from homeserver.protocol.push_defaults import MASTER, Json
from homeserver.protocol.push_rules import HISTORICAL_ACTIONS, KINDS, Rule, RuleSet

MAX_ID_BYTES = 512
MAX_RULES = 2_000
MAX_DOCUMENT_BYTES = 512 * 1024


def check_kind(kind: str) -> None:
    """Raise M_INVALID_PARAM for a kind that clients cannot set rules of."""
    if kind not in KINDS:
        raise invalid_param(f"{kind} is not a kind of push rule")


def new_rule(kind: str, rule_id: str, body: Mapping[str, object]) -> Rule:
    """The rule that a client sends; raises what it is told when the rule is not of the right form."""
    check_kind(kind)
    # "If the string starts with a dot, the request MUST be rejected as this is reserved for server-default rules.
    # Slashes and backslashes are also not allowed."
    if not rule_id or rule_id.startswith("."):
        raise invalid_param("Ids of push rules that start with a dot belong to the server")
    if "/" in rule_id or "\\" in rule_id:
        raise invalid_param("An id of a push rule has no slashes or backslashes")
    if len(rule_id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
        raise invalid_param(f"An id of a push rule has at most {MAX_ID_BYTES} bytes")
    actions = parse_actions(body)
    pattern = None
    conditions: tuple[Json, ...] = ()
    if kind == "content":
        pattern = _pattern(body)
    elif kind in ("override", "underride"):
        conditions = _conditions(body)
    return Rule(kind, rule_id, actions, conditions, pattern)


def parse_actions(body: Mapping[str, object]) -> tuple[object, ...]:
    """The `actions` of a body, historical ones left out."""
    if "actions" not in body:
        raise missing_param("actions is missing")
    actions = body["actions"]
    if not isinstance(actions, list):
        raise bad_json("actions must be a list")
    for action in actions:
        if isinstance(action, str):
            if action != "notify" and action not in HISTORICAL_ACTIONS:
                raise invalid_param(f"{action[:100]} is not an action")
        elif not isinstance(action, dict) or not isinstance(action.get("set_tweak"), str):
            raise invalid_param("An action is a string, or an object with set_tweak")
    return tuple(actions)


def _pattern(body: Mapping[str, object]) -> str:
    if "pattern" not in body:
        raise missing_param("A content rule needs a pattern")
    pattern = body["pattern"]
    if not isinstance(pattern, str):
        raise bad_json("pattern must be a string")
    return pattern


def _conditions(body: Mapping[str, object]) -> tuple[Json, ...]:
    conditions = body.get("conditions", [])
    if not isinstance(conditions, list):
        raise bad_json("conditions must be a list")
    for condition in conditions:
        if not isinstance(condition, dict) or not isinstance(condition.get("kind"), str):
            raise bad_json("Each of the conditions must be an object with a kind")
    return tuple(conditions)


def put(rules: RuleSet, rule: Rule, before: str | None = None, after: str | None = None) -> RuleSet:
    """Add a rule, or replace the user's rule of that id; one given `before` or `after` finds its place there."""
    own = rules.own(rule.kind)
    old = next((one for one in own if one.rule_id == rule.rule_id), None)
    if old is not None:
        rule = attrs.evolve(rule, enabled=old.enabled)
        if before is None and after is None:
            return _with_own(rules, rule.kind, [rule if one is old else one for one in own])
    others = [one for one in own if one is not old]
    # "If both are provided, the new or updated rule must be the next most important rule with respect to the rule
    # identified by before."
    if before is not None:
        place = _place(others, before)
    elif after is not None:
        place = _place(others, after) + 1
    else:
        place = 0
    return _with_own(rules, rule.kind, [*others[:place], rule, *others[place:]])


def _place(own: list[Rule], rule_id: str) -> int:
    for index, rule in enumerate(own):
        if rule.rule_id == rule_id:
            return index
    raise invalid_param("before and after must name another push rule of the same kind that is the user's own")


def delete(rules: RuleSet, kind: str, rule_id: str) -> RuleSet:
    """Remove one of the user's rules; raises M_NOT_FOUND, or M_INVALID_PARAM for a default one."""
    rule = find(rules, kind, rule_id)
    if rule.default:
        raise invalid_param("The server's own push rules can be disabled, not deleted")
    return _with_own(rules, kind, [one for one in rules.own(kind) if one is not rule])


def enable(rules: RuleSet, kind: str, rule_id: str, enabled: bool) -> RuleSet:
    """Switch a rule on or off; raises M_NOT_FOUND."""
    return _replaced(rules, attrs.evolve(find(rules, kind, rule_id), enabled=enabled))


def set_actions(rules: RuleSet, kind: str, rule_id: str, actions: tuple[object, ...]) -> RuleSet:
    """Change what a rule does; raises M_NOT_FOUND."""
    return _replaced(rules, attrs.evolve(find(rules, kind, rule_id), actions=actions))


def find(rules: RuleSet, kind: str, rule_id: str) -> Rule:
    """One rule; raises M_NOT_FOUND."""
    rule = rules.find(kind, rule_id)
    if rule is None:
        raise not_found("There is no such push rule")
    return rule


def moved(rules: RuleSet, old_room: str, new_room: str) -> RuleSet:
    """The set with the rules for a room also made for the room that replaces it."""
    for kind in ("override", "room"):
        for rule in reversed(rules.own(kind)):
            if rule.rule_id == old_room and rules.find(kind, new_room) is None:
                conditions = tuple(
                    {**c, "pattern": new_room} if c.get("key") == "room_id" and c.get("pattern") == old_room else c
                    for c in rule.conditions
                )
                copy = attrs.evolve(rule, rule_id=new_room, conditions=conditions)
                rules = put(rules, copy)
                if not rule.enabled:
                    rules = enable(rules, kind, new_room, False)
    return rules


def _replaced(rules: RuleSet, changed: Rule) -> RuleSet:
    same = [changed if one.rule_id == changed.rule_id else one for one in rules.rules[changed.kind]]
    return rules.with_rules(changed.kind, same)


def _with_own(rules: RuleSet, kind: str, own: list[Rule]) -> RuleSet:
    defaults = [rule for rule in rules.rules[kind] if rule.default]
    first = 1 if defaults and defaults[0].rule_id == MASTER else 0
    return rules.with_rules(kind, [*defaults[:first], *own, *defaults[first:]])


def check_size(rules: RuleSet) -> None:
    """Raise M_TOO_LARGE for more rules than the server keeps for a user."""
    if sum(len(rules.own(kind)) for kind in KINDS) > MAX_RULES or len(rules.document()) > MAX_DOCUMENT_BYTES:
        raise too_large("There are too many push rules")
