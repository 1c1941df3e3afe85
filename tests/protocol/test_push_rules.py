# SPDX-License-Identifier: Apache-2.0
"""Push rules: patterns, conditions, the default rules, edits, and the short form of the default rules."""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from homeserver.protocol import push_edits, push_patterns
from homeserver.protocol.errors import MatrixError
from homeserver.protocol.push_rules import (
    HIGHLIGHTS,
    NOTIFIES,
    Evaluator,
    Occasion,
    Rule,
    RuleSet,
    base_flags,
    default_rules,
    mentioned_users,
    mentions_count,
    rule_set,
)

ME = "@me:parley.test"
YOU = "@you:parley.test"
ROOM = "!room:parley.test"
SOUND = {"set_tweak": "sound", "value": "default"}
HIGHLIGHT = {"set_tweak": "highlight"}


def event(kind: str = "m.room.message", state_key: str | None = None, **content: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": kind, "sender": YOU, "room_id": ROOM, "content": content}
    return made if state_key is None else {**made, "state_key": state_key}


def occasion(about: Mapping[str, Any], members: int = 3, may: bool = True) -> Occasion:
    return Occasion(about, ROOM, "$event", members, lambda key: may and key == "room")


def decide(about: Mapping[str, Any], *rules: Rule, members: int = 3, may: bool = True, name: str | None = None) -> str:
    """The id of the rule that decides, with the user's own rules above the default ones."""
    own = rule_set(ME)
    for rule in reversed(rules):
        own = push_edits.put(own, rule)
    decided = Evaluator(own).decide(occasion(about, members, may), name)
    return decided.rule_id if decided else ""


def with_condition(**condition: Any) -> Rule:
    return Rule("override", "mine", ("notify",), (condition,))


class PatternTests(TestCase):
    def whole(self, pattern: str, text: str) -> bool:
        return push_patterns.whole_matcher(pattern)(text)

    def word(self, pattern: str, text: str) -> bool:
        return push_patterns.word_matcher(pattern)(text)

    def test_whole_values(self) -> None:
        for text in ("Lunch plans", "LUNCH", "lunch\nplans"):
            self.assertTrue(self.whole("lunc?*", text), text)
        for text in (" lunch", "lunc", ""):
            self.assertFalse(self.whole("lunc?*", text), text)
        self.assertTrue(self.whole("*", ""))
        self.assertTrue(self.whole("", ""))
        self.assertFalse(self.whole("a*a", "a"))
        self.assertTrue(self.whole("a*b*a", "a b a"))
        self.assertTrue(self.whole("[a.+]", "[A.+]"))

    def test_words_in_a_body(self) -> None:
        for text in ("An example event.", "exple", "An exciting triple-whammy", "(Example)"):
            self.assertTrue(self.word("ex*ple", text), text)
        for text in ("sample", "exampled", "unexample", "example_s"):
            self.assertFalse(self.word("ex*ple", text), text)
        self.assertTrue(self.word("tea", "It's time for Tea"))
        self.assertFalse(self.word("tea", "teapot"))
        self.assertTrue(self.word("*tea", "teapot, greentea"))
        self.assertTrue(self.word("tea*", "teapot"))
        self.assertTrue(self.word("t?a", "no tea"))
        self.assertTrue(self.word("茶", "一 茶 二"))

    def test_long_texts_with_many_stars_take_no_time(self) -> None:
        pattern = "a*" * 200 + "b"
        self.assertFalse(self.whole(pattern, "a" * 60_000))
        self.assertFalse(self.word(pattern, "a" * 60_000))

    @given(st.text("ab?*", max_size=6), st.text("ab ", max_size=8))
    @settings(max_examples=400, deadline=None)
    def test_whole_values_as_a_regular_expression_says(self, pattern: str, text: str) -> None:
        oracle = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
        self.assertEqual(self.whole(pattern, text), re.fullmatch(oracle, text, re.DOTALL) is not None)

    @given(st.text("ab?*", min_size=1, max_size=5), st.text("ab -_", max_size=8))
    @settings(max_examples=400, deadline=None)
    def test_words_as_a_regular_expression_says(self, pattern: str, text: str) -> None:
        oracle = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
        bounded = rf"(?:^|(?<![a-z0-9_])){oracle}(?:$|(?![a-z0-9_]))"
        self.assertEqual(self.word(pattern, text), re.search(bounded, text, re.DOTALL) is not None)

    def test_property_paths(self) -> None:
        self.assertEqual(push_patterns.property_path(r"content.m\.relates_to.rel_type")[1], "m.relates_to")
        self.assertEqual(push_patterns.property_path(r"content.m\\foo"), ("content", r"m\foo"))
        self.assertEqual(push_patterns.property_path(r"content.\x"), ("content", r"\x"))
        self.assertEqual(push_patterns.property_path(""), ("",))


class ConditionTests(TestCase):
    def matches(self, about: Mapping[str, Any], condition: Mapping[str, Any], **more: Any) -> bool:
        return decide(about, with_condition(**condition), **more) == "mine"

    def test_event_match_wants_a_string(self) -> None:
        condition = {"kind": "event_match", "key": "content.topic", "pattern": "*"}
        self.assertTrue(self.matches(event(topic=""), condition))
        for content in ({}, {"topic": None}, {"topic": 3}, {"topic": ["x"]}):
            self.assertFalse(self.matches(event(**content), condition), content)

    def test_event_match_knows_the_ids(self) -> None:
        about = event()
        del about["room_id"]
        self.assertTrue(self.matches(about, {"kind": "event_match", "key": "room_id", "pattern": ROOM}))
        self.assertTrue(self.matches(about, {"kind": "event_match", "key": "event_id", "pattern": "$ev*"}))

    def test_event_property_is_does_not_cast(self) -> None:
        for value in (True, 1, "1", None):
            condition = {"kind": "event_property_is", "key": "content.x", "value": value}
            self.assertTrue(self.matches(event(x=value), condition))
            for other in (False, 0, 1.0, "x", [value], {}):
                self.assertFalse(self.matches(event(x=other), condition), (value, other))
            self.assertFalse(self.matches(event(), condition))
        self.assertFalse(self.matches(event(x=True), {"kind": "event_property_is", "key": "content.x", "value": 1}))
        self.assertFalse(self.matches(event(x=[1]), {"kind": "event_property_is", "key": "content.x", "value": [1]}))
        self.assertFalse(
            self.matches(event(x=2**53), {"kind": "event_property_is", "key": "content.x", "value": 2**53})
        )

    def test_event_property_contains(self) -> None:
        condition = {"kind": "event_property_contains", "key": "content.x", "value": "a"}
        self.assertTrue(self.matches(event(x=["b", "a"]), condition))
        for value in (["ab"], "a", {"a": 1}, [["a"]]):
            self.assertFalse(self.matches(event(x=value), condition), value)
        self.assertFalse(self.matches(event(), condition))
        one = {"kind": "event_property_contains", "key": "content.x", "value": 1}
        self.assertFalse(self.matches(event(x=[True]), one))

    def test_room_member_count(self) -> None:
        for given_, members, expected in (
            ("2", 2, True),
            ("==2", 3, False),
            ("<3", 2, True),
            ("<3", 3, False),
            (">=3", 3, True),
            ("<=3", 4, False),
            (">3", 4, True),
            ("x", 2, False),
            ("=2", 2, False),
            ("", 2, False),
            (2, 2, False),
        ):
            condition = {"kind": "room_member_count", "is": given_}
            self.assertEqual(self.matches(event(), condition, members=members), expected, given_)

    def test_sender_notification_permission(self) -> None:
        condition = {"kind": "sender_notification_permission", "key": "room"}
        self.assertTrue(self.matches(event(), condition))
        self.assertFalse(self.matches(event(), condition, may=False))
        self.assertFalse(self.matches(event(), {"kind": "sender_notification_permission"}))

    def test_contains_display_name(self) -> None:
        condition = {"kind": "contains_display_name"}
        self.assertTrue(self.matches(event(body="hello Al.*"), condition, name="al.*"))
        self.assertFalse(self.matches(event(body="hello Albert"), condition, name="al"))
        self.assertFalse(self.matches(event(body="hello"), condition, name=None))
        self.assertFalse(self.matches(event(body=["al"]), condition, name="al"))

    def test_unknown_and_broken_conditions_never_match(self) -> None:
        for condition in (
            {"kind": "org.example.moon"},
            {"kind": "event_match", "key": "content.body"},
            {"kind": "event_match", "pattern": "x"},
            {"kind": "event_property_is", "key": "content.body"},
            {"kind": "event_property_contains", "value": 1},
        ):
            self.assertFalse(self.matches(event(body="x"), condition), condition)


class DefaultRuleTests(TestCase):
    def test_what_decides(self) -> None:
        mention = {"m.mentions": {"user_ids": [YOU, ME]}}
        everybody = {"m.mentions": {"room": True}}
        edit = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}
        for about, expected in (
            (event(), ".m.rule.message"),
            (event(body=f"me {ME}"), ".m.rule.message"),
            (event(**mention), ".m.rule.is_user_mention"),
            (event(msgtype="m.notice", **mention), ".m.rule.suppress_notices"),
            (event(**mention, **edit), ".m.rule.is_user_mention"),
            (event(**edit), ".m.rule.suppress_edits"),
            (event(**everybody), ".m.rule.is_room_mention"),
            (event("m.room.member", ME, membership="invite"), ".m.rule.invite_for_me"),
            (event("m.room.member", YOU, membership="join", **mention), ".m.rule.member_event"),
            (event("m.room.tombstone", ""), ".m.rule.tombstone"),
            (event("m.room.tombstone", "x"), ""),
            (event("m.reaction"), ".m.rule.reaction"),
            (event("m.room.server_acl", ""), ".m.rule.room.server_acl"),
            (event("m.call.invite"), ".m.rule.call"),
            (event("m.room.encrypted"), ".m.rule.encrypted"),
            (event("m.room.topic", "", topic="x"), ""),
            (event("org.matrix.msc3381.poll.start"), ".org.matrix.msc3930.rule.poll_start"),
            (event("org.matrix.msc3381.poll.response"), ".org.matrix.msc3930.rule.poll_response"),
            (event("org.matrix.msc3381.poll.end"), ".org.matrix.msc3930.rule.poll_end"),
        ):
            self.assertEqual(decide(about), expected, about)

    def test_rooms_of_two(self) -> None:
        self.assertEqual(decide(event(), members=2), ".m.rule.room_one_to_one")
        self.assertEqual(decide(event("m.room.encrypted"), members=2), ".m.rule.encrypted_room_one_to_one")
        self.assertEqual(
            decide(event("org.matrix.msc3381.poll.end"), members=2), ".org.matrix.msc3930.rule.poll_end_one_to_one"
        )

    def test_everybody_is_mentioned_by_those_only_who_may(self) -> None:
        self.assertEqual(decide(event(**{"m.mentions": {"room": True}}), may=False), ".m.rule.message")

    def test_own_rules_go_first_and_master_before_all(self) -> None:
        quiet = Rule("override", "quiet", (), ())
        self.assertEqual(decide(event(), quiet), "quiet")
        rules = push_edits.enable(push_edits.put(rule_set(ME), quiet), "override", ".m.rule.master", True)
        decided = Evaluator(rules).decide(occasion(event()))
        self.assertEqual(decided and decided.rule_id, ".m.rule.master")
        ids = [rule.rule_id for rule in rules.rules["override"]]
        self.assertEqual(ids[:3], [".m.rule.master", "quiet", ".m.rule.suppress_notices"])

    def test_kinds_are_checked_in_their_order(self) -> None:
        rules = [
            Rule("content", "c", ("notify",), (), "cake"),
            Rule("room", ROOM, ("notify",)),
            Rule("sender", YOU, ("notify",)),
            Rule("underride", "u", ("notify",), ()),
        ]
        about = event("m.custom", body="a cake")
        while rules:
            self.assertEqual(decide(about, *rules), rules.pop(0).rule_id)

    def test_order_and_shape(self) -> None:
        shown = rule_set(ME).render()
        self.assertEqual(list(shown), ["override", "content", "room", "sender", "underride"])
        overrides: Any = shown["override"]
        self.assertEqual(
            [rule["rule_id"].removeprefix(".m.rule.") for rule in overrides[:10]],
            ["master", "suppress_notices", "invite_for_me", "member_event", "is_user_mention", "is_room_mention"]
            + ["tombstone", "reaction", "room.server_acl", "suppress_edits"],
        )
        self.assertEqual(
            overrides[4],
            {
                "rule_id": ".m.rule.is_user_mention",
                "default": True,
                "enabled": True,
                "conditions": [
                    {"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": ME}
                ],
                "actions": ["notify", SOUND, HIGHLIGHT],
            },
        )

    contents = st.fixed_dictionaries(
        {},
        optional={
            "msgtype": st.sampled_from(["m.text", "m.notice", "M.Notice", 3]),
            "body": st.sampled_from(["x", "@room"]),
            "membership": st.sampled_from(["join", "invite"]),
            "m.mentions": st.sampled_from(
                [{}, [], {"room": True}, {"room": 1}, {"user_ids": [ME]}, {"user_ids": [YOU], "room": True}]
            ),
            "m.relates_to": st.sampled_from([{"rel_type": "m.replace"}, {"rel_type": "m.thread"}, {}, "m.replace"]),
        },
    )
    kinds = st.sampled_from(
        ["m.room.message", "M.Room.Message", "m.room.encrypted", "m.reaction", "m.room.member", "m.room.tombstone"]
        + ["m.room.server_acl", "m.call.invite", "org.matrix.msc3381.poll.start", "org.matrix.msc3381.poll.response"]
        + ["org.matrix.msc3381.poll.end", "m.room.topic", "m.sticker"]
    )

    @given(kinds, st.sampled_from([None, "", "x", YOU]), contents, st.booleans(), st.integers(1, 3))
    @settings(max_examples=600, deadline=None)
    def test_the_short_form_says_what_the_rules_say(
        self, kind: str, state_key: str | None, content: dict[str, Any], may: bool, members: int
    ) -> None:
        about = event(kind, state_key, **content)
        decided = Evaluator(rule_set(ME)).decide(occasion(about, members, may))
        expected = (NOTIFIES if decided and decided.notifies else 0) | (
            HIGHLIGHTS if decided and decided.highlights else 0
        )
        flags = base_flags(about, lambda key: may and key == "room")
        if ME in mentioned_users(content):
            flags = flags | NOTIFIES | HIGHLIGHTS if mentions_count(about) else flags
        self.assertEqual(flags, expected)


