# SPDX-License-Identifier: Apache-2.0
"""Which base a user's unread counts start from, read off the user's push rules, and when that base is not enough."""

import attrs

from homeserver.protocol.push_defaults import MASTER
from homeserver.protocol.push_rules import Evaluator, Rule, RuleSet, default_rules
from storage.unread import DEFAULT, MENTIONS, NONE, Classes


@attrs.frozen(slots=True, eq=False)
class OwnRules:
    """What one user's rules and ignore list mean for counting.

    Where `watches` is true the rules are evaluated for each event; elsewhere the class says all, but for mentions.
    """

    user_id: str
    evaluator: Evaluator
    classes: Classes
    watches_all: bool
    watched_rooms: frozenset[str]
    wants_name: bool
    ignored: frozenset[str]

    def watches(self, room_id: str) -> bool:
        return self.watches_all or room_id in self.watched_rooms


def own_rules(rules: RuleSet, ignored: frozenset[str]) -> OwnRules:
    """Sort out a user's rules."""
    classes, watches_all, watched_rooms = classify(rules)
    return OwnRules(
        user_id=rules.user_id,
        evaluator=Evaluator(rules),
        classes=classes,
        watches_all=watches_all,
        watched_rooms=watched_rooms,
        wants_name=any(
            condition.get("kind") == "contains_display_name"
            for kind in ("override", "underride")
            for rule in rules.own(kind)
            for condition in rule.conditions
        ),
        ignored=ignored,
    )


def classify(rules: RuleSet) -> tuple[Classes, bool, frozenset[str]]:
    """The classes, whether every event must be looked at, and the rooms in which it must.

    A wrong class costs exception rows, never a wrong count, as long as what it does not describe is watched.
    """
    master = rules.find("override", MASTER)
    if master is not None and master.enabled:
        return Classes(NONE), master.notifies, frozenset()
    watches_all = bool(_enabled(rules, "content") or _enabled(rules, "sender") or _enabled(rules, "underride"))
    watches_all = watches_all or _defaults_differ(rules)
    rooms: dict[str, int] = {}
    watched = set()
    for rule in _enabled(rules, "room"):
        if rule.notifies:
            watched.add(rule.rule_id)
        else:
            rooms[rule.rule_id] = MENTIONS
    for rule in _enabled(rules, "override"):
        muted = _muted_room(rule)
        if muted is None:
            watches_all = True
        else:
            rooms[muted] = NONE
            watched.discard(muted)
    return Classes(_usual(rules), rooms), watches_all, frozenset(watched)


def _enabled(rules: RuleSet, kind: str) -> list[Rule]:
    return [rule for rule in rules.own(kind) if rule.enabled]


def _muted_room(rule: Rule) -> str | None:
    """The room that an override rule silences altogether: its only condition is the room, and it does nothing."""
    if rule.notifies or len(rule.conditions) != 1:
        return None
    condition = rule.conditions[0]
    if condition.get("kind") != "event_match" or condition.get("key") != "room_id":
        return None
    pattern = condition.get("pattern")
    # Room ids that differ in case alone, which this would match too, do not occur.
    return pattern if isinstance(pattern, str) and not set(pattern) & {"*", "?"} else None


def _defaults_differ(rules: RuleSet) -> bool:
    """Whether a default rule was changed so that counts change (another sound does not)."""
    untouched = {(r.kind, r.rule_id): r for some in default_rules(rules.user_id).values() for r in some}
    for rule in rules.changed_defaults():
        before = untouched[rule.kind, rule.rule_id]
        if (rule.enabled, rule.notifies, rule.highlights) != (before.enabled, before.notifies, before.highlights):
            return True
    return False


def _usual(rules: RuleSet) -> int:
    """The class nearest to what happens to ordinary messages: counted, or only where someone is mentioned."""
    for rule_id in (".m.rule.message", ".m.rule.encrypted"):
        rule = rules.find("underride", rule_id)
        if rule is not None and rule.enabled and rule.notifies:
            return DEFAULT
    return MENTIONS
