# SPDX-License-Identifier: Apache-2.0
"""What a user's push rules say about an event: the rule set as a value, and its evaluation.

Client-server API v1.19, "Push Rules". Rules are ordered by kind, then by importance; the first that matches decides.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import orjson

from homeserver.protocol import push_defaults, push_patterns
from homeserver.protocol.push_defaults import Definition, Json

#: The kinds that clients may set, in the order in which the response lists them.
KINDS = ("override", "content", "room", "sender", "underride")
#: The order in which kinds are checked; `postcontent` is MSC4306's and holds rules of the server only.
EVALUATION_ORDER = ("override", "content", "postcontent", "room", "sender", "underride")
#: "Clients and homeservers MUST ignore these actions": they are kept as they were set, and mean nothing.
HISTORICAL_ACTIONS = frozenset({"dont_notify", "coalesce"})

MAX_INTEGER = 2**53 - 1
_COUNT = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,18})\Z")
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


@attrs.frozen(slots=True)
class Rule:
    """One push rule: override, underride and postcontent rules have `conditions`, content rules a `pattern`."""

    kind: str
    rule_id: str
    actions: tuple[object, ...]
    conditions: tuple[Json, ...] = ()
    pattern: str | None = None
    enabled: bool = True
    default: bool = False

    @property
    def notifies(self) -> bool:
        return "notify" in self.actions

    @property
    def highlights(self) -> bool:
        """Whether what it matches counts as a highlight; without `notify` nothing is shown, so nothing counts."""
        return self.notifies and self.tweaks.get("highlight", False) is not False

    @property
    def tweaks(self) -> dict[str, object]:
        """What a push gateway is told: "if a highlight tweak is given with no value, its value is [...] true"."""
        tweaks: dict[str, object] = {}
        for action in self.actions:
            if isinstance(action, Mapping):
                name = action["set_tweak"]
                if "value" in action:
                    tweaks[name] = action["value"]
                elif name == "highlight":
                    tweaks[name] = True
        return tweaks

    def render(self) -> dict[str, object]:
        """As the client API shows it."""
        shown: dict[str, object] = {
            "rule_id": self.rule_id,
            "default": self.default,
            "enabled": self.enabled,
            "actions": list(self.actions),
        }
        if self.kind in ("override", "underride", "postcontent"):
            shown["conditions"] = list(self.conditions)
        elif self.pattern is not None:
            shown["pattern"] = self.pattern
        return shown


@attrs.frozen(slots=True)
class RuleSet:
    """All of a user's rules by kind, the most important first."""

    user_id: str
    rules: Mapping[str, tuple[Rule, ...]]

    def find(self, kind: str, rule_id: str) -> Rule | None:
        return next((rule for rule in self.rules.get(kind, ()) if rule.rule_id == rule_id), None)

    def own(self, kind: str) -> tuple[Rule, ...]:
        """The rules of that kind that the user made."""
        return tuple(rule for rule in self.rules.get(kind, ()) if not rule.default)

    def changed_defaults(self) -> list[Rule]:
        """The default rules that are not as the server made them."""
        untouched = {(r.kind, r.rule_id): r for rules in default_rules(self.user_id).values() for r in rules}
        return [r for rules in self.rules.values() for r in rules if r.default and untouched[r.kind, r.rule_id] != r]

    def with_rules(self, kind: str, rules: Sequence[Rule]) -> "RuleSet":
        """The set with all rules of one kind replaced."""
        return attrs.evolve(self, rules={**self.rules, kind: tuple(rules)})

    def render(self) -> dict[str, object]:
        """The `global` ruleset of the client API."""
        shown: dict[str, object] = {kind: [rule.render() for rule in self.rules.get(kind, ())] for kind in KINDS}
        if self.rules.get("postcontent"):
            shown["postcontent"] = [rule.render() for rule in self.rules["postcontent"]]
        return shown

    def document(self) -> bytes:
        """What has to be kept of this set: the user's own rules, and what they changed in the default ones."""
        own = {
            kind: [
                {
                    "id": r.rule_id,
                    "actions": r.actions,
                    "conditions": r.conditions,
                    "pattern": r.pattern,
                    "on": r.enabled,
                }
                for r in self.own(kind)
            ]
            for kind in KINDS
        }
        changed = [[r.kind, r.rule_id, r.enabled, r.actions] for r in self.changed_defaults()]
        return orjson.dumps({"own": own, "changed": changed})


def default_rules(user_id: str) -> dict[str, tuple[Rule, ...]]:
    """The rules of a user who changed nothing."""
    return {
        kind: tuple(
            _SHARED[definition[0]] if definition[0] in _SHARED else _default_rule(kind, definition, user_id)
            for definition in push_defaults.DEFAULTS.get(kind, ())
        )
        for kind in KINDS
    }


