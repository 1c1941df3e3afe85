# SPDX-License-Identifier: Apache-2.0
"""What filters let through, and which are refused."""

from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol.errors import MatrixError
from homeserver.protocol.filters import (
    PASS_ALL,
    matches_glob,
    parse_event_filter,
    parse_filter,
    select_fields,
    split_field,
)


class FilterTest(SynchronousTestCase):
    def test_an_empty_filter_passes_everything(self) -> None:
        self.assertEqual(parse_filter({}), PASS_ALL)
        self.assertTrue(PASS_ALL.room.timeline.passes_every_event)

    def test_types_take_wildcards_and_not_types_win(self) -> None:
        part = parse_event_filter({"types": ["m.room.*", "x"], "not_types": ["*.secret"]})
        self.assertTrue(part.allows_type("m.room.message"))
        self.assertTrue(part.allows_type("x"))
        self.assertFalse(part.allows_type("xx"))
        self.assertFalse(part.allows_type("m.room.secret"))

    def test_an_empty_list_of_types_passes_nothing(self) -> None:
        part = parse_event_filter({"types": []})
        self.assertTrue(part.passes_nothing)
        self.assertFalse(part.allows_type("m.room.message"))
        self.assertTrue(parse_event_filter({"not_types": ["*"]}).passes_nothing)

    def test_senders_and_rooms_have_positive_and_negative_lists(self) -> None:
        part = parse_event_filter({"senders": ["@a:x", "@b:x"], "not_senders": ["@b:x"], "rooms": ["!r:x"]})
        self.assertTrue(part.allows_sender("@a:x"))
        self.assertFalse(part.allows_sender("@b:x"))
        self.assertFalse(part.allows_sender("@c:x"))
        self.assertTrue(part.allows_room("!r:x"))
        self.assertFalse(part.allows_room("!s:x"))

    def test_contains_url_works_both_ways(self) -> None:
        with_url = parse_event_filter({"contains_url": True})
        without = parse_event_filter({"contains_url": False})
        self.assertTrue(with_url.allows("m.room.message", "@a:x", {"url": "mxc://x/y"}))
        self.assertFalse(with_url.allows("m.room.message", "@a:x", {"url": 5}))
        self.assertFalse(without.allows("m.room.message", "@a:x", {"url": "mxc://x/y"}))
        self.assertTrue(without.allows("m.room.message", "@a:x", {}))

    def test_many_wildcards_cost_linear_time(self) -> None:
        parts = tuple("*".join("a" * 200).split("*"))
        self.assertFalse(matches_glob(("", *parts, "b"), "a" * 5_000))
        self.assertTrue(matches_glob(("a", "b", "c"), "axxbyyc"))
        self.assertFalse(matches_glob(("ab", "bc"), "abc"))

    def test_wrong_filters_are_refused(self) -> None:
        wrong: list[dict[str, object]] = [
            {"room": "not an object"},
            {"presence": "not an object"},
            {"account_data": []},
            {"event_fields": "content"},
            {"event_fields": [1]},
            {"event_format": "xml"},
            {"room": {"timeline": "not an object"}},
            {"room": {"state": 5}},
            {"room": {"ephemeral": []}},
            {"room": {"account_data": "x"}},
            {"room": {"include_leave": "yes"}},
            {"room": {"rooms": ["not a room"]}},
            {"room": {"timeline": {"rooms": ["not a room"]}}},
            {"room": {"timeline": {"senders": ["not a user"]}}},
            {"room": {"timeline": {"limit": "10"}}},
            {"room": {"timeline": {"limit": -1}}},
            {"room": {"timeline": {"limit": True}}},
            {"room": {"timeline": {"types": [1]}}},
        ]
        for body in wrong:
            error = self.assertRaises(MatrixError, parse_filter, body)
            self.assertEqual((error.status, error.errcode), (400, "M_BAD_JSON"), body)

    def test_the_limit_of_a_timeline_is_bounded(self) -> None:
        self.assertEqual(parse_filter({}).room.timeline_limit, 10)
        self.assertEqual(parse_filter({"room": {"timeline": {"limit": 10**9}}}).room.timeline_limit, 100)

    def test_fields_are_selected_by_path(self) -> None:
        event = {"type": "m", "content": {"body": "b", "a.b": {"c\\": 1}}, "sender": "@a:x"}
        fields = [split_field(path) for path in ("content.body", r"content.a\.b.c\\", "sender", "nothing.here")]
        self.assertEqual(select_fields(event, fields), {"content": {"body": "b", "a.b": {"c\\": 1}}, "sender": "@a:x"})