class EditTests(TestCase):
    def refused(self, errcode: str, kind: str, rule_id: str, body: Any, status: int = 400) -> None:
        with self.assertRaises(MatrixError) as caught:
            push_edits.new_rule(kind, rule_id, body)
        self.assertEqual((caught.exception.status, caught.exception.errcode), (status, errcode))

    def test_bad_rules_are_refused(self) -> None:
        good = {"actions": ["notify"], "pattern": "x"}
        self.refused("M_INVALID_PARAM", "moon", "a", good)
        self.refused("M_INVALID_PARAM", "postcontent", "a", good)
        for rule_id in ("", ".m.rule.mine", "a/b", "a\\b", "x" * 513):
            self.refused("M_INVALID_PARAM", "content", rule_id, good)
        self.refused("M_MISSING_PARAM", "content", "a", {"actions": []})
        self.refused("M_BAD_JSON", "content", "a", {"actions": [], "pattern": 3})
        self.refused("M_MISSING_PARAM", "room", ROOM, {})
        self.refused("M_BAD_JSON", "room", ROOM, {"actions": "notify"})
        for actions in (["shout"], [3], [{"sound": "x"}], [{"set_tweak": 3}]):
            self.refused("M_INVALID_PARAM", "room", ROOM, {"actions": actions})
        for conditions in ({}, ["x"], [{}], [{"kind": 3}]):
            self.refused("M_BAD_JSON", "override", "a", {"actions": [], "conditions": conditions})

    def test_historical_actions_are_kept_and_mean_nothing(self) -> None:
        for historical in (["dont_notify"], ["coalesce"], ["dont_notify", "coalesce", "notify"]):
            rule = push_edits.new_rule("room", ROOM, {"actions": historical})
            self.assertEqual(rule.actions, tuple(historical))
            self.assertEqual(rule.notifies, "notify" in historical)

    def own(self, rules: RuleSet) -> list[str]:
        return [rule.rule_id for rule in rules.own("override")]

    def put(self, rules: RuleSet, rule_id: str, before: str | None = None, after: str | None = None) -> RuleSet:
        return push_edits.put(rules, Rule("override", rule_id, ()), before, after)

    def test_places(self) -> None:
        rules = self.put(self.put(rule_set(ME), "a"), "b")
        self.assertEqual(self.own(rules), ["b", "a"])
        self.assertEqual(self.own(self.put(rules, "c", before="a")), ["b", "c", "a"])
        self.assertEqual(self.own(self.put(rules, "c", after="b")), ["b", "c", "a"])
        self.assertEqual(self.own(self.put(rules, "c", before="b", after="a")), ["c", "b", "a"])
        self.assertEqual(self.own(self.put(rules, "a")), ["b", "a"])
        self.assertEqual(self.own(self.put(rules, "a", before="b")), ["a", "b"])
        for name in ("moon", ".m.rule.master", "c"):
            with self.assertRaises(MatrixError):
                self.put(rules, "c", before=name)

    def test_changes(self) -> None:
        rules = self.put(rule_set(ME), "a")
        rules = push_edits.enable(rules, "override", "a", False)
        self.assertEqual(self.put(rules, "a").own("override")[0].enabled, False)
        rules = push_edits.set_actions(rules, "underride", ".m.rule.message", ())
        self.assertEqual([r.rule_id for r in rules.changed_defaults()], [".m.rule.message"])
        with self.assertRaises(MatrixError) as caught:
            push_edits.delete(rules, "override", ".m.rule.master")
        self.assertEqual(caught.exception.errcode, "M_INVALID_PARAM")
        with self.assertRaises(MatrixError) as caught:
            push_edits.delete(rules, "room", "a")
        self.assertEqual(caught.exception.errcode, "M_NOT_FOUND")
        self.assertEqual(self.own(push_edits.delete(rules, "override", "a")), [])

    def test_what_is_kept_is_what_comes_back(self) -> None:
        rules = self.put(rule_set(ME), "a")
        rules = push_edits.put(rules, Rule("content", "c", ("notify", HIGHLIGHT), (), "cake"))
        rules = push_edits.enable(rules, "override", ".m.rule.master", True)
        rules = push_edits.set_actions(rules, "underride", ".m.rule.message", (SOUND,))
        self.assertEqual(rule_set(ME, rules.document()), rules)
        self.assertEqual(rule_set(ME, rule_set(ME).document()), rule_set(ME))
        orjson.dumps(rules.render())
        self.assertEqual(default_rules(ME), dict(rule_set(ME).rules))

    def test_a_replaced_room_keeps_its_rules(self) -> None:
        condition = {"kind": "event_match", "key": "room_id", "pattern": ROOM}
        rules = push_edits.put(rule_set(ME), Rule("override", ROOM, (), (condition,)))
        rules = push_edits.put(rules, Rule("room", ROOM, ("notify",)))
        rules = push_edits.moved(rules, ROOM, "!new:parley.test")
        self.assertEqual([rule.rule_id for rule in rules.own("room")], ["!new:parley.test", ROOM])
        moved = rules.find("override", "!new:parley.test")
        self.assertEqual(moved and moved.conditions[0]["pattern"], "!new:parley.test")
        self.assertEqual(push_edits.moved(rules, ROOM, "!new:parley.test"), rules)

    def test_tweaks(self) -> None:
        rule = Rule("room", ROOM, ("notify", SOUND, HIGHLIGHT))
        self.assertEqual(rule.tweaks, {"sound": "default", "highlight": True})
        self.assertTrue(rule.highlights)
        off = {"set_tweak": "highlight", "value": False}
        self.assertFalse(Rule("room", ROOM, ("notify", off)).highlights)
        self.assertFalse(Rule("room", ROOM, (HIGHLIGHT,)).highlights)
