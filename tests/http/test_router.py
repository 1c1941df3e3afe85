# SPDX-License-Identifier: Apache-2.0
"""Which endpoint answers which method and path."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from homeserver.http.endpoint import Anyone, Call, bind, endpoint
from homeserver.http.router import Router
from homeserver.protocol.errors import MatrixError


class Page:
    @endpoint("GET", "/")
    async def root(self, caller: Anyone) -> dict[str, object]:
        return {}

    @endpoint("PUT", "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}")
    async def send(self, caller: Anyone, call: Call, body: dict[str, object]) -> dict[str, object]:
        return {}

    @endpoint("GET", "/_matrix/client/v3/profile/{userId}/displayname")
    async def display_name(self, caller: Anyone) -> dict[str, object]:
        return {}

    @endpoint("PUT", "/_matrix/client/v3/profile/{userId}/{keyName}")
    async def set_field(self, caller: Anyone) -> dict[str, object]:
        return {}

    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/state/{eventType}")
    @endpoint("GET", "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}")
    async def state(self, caller: Anyone) -> dict[str, object]:
        return {}

    @endpoint("POST", "/_matrix/media/v1/create", also=["/_matrix/client/unstable/org.example/create"])
    async def create(self, caller: Anyone) -> dict[str, object]:
        return {}

    @endpoint("GET", "/files/{path*}")
    async def files(self, caller: Anyone) -> dict[str, object]:
        return {}


class Matching(TestCase):
    def setUp(self) -> None:
        self.router = Router([Page()])

    def match(self, method: str, path: str) -> tuple[str, dict[str, str]]:
        bound, params = self.router.match(method, path)
        return bound.name.partition(".")[2], params

    def refused(self, method: str, path: str) -> tuple[int, str]:
        error = self.assertRaises(MatrixError, self.router.match, method, path)
        return error.status, error.errcode

    def test_variables_are_decoded_after_the_path_is_split(self) -> None:
        found = self.match("PUT", "/_matrix/client/v3/rooms/%21a%2Fb%3Ac/send/m.room.message/t%201")
        self.assertEqual(found, ("send", {"roomId": "!a/b:c", "eventType": "m.room.message", "txnId": "t 1"}))

    def test_the_older_names_of_the_client_and_media_apis_answer_too(self) -> None:
        self.assertEqual(self.match("PUT", "/_matrix/client/r0/rooms/!a/send/t/1")[0], "send")
        for version in ("r0", "v1", "v3"):
            self.assertEqual(self.match("POST", f"/_matrix/media/{version}/create")[0], "create")

    def test_further_paths_answer(self) -> None:
        self.assertEqual(self.match("POST", "/_matrix/client/unstable/org.example/create")[0], "create")

    def test_a_slash_at_the_end_does_not_count(self) -> None:
        self.assertEqual(
            self.match("GET", "/_matrix/client/v3/rooms/!a/state/m.room.name/"),
            ("state", {"roomId": "!a", "eventType": "m.room.name"}),
        )
        self.assertEqual(self.match("GET", "/")[0], "root")

    def test_a_literal_segment_is_taken_before_a_variable(self) -> None:
        self.assertEqual(self.match("GET", "/_matrix/client/v3/profile/@a:b/displayname")[0], "display_name")

    def test_a_variable_is_tried_when_the_literal_lacks_the_method(self) -> None:
        found = self.match("PUT", "/_matrix/client/v3/profile/@a:b/displayname")
        self.assertEqual(found, ("set_field", {"userId": "@a:b", "keyName": "displayname"}))

    def test_an_unknown_path_is_404_and_a_wrong_method_405(self) -> None:
        self.assertEqual(self.refused("GET", "/_matrix/client/v3/nothing"), (404, "M_UNRECOGNIZED"))
        self.assertEqual(self.refused("GET", "/_matrix/client/v3/rooms/!a/send/t"), (404, "M_UNRECOGNIZED"))
        self.assertEqual(self.refused("POST", "/_matrix/client/v3/rooms/!a/send/t/1"), (405, "M_UNRECOGNIZED"))
        self.assertEqual(self.refused("GET", "*"), (404, "M_UNRECOGNIZED"))

    def test_an_empty_variable_does_not_match(self) -> None:
        self.assertEqual(self.refused("PUT", "/_matrix/client/v3/rooms//send/t/1"), (404, "M_UNRECOGNIZED"))

    def test_a_path_that_is_not_utf_8_is_refused(self) -> None:
        self.assertEqual(self.refused("GET", "/_matrix/client/v3/rooms/%ff/state/x"), (400, "M_INVALID_PARAM"))

    def test_head_is_answered_where_get_is(self) -> None:
        self.assertEqual(self.match("HEAD", "/")[0], "root")

    def test_the_rest_of_a_path_may_be_one_variable(self) -> None:
        self.assertEqual(self.match("GET", "/files/a/b.js"), ("files", {"path": "a/b.js"}))

    def test_two_endpoints_cannot_have_one_path(self) -> None:
        self.assertRaises(TypeError, Router, [Page(), Page()])

    @given(st.text(), st.sampled_from(["GET", "PUT", "BREW"]))
    def test_any_path_is_matched_or_refused(self, path: str, method: str) -> None:
        try:
            self.router.match(method, path)
        except MatrixError as error:
            self.assertIn(error.status, (400, 404, 405))


class Declaring(TestCase):
    def test_an_endpoint_must_say_who_may_call(self) -> None:
        class Careless:
            @endpoint("GET", "/x")
            async def x(self, call: Call) -> dict[str, object]:
                return {}

        self.assertRaises(TypeError, bind, Careless())
