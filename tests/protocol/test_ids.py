# SPDX-License-Identifier: Apache-2.0
"""Grammars and sizes of identifiers."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from homeserver.protocol import ids
from homeserver.protocol.errors import MatrixError

HASH = "a" * 43


class ServerNames(SynchronousTestCase):
    def test_the_examples_of_the_specification_are_server_names(self) -> None:
        for name, host, port, is_ipv6 in [
            ("matrix.org", "matrix.org", None, False),
            ("matrix.org:8888", "matrix.org", 8888, False),
            ("1.2.3.4", "1.2.3.4", None, False),
            ("1.2.3.4:1234", "1.2.3.4", 1234, False),
            ("[1234:5678::abcd]", "1234:5678::abcd", None, True),
            ("[1234:5678::abcd]:5678", "1234:5678::abcd", 5678, True),
        ]:
            self.assertTrue(ids.is_server_name(name))
            self.assertEqual(ids.split_server_name(name), ids.ServerName(host, port, is_ipv6))

    def test_other_names_are_not(self) -> None:
        for name in (
            "",
            "a b",
            "a:",
            "a:123456",
            "a:port",
            "ä.org",
            "a/b",
            "[::1",
            "::1",
            "[g::1]",
            "a_b",
            "a\n",
            "a:1\n",
            "@a",
        ):
            self.assertFalse(ids.is_server_name(name), name)
            error = self.assertRaises(MatrixError, ids.split_server_name, name)
            self.assertEqual(error.errcode, "M_INVALID_PARAM")


class UserIds(SynchronousTestCase):
    def test_a_user_id_is_taken_apart(self) -> None:
        user = ids.parse_user_id("@alice:parley.example:8448")
        self.assertEqual((user.localpart, user.server), ("alice", "parley.example:8448"))
        self.assertEqual(str(user), "@alice:parley.example:8448")
        self.assertEqual(ids.parse_user_id("@a:[::1]:80").server, "[::1]:80")

    def test_historical_user_ids_are_accepted(self) -> None:
        for user_id in ("@Alice:a.org", "@:a.org", "@a b:a.org", "@ünï😀:a.org", "@\x01\n:a.org", "@a@b:a.org"):
            self.assertTrue(ids.is_user_id(user_id), user_id)
            ids.parse_user_id(user_id)

    def test_what_is_no_user_id_is_refused(self) -> None:
        for value in (
            "",
            "alice",
            "@alice",
            "alice:a.org",
            "@alice:",
            "@a\x00b:a.org",
            "@a:b:c d",
            "@\ud800:a.org",
            None,
            7,
            ["@a:b"],
        ):
            self.assertFalse(ids.is_user_id(value), value)
            self.assertEqual(self.assertRaises(MatrixError, ids.parse_user_id, value).errcode, "M_INVALID_PARAM")

    def test_the_limit_is_255_bytes_and_not_characters(self) -> None:
        self.assertTrue(ids.is_user_id("@" + "a" * 248 + ":a.org"))
        self.assertFalse(ids.is_user_id("@" + "a" * 249 + ":a.org"))
        self.assertTrue(ids.is_user_id("@" + "ä" * 124 + ":a.org"))
        self.assertFalse(ids.is_user_id("@" + "ä" * 125 + ":a.org"))

    def test_new_localparts_have_a_narrow_grammar(self) -> None:
        self.assertTrue(ids.is_valid_localpart_new("abc.x_y=z-0/1+2"))
        for localpart in ("", "Alice", "a b", "ä", "a:b", "a\n", "a@b"):
            self.assertFalse(ids.is_valid_localpart_new(localpart), localpart)

    def test_only_printable_ascii_is_compliant(self) -> None:
        self.assertTrue(ids.is_compliant_user_id("@Al!ce@x:a.org"))
        for user_id in ("@:a.org", "@a b:a.org", "@ä:a.org", "@a\x7f:a.org", "nobody"):
            self.assertFalse(ids.is_compliant_user_id(user_id), user_id)


class OtherIds(SynchronousTestCase):
    def test_room_ids_with_and_without_a_domain(self) -> None:
        for room_id in ("!abc:a.org", f"!{HASH}", "!x:[::1]", "!a_b-c:a.org:1"):
            self.assertTrue(ids.is_room_id(room_id), room_id)
            self.assertEqual(ids.parse_room_id(room_id), room_id)
        for value in (
            "!",
            "!abc",
            "!:a.org",
            "#a:a.org",
            f"!{HASH}a",
            "!a\x00:a.org",
            "!" + "a" * 250 + ":a.org",
            None,
            1,
        ):
            self.assertFalse(ids.is_room_id(value), value)
            self.assertRaises(MatrixError, ids.parse_room_id, value)

    def test_event_ids_of_all_versions(self) -> None:
        for event_id in ("$0:a.org", f"${HASH}", "$" + "+/" * 21 + "x", "$" + "-_" * 21 + "x"):
            self.assertTrue(ids.is_event_id(event_id), event_id)
            self.assertEqual(ids.parse_event_id(event_id), event_id)
        for value in ("$", "$abc", "abc", f"!{HASH}", f"${HASH}=", None):
            self.assertFalse(ids.is_event_id(value), value)
            self.assertRaises(MatrixError, ids.parse_event_id, value)

    def test_room_aliases(self) -> None:
        alias = ids.parse_room_alias("#Café & co:a.org:80")
        self.assertEqual((alias.localpart, alias.server, str(alias)), ("Café & co", "a.org:80", "#Café & co:a.org:80"))
        for value in ("#a", "#:a.org", "a:a.org", "#a:", "#a\x00:a.org", "#" + "ä" * 130 + ":a.org", 3):
            self.assertFalse(ids.is_room_alias(value), value)
            self.assertRaises(MatrixError, ids.parse_room_alias, value)

    def test_media_uris(self) -> None:
        self.assertEqual(ids.parse_mxc("mxc://a.org:1/Abc_-1"), ids.MediaUri("a.org:1", "Abc_-1"))
        self.assertEqual(str(ids.MediaUri("a.org", "x")), "mxc://a.org/x")
        for value in (
            "mxc://a.org",
            "mxc://a.org/",
            "mxc:///x",
            "http://a.org/x",
            "mxc://a.org/x/y",
            "mxc://a.org/../x",
            None,
        ):
            self.assertRaises(MatrixError, ids.parse_mxc, value)

    def test_opaque_and_namespaced_ids_and_room_versions(self) -> None:
        self.assertTrue(ids.is_opaque_id("aZ0-._~"))
        self.assertFalse(ids.is_opaque_id("") or ids.is_opaque_id("a b") or ids.is_opaque_id("a" * 256))
        self.assertTrue(ids.is_namespaced_id("org.example.x_y-1"))
        self.assertFalse(ids.is_namespaced_id("1a") or ids.is_namespaced_id("A") or ids.is_namespaced_id(""))
        self.assertTrue(ids.is_room_version_id("org.matrix.msc1234"))
        self.assertFalse(ids.is_room_version_id("") or ids.is_room_version_id("A") or ids.is_room_version_id("a" * 33))

    def test_the_server_of_an_id(self) -> None:
        self.assertEqual(ids.server_of("@a:b.org:80"), "b.org:80")
        self.assertEqual(ids.server_of(f"!{HASH}"), "")

    @settings(deadline=None)
    @given(st.text(max_size=300))
    def test_any_text_is_judged_without_an_error(self, text: str) -> None:
        for judge in (ids.is_user_id, ids.is_room_id, ids.is_event_id, ids.is_room_alias, ids.is_server_name):
            self.assertIn(judge(text), (True, False))