def _default_rule(kind: str, definition: Definition, user_id: str) -> Rule:
    return Rule(
        kind=kind,
        rule_id=definition[0],
        actions=tuple(definition[2]),
        conditions=push_defaults.conditions_for(definition, user_id),
        enabled=definition[0] != push_defaults.MASTER,
        default=True,
    )


#: The default rules that are the same for everybody.
_SHARED: Mapping[str, Rule] = {
    definition[0]: _default_rule(kind, definition, "")
    for kind, definitions in push_defaults.DEFAULTS.items()
    for definition in definitions
    if not push_defaults.names_user(definition)
}


def rule_set(user_id: str, document: bytes | None = None) -> RuleSet:
    """A user's rules from what `RuleSet.document` kept; None: the user changed nothing."""
    rules = default_rules(user_id)
    if document is None:
        return RuleSet(user_id, rules)
    kept = orjson.loads(document)
    changed = {(kind, rule_id): (enabled, tuple(actions)) for kind, rule_id, enabled, actions in kept["changed"]}
    for kind, defaults in rules.items():
        own = [_kept_rule(kind, entry) for entry in kept["own"].get(kind, ())]
        current = [
            attrs.evolve(r, enabled=changed[kind, r.rule_id][0], actions=changed[kind, r.rule_id][1])
            if (kind, r.rule_id) in changed
            else r
            for r in defaults
        ]
        # "They operate at a lower priority than user-defined rules, except for the .m.rule.master rule".
        first = 1 if kind == "override" else 0
        rules[kind] = (*current[:first], *own, *current[first:])
    return RuleSet(user_id, rules)


def _kept_rule(kind: str, entry: dict[str, Any]) -> Rule:
    return Rule(
        kind=kind,
        rule_id=entry["id"],
        actions=tuple(entry["actions"]),
        conditions=tuple(entry["conditions"]),
        pattern=entry["pattern"],
        enabled=entry["on"],
    )


@attrs.frozen(slots=True)
class Occasion:
    """What rules may ask about an event beyond what one user knows of it.

    `event` has at least type, sender and content; `may_notify` says whether its sender has the power level for that
    entry of the room's `notifications`.
    """

    event: Mapping[str, object]
    room_id: str
    event_id: str
    member_count: int
    may_notify: Callable[[str], bool]


Test = Callable[[Occasion, str | None], bool]


class Evaluator:
    """A rule set made ready to be asked about many events."""

    __slots__ = ("_rules",)

    def __init__(self, rules: RuleSet) -> None:
        self._rules: list[tuple[Rule, list[Test]]] = []
        for kind in EVALUATION_ORDER:
            for rule in rules.rules.get(kind, ()):
                if rule.enabled:
                    shared = _SHARED_TESTS.get(rule.rule_id) if rule.default else None
                    self._rules.append((rule, shared if shared is not None else _tests(rule)))

    def decide(self, occasion: Occasion, display_name: str | None = None) -> Rule | None:
        """The rule that decides, or None. `display_name` is the user's name in the room, for the legacy condition."""
        for rule, tests in self._rules:
            for test in tests:
                if not test(occasion, display_name):
                    break
            else:
                return rule
        return None


def _tests(rule: Rule) -> list[Test]:
    """A rule's conditions, those that its kind implies included."""
    if rule.kind == "room":
        room = rule.rule_id
        return [lambda occasion, _: occasion.room_id == room]
    if rule.kind == "sender":
        sender = rule.rule_id
        return [lambda occasion, _: occasion.event.get("sender") == sender]
    if rule.kind == "content":
        return [_event_match({"key": "content.body", "pattern": rule.pattern})]
    return [_test(condition) for condition in rule.conditions]


def _never(occasion: Occasion, display_name: str | None) -> bool:
    """ "Unrecognised conditions MUST NOT match any events, effectively making the push rule disabled." """
    return False


def _test(condition: Json) -> Test:
    match condition.get("kind"):
        case "event_match":
            return _event_match(condition)
        case "event_property_is":
            return _event_property_is(condition)
        case "event_property_contains":
            return _event_property_contains(condition)
        case "room_member_count":
            return _room_member_count(condition)
        case "sender_notification_permission":
            key = condition.get("key")
            return (lambda occasion, _: occasion.may_notify(key)) if isinstance(key, str) else _never
        case "contains_display_name":
            return _contains_display_name
    return _never


def _found(occasion: Occasion, path: tuple[str, ...]) -> tuple[bool, object]:
    """A property of the event; the ids are those clients know, whatever the room version's event format holds."""
    if path == ("room_id",):
        return True, occasion.room_id
    if path == ("event_id",):
        return True, occasion.event_id
    return push_patterns.lookup(occasion.event, path)


