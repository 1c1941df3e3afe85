# SPDX-License-Identifier: Apache-2.0
"""Values in query strings."""

from twisted.trial.unittest import TestCase

from homeserver.http.query import Query
from homeserver.protocol.errors import MatrixError


class Values(TestCase):
    def test_values_are_decoded(self) -> None:
        query = Query.parse(b"a=1&b=%C3%A9+x&a=2&c")
        self.assertEqual((query.get("a"), query.all("a"), query.get("b"), query.get("c")), ("2", ["1", "2"], "é x", ""))
        self.assertIsNone(query.get("d"))

    def test_what_is_not_utf_8_is_refused(self) -> None:
        self.assertEqual(self.assertRaises(MatrixError, Query.parse, b"a=%ff").errcode, "M_INVALID_PARAM")

    def test_numbers_are_checked(self) -> None:
        query = Query.parse(b"a=12&b=x&c=-3&d=1.5&e=99999999999999999999&f=")
        self.assertEqual(query.int("a", 5), 12)
        self.assertEqual(query.int("a", 5, most=10), 10)
        self.assertEqual(query.int("none", 5), 5)
        self.assertEqual(query.int("c", 5, least=None), -3)
        for name in "bcdef":
            self.assertRaises(MatrixError, query.int, name, 5)

    def test_flags_are_true_or_false(self) -> None:
        query = Query.parse(b"a=true&b=false&c=1")
        self.assertEqual((query.flag("a"), query.flag("b", True), query.flag("d", True)), (True, False, True))
        self.assertRaises(MatrixError, query.flag, "c")