def _event_match(condition: Json) -> Test:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str) or not isinstance(pattern, str):
        return _never
    path = push_patterns.property_path(key)
    # "As a special case, if key is content.body, then pattern must instead match any substring of the value of the
    # property which starts and ends at a word boundary."
    matches = (push_patterns.word_matcher if key == "content.body" else push_patterns.whole_matcher)(pattern)

    def test(occasion: Occasion, display_name: str | None) -> bool:
        _, value = _found(occasion, path)
        return isinstance(value, str) and matches(value)

    return test


def is_simple(value: object) -> bool:
    """Whether exact conditions support the value: "strings, integers in the range, booleans, and null"."""
    if type(value) is int:
        return -MAX_INTEGER <= value <= MAX_INTEGER
    return value is None or type(value) in (str, bool)


def _same(value: object, wanted: object) -> bool:
    return type(value) is type(wanted) and value == wanted


def _event_property_is(condition: Json) -> Test:
    key, wanted = condition.get("key"), condition.get("value")
    if not isinstance(key, str) or "value" not in condition or not is_simple(wanted):
        return _never
    path = push_patterns.property_path(key)

    def test(occasion: Occasion, display_name: str | None) -> bool:
        present, value = _found(occasion, path)
        return present and _same(value, wanted)

    return test


def _event_property_contains(condition: Json) -> Test:
    key, wanted = condition.get("key"), condition.get("value")
    if not isinstance(key, str) or "value" not in condition or not is_simple(wanted):
        return _never
    path = push_patterns.property_path(key)

    def test(occasion: Occasion, display_name: str | None) -> bool:
        _, values = _found(occasion, path)
        return isinstance(values, list) and any(_same(value, wanted) for value in values)

    return test


def _room_member_count(condition: Json) -> Test:
    given = condition.get("is")
    parsed = _COUNT.match(given) if isinstance(given, str) else None
    if parsed is None:
        return _never
    compare, number = _COMPARE[parsed.group(1) or "=="], int(parsed.group(2))
    return lambda occasion, _: compare(occasion.member_count, number)


def _contains_display_name(occasion: Occasion, display_name: str | None) -> bool:
    _, body = push_patterns.lookup(occasion.event, ("content", "body"))
    if not display_name or not isinstance(body, str):
        return False
    return push_patterns.contains_words(display_name)(body)


#: Clients change what default rules do, never their conditions.
_SHARED_TESTS: Mapping[str, list[Test]] = {rule_id: _tests(rule) for rule_id, rule in _SHARED.items()}

#: What the default rules say to every member alike: it notifies, it highlights.
NOTIFIES, HIGHLIGHTS = 1, 2


def base_flags(event: Mapping[str, object], may_notify: Callable[[str], bool]) -> int:
    """What the untouched default rules say of an event to members that it does not mention; `decide` in short."""
    content = event.get("content")
    event_type = event.get("type")
    if not isinstance(content, dict) or not isinstance(event_type, str):
        return 0
    event_type = event_type.casefold()
    if _is_silent_to_all(event_type, content):
        return 0
    mentions = content.get("m.mentions")
    if isinstance(mentions, dict) and mentions.get("room") is True and may_notify("room"):
        return NOTIFIES | HIGHLIGHTS
    if event_type == "m.room.tombstone" and event.get("state_key") == "":
        return NOTIFIES | HIGHLIGHTS
    relation = content.get("m.relates_to")
    if isinstance(relation, dict) and relation.get("rel_type") == "m.replace":
        return 0
    return NOTIFIES if event_type in push_defaults.NOTIFYING_TYPES else 0


def _is_silent_to_all(event_type: str, content: Mapping[str, object]) -> bool:
    """Whether a default rule above those for mentions says no."""
    msgtype = content.get("msgtype")
    if isinstance(msgtype, str) and msgtype.casefold() == "m.notice":
        return True
    return event_type == "m.room.member"


def mentions_count(event: Mapping[str, object]) -> bool:
    """Whether the untouched default rules notify and highlight for those that `m.mentions` names."""
    content, event_type = event.get("content"), event.get("type")
    if not isinstance(content, dict) or not isinstance(event_type, str):
        return False
    return not _is_silent_to_all(event_type.casefold(), content)


def mentioned_users(content: Mapping[str, object]) -> list[str]:
    """The ids in `m.mentions.user_ids`, each once, in their order."""
    mentions = content.get("m.mentions")
    named = mentions.get("user_ids") if isinstance(mentions, dict) else None
    if not isinstance(named, list):
        return []
    return list(dict.fromkeys(user for user in named if isinstance(user, str)))
